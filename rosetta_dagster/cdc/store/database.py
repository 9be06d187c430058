"""The configuration database as its users know it: definitions, states, requests, reports, and the lease of a run."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg.rows import dict_row

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.discovery import Discovery
from rosetta_dagster.cdc.config.pipeline import Health, Status, TableState
from rosetta_dagster.cdc.config.slot_policy import SlotAction
from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.errors import PipelineNotFound
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.definitions import Definitions
from rosetta_dagster.cdc.store.lease import Lease
from rosetta_dagster.cdc.store.migrate import migrate, read_migrations
from rosetta_dagster.cdc.store.patterns import put_discovery
from rosetta_dagster.cdc.store.records import (
    DestinationShape,
    PipelineShape,
    PipelineState,
    RunStatus,
    SkippedTable,
    SourceShape,
    TableRecord,
    TableShape,
    Wanted,
)
from rosetta_dagster.cdc.store.run_reports import RunReports
from rosetta_dagster.cdc.store.session import not_found
from rosetta_dagster.cdc.table_id import TableId


class Store(Definitions, RunReports):
    """The configuration database, over one connection."""

    def __repr__(self) -> str:
        return "Store()"

    def migrate(self, *, seed: bool = False) -> tuple[str, ...]:
        """Apply the missing migrations, and note the types of destinations. Return the names of what was applied."""
        types = {kind.type for kind in kinds()}
        with self.connected() as connection:
            applied = migrate(connection, read_migrations(), seed=seed)
            if missing := types - {name for (name,) in connection.execute(queries.DESTINATION_TYPES)}:
                connection.execute(queries.ADD_DESTINATION_TYPES, [sorted(missing)])
        return applied

    def shapes(self) -> list[PipelineShape]:
        """Return every pipeline as Dagster shows it, by name."""
        return [_shape(row) for row in self._rows(queries.SHAPES, {"name": None, "shown": _shown_names()})]

    def shape(self, name: str) -> PipelineShape:
        """Return a pipeline as Dagster shows it. `PipelineNotFound` when none has that name."""
        rows = self._rows(queries.SHAPES, {"name": name, "shown": _shown_names()})
        if not rows:
            raise not_found("pipeline", name)
        return _shape(rows[0])

    def states(self) -> list[PipelineState]:
        """Return the state of every pipeline, by name."""
        return self._states(None)

    def state(self, name: str) -> PipelineState:
        """Return the state of a pipeline. `PipelineNotFound` when none has that name."""
        found = self._states(name)
        if not found:
            raise not_found("pipeline", name)
        return found[0]

    def tables(self, name: str) -> list[TableRecord]:
        """Return the state of each table of a pipeline."""
        return [
            TableRecord(
                id=TableId(row[0], row[1]),
                state=TableState(row[2]),
                error=row[3],
                rows_copied=row[4],
                rows_applied=row[5],
                last_change_time=row[6],
                resync=row[7],
                data_version=row[8],
            )
            for row in self._rows(queries.TABLES, [name])
        ]

    def skipped_tables(self, name: str) -> list[SkippedTable]:
        """Return the tables that match a pattern of the pipeline and are not replicated."""
        return [SkippedTable(id=TableId(*row[:2]), reason=row[2]) for row in self._rows(queries.SKIPPED_TABLES, [name])]

    def put_discovery(self, pipeline_id: int, discovery: Discovery) -> None:
        """Write the rows that the patterns give the pipeline now, and the tables that were skipped."""
        with self.connected() as connection, connection.transaction():
            put_discovery(connection, pipeline_id, discovery)

    def ask_resync(self, name: str, table: TableId) -> None:
        """Ask for a new copy of the table. `PipelineNotFound` when the pipeline has no such table."""
        if not self._execute(queries.ASK_RESYNC, [name, *table]):
            raise PipelineNotFound(f"There is no pipeline {name} with a table {table}.", "Look it up in pipeline_tables.")

    def pause_table(self, name: str, table: TableId, *, paused: bool) -> None:
        """Pause or resume the table. `PipelineNotFound` when the pipeline has no such table."""
        if not self._execute(queries.PAUSE_TABLE, [paused, name, *table]):
            raise PipelineNotFound(f"There is no pipeline {name} with a table {table}.", "Look it up in pipeline_tables.")

    def resync_begun(self, pipeline_id: int, table: TableId) -> None:
        """Record that the copy of the table begins, which ends the request for it."""
        self._execute(queries.RESYNC_BEGUN, [pipeline_id, *table])

    def status(self, name: str) -> Status | None:
        """Return the wanted status of a pipeline; None when none has that name."""
        rows = self._rows(queries.STATUS, [name])
        return Status(rows[0][0]) if rows else None

    def wanted(self, pipeline_id: int) -> Wanted | None:
        """Return what the rows of a pipeline ask of its run; None when the pipeline was deleted."""
        rows = self._rows(queries.WANTED, [pipeline_id])
        return Wanted(Status(rows[0][0]), *rows[0][1:]) if rows else None

    def request_inspection(self, name: str) -> int:
        """Ask the run to compare the source's catalog. Return the number of the request."""
        rows = self._rows(queries.REQUEST_INSPECTION, [name])
        if not rows:
            raise not_found("pipeline", name)
        number: int = rows[0][0]
        return number

    def set_status(self, name: str, status: Status, *, only_from: Status | None = None) -> bool:
        """Set the wanted status. With `only_from`, only if that is the status now. Return whether a row was changed."""
        changed = self._execute(queries.SET_STATUS, {"name": name, "status": status, "only_from": only_from})
        if not changed and only_from is None:
            raise not_found("pipeline", name)
        return bool(changed)

    @contextmanager
    def lease(self, pipeline_id: int) -> Iterator[Lease]:
        """Hold the right to run the pipeline while the block lasts. `LeaseHeld` when another run has it."""
        lease = Lease(self._connect, pipeline_id)
        try:
            lease.check()
            yield lease
        finally:
            lease.release()

    def thresholds(self, name: str) -> dict[str, Any]:
        """Return the thresholds that the row of a pipeline names."""
        rows = self._rows(queries.THRESHOLDS, [name])
        return dict(rows[0][0]) if rows else {}

    def _states(self, name: str | None) -> list[PipelineState]:
        with self.connected() as connection:
            rows = connection.cursor(row_factory=dict_row).execute(queries.STATES, {"name": name}).fetchall()
        return [_state(row) for row in rows]


def _shape(row: Sequence[Any]) -> PipelineShape:
    name, engine, source, host, port, database, username, destinations, tables = row
    return PipelineShape(
        name=name,
        engine=Engine(engine),
        source=SourceShape(name=source, host=host, port=port, database=database, username=username),
        destinations=tuple(_destination_shape(*destination) for destination in destinations),
        tables=tuple(
            TableShape(id=TableId(t[0], t[1]), target_namespace=t[2], target_name=t[3], is_by_pattern=t[4] is not None)
            for t in tables
        ),
    )


def _destination_shape(name: str, type_name: str, shown: str | None) -> DestinationShape:
    connection = {key: value for key, value in json.loads(shown or "{}").items() if value is not None}
    namespace = connection.pop("schema", None)
    # A row that is wrong ends the run of its own pipeline; the others are defined meanwhile.
    schema = namespace if isinstance(namespace, str) else None
    return DestinationShape(name=name, type=type_name, namespace=schema, connection=connection)


def _shown_names() -> list[str]:
    """Return the settings of destinations that may leave the database undecrypted."""
    return ["schema", *dict.fromkeys(name for kind in kinds() for name in kind.shown_names)]


def _state(row: dict[str, Any]) -> PipelineState:
    return PipelineState(
        **{
            **row,
            "destinations": tuple(row["destinations"]),
            "table_errors": tuple(row["table_errors"]),
            "status": Status(row["status"]),
            "run_status": RunStatus(row["run_status"]),
            "health": Health(row["health"]),
            "slot_action": None if row["slot_action"] is None else SlotAction(row["slot_action"]),
        }
    )
