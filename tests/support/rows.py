"""Rows of the configuration database, as an operator would write them."""

from collections.abc import Callable
from typing import Any

from rosetta_dagster.cdc.config.pipeline import Health, Status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    put_destination,
    put_pipeline,
    put_source,
)
from rosetta_dagster.cdc.store.records import PipelineState, RunStatus
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database


def add_pipeline(store: Store, name: str, source: Database, destination: Database, *tables: str) -> None:
    put_source(store, DeclaredSource(name=f"{name}_db", connection=source.connection))
    put_destination(store, DeclaredDestination(name=f"{name}_dw", type="POSTGRES", config=destination.config))
    ids = tuple(map(TableId.parse, tables))
    put_pipeline(store, DeclaredPipeline(name=name, source=f"{name}_db", destinations=(f"{name}_dw",), tables=ids))


def state_of(**changes: Any) -> PipelineState:
    values: dict[str, Any] = {
        "id": 1, "name": "shop", "source": "shop", "destinations": (), "table_count": 1, "table_errors": (),
        "status": Status.START,
        "run_status": "STREAMING", "health": Health.HEALTHY, "wal_size": None, "lag_bytes": None, "lag_seconds": None,
        "last_success_time": None, "last_error": None, "failure_count": 0, "rows_copied": 0, "rows_applied": 0,
        "run_id": None, "heartbeat_age": 1.0, "is_due": True,
    }  # fmt: skip
    values |= changes
    return PipelineState(**{**values, "run_status": RunStatus(values["run_status"])})


Add = Callable[..., int]


def metadata(database: Database, columns: str) -> tuple[Any, ...]:
    (row,) = database.rows(f"SELECT {columns} FROM pipeline_metadata")
    return row
