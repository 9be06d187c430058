"""A pipeline of two tables, one with a key and one without, of which one may be alone."""

import threading
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableConfig, TableState
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import wait_until
from tests.support.waiting import TIMEOUT

ORDERS, NOTES = TableId("public", "orders"), TableId("public", "notes")


def table_state(worker: Worker, table: TableId) -> TableState | None:
    return worker.report().states.get(table, (None, None))[0]


def forget(config: PipelineConfig, *tables: TableId) -> None:
    make_destination(config.destinations[0], config).forget(list(tables))


def held_up(released: threading.Event) -> None:
    assert released.wait(TIMEOUT)


def with_tables(config: PipelineConfig, *tables: TableId) -> PipelineConfig:
    return config.model_copy(update={"tables": tuple(TableConfig(id=table) for table in tables)})


def columns_of(connection: "psycopg.Connection[Any]", table: TableId) -> list[tuple[str, str]]:
    """The names and types of the table's columns in order."""
    return connection.execute(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [table.name],
    ).fetchall()


def rows_of(connection: "psycopg.Connection[Any]", names: Iterable[str], table: TableId) -> list[tuple[object, ...]]:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    query = sql.SQL("SELECT {} FROM {} ORDER BY 1, 2").format(columns, sql.Identifier(*table))
    return connection.execute(query).fetchall()


def wait_until_same(worker: Worker, source: Database, destination: Database, table: TableId) -> None:
    """Wait until the destination holds the source's rows in the source's columns. It may have more columns."""
    with source.connect() as reader:
        columns = columns_of(reader, table)
        names = [name for name, _ in columns]
        expected = rows_of(reader, names, table)
    with destination.connect() as reader:
        wait_until(
            worker,
            lambda: set(columns) <= set(columns_of(reader, table)) and expected == rows_of(reader, names, table),
        )


def rows(database: Database, table: TableId) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*table))).fetchall()
