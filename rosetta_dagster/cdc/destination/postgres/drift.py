"""Decides how a PostgreSQL destination's table differs from the source's, and which statement ends each difference."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psycopg import sql

from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.destination.base import Drift
from rosetta_dagster.cdc.destination.postgres.catalog import Connection, firing_triggers
from rosetta_dagster.cdc.destination.postgres.sql import add_column, create_table, table
from rosetta_dagster.cdc.table_id import TableId

_COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, atthasdef OR attidentity <> ''
FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
  AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""


class PresentColumn(NamedTuple):
    """A column of a destination table."""

    name: str
    type: str
    not_null: bool
    has_default: bool


def read_drift(connection: Connection, target: TableId, schema: TableSchema) -> Iterator[Drift]:
    """Return the differences of one table. The session's search path has to be empty, so that types are spelled in full."""
    yield from drift_of(target, schema, read_columns(connection, target))
    for trigger in firing_triggers(connection, target):
        statement = sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table(target), sql.Identifier(trigger))
        problem = f"Trigger {trigger} fires on replicated rows and may change them."
        yield _drift(schema, target, problem, statement, breaks=False)


def read_columns(connection: Connection, target: TableId) -> list[PresentColumn]:
    """Return the columns of a table; none when it is missing."""
    rows = connection.execute(_COLUMNS, target).fetchall()
    return [PresentColumn(str(row[0]), str(row[1]), bool(row[2]), bool(row[3])) for row in rows]


def drift_of(target: TableId, schema: TableSchema, present: Sequence[PresentColumn]) -> Iterator[Drift]:
    """Return the differences of one table's columns, in the destination's order."""
    if not present:
        yield _drift(schema, target, f"Table {target} is missing.", create_table(target, schema), breaks=False)
        return
    wanted = {column.name: column for column in schema.columns}
    for column in present:
        if column.name in wanted:
            yield from _column_drift(target, schema, column, wanted[column.name])
        else:
            yield _extra_column(target, schema, column)
    known = {column.name for column in present}
    for missing in (column for column in schema.columns if column.name not in known):
        yield _drift(schema, target, f"Column {missing.name} is missing.", add_column(target, missing), breaks=False)


def _column_drift(target: TableId, schema: TableSchema, present: PresentColumn, wanted: Column) -> Iterator[Drift]:
    if present.type != wanted.type:
        statement = _alter(target, present.name, sql.SQL("TYPE {}").format(sql.SQL(wanted.type)))
        problem = f"Column {present.name} is {present.type}, and {wanted.type} at the source."
        yield _drift(schema, target, problem, statement, breaks=False)
    if present.not_null and not wanted.not_null:
        statement = _alter(target, present.name, sql.SQL("DROP NOT NULL"))
        yield _drift(schema, target, f"Column {present.name} is NOT NULL here only.", statement, breaks=True)


def _extra_column(target: TableId, schema: TableSchema, column: PresentColumn) -> Drift:
    refuses_rows = column.not_null and not column.has_default
    problem = f"Column {column.name} is not at the source{', and is NOT NULL' if refuses_rows else ''}."
    statement = sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(table(target), sql.Identifier(column.name))
    return _drift(schema, target, problem, statement, breaks=refuses_rows)


def _alter(target: TableId, column: str, change: sql.Composable) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ALTER COLUMN {} {}").format(table(target), sql.Identifier(column), change)


def _drift(schema: TableSchema, target: TableId, problem: str, statement: sql.Composed, *, breaks: bool) -> Drift:
    return Drift(table=schema.id, target=str(target), problem=problem, statement=statement.as_string(), breaks=breaks)
