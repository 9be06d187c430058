"""A pipeline of two tables, one with a key and one without, of which one may be alone."""

import threading

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


def same_columns(source: Database, destination: Database, table: TableId) -> bool:
    """Whether the destination has the source's columns with their types; it may have more."""
    query = (
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{table.name}'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    return set(source.rows(query)) <= set(destination.rows(query))


def rows_of(database: Database, columns: list[tuple[str]], table: TableId) -> list[tuple[object, ...]]:
    names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns)
    with database.connect() as connection:
        query = sql.SQL("SELECT {} FROM {} ORDER BY 1, 2").format(names, sql.Identifier(*table))
        return connection.execute(query).fetchall()


def wait_until_same(worker: Worker, source: Database, destination: Database, table: TableId) -> None:
    """Wait until the destination holds the source's rows in the source's columns."""
    columns = source.rows(
        f"SELECT attname::text FROM pg_attribute WHERE attrelid = '{table.name}'::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum"
    )
    expected = rows_of(source, columns, table)
    wait_until(
        worker,
        lambda: same_columns(source, destination, table) and expected == rows_of(destination, columns, table),
    )


def rows(database: Database, table: TableId) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*table))).fetchall()
