"""Decides whether a table can begin with some of its rows, or with none, and whether its condition is one."""

from collections.abc import Iterator, Mapping

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem
from rosetta_dagster.cdc.table_id import TableId

#: What the server raises for a condition that it does not accept.
_OF_CONDITIONS = (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError)


def about_beginnings(
    connection: "psycopg.Connection[tuple[object, ...]]",
    partly_copied: Mapping[TableId, str],
    schemas: Mapping[TableId, TableSchema],
) -> Iterator[Finding]:
    """Yield what keeps tables from being copied in part. No row is read."""
    for table, condition in sorted(partly_copied.items()):
        schema = schemas.get(table)
        if schema is not None and schema.is_partitioned:
            yield problem(
                Check.COPY,
                f"Table {table} is partitioned, so it cannot begin with some of its rows, or with none: partitions that are "
                "attached or dropped are copied as they are.",
                "Remove initial and copy_where of the table.",
                table,
            )
        elif schema is not None and (error := condition_error(connection, table, condition)) is not None:
            yield problem(
                Check.COPY,
                f"PostgreSQL does not accept the condition in copy_where of table {table}: {error}.",
                "Correct it: one condition over columns of the table.",
                table,
            )


def condition_error(connection: "psycopg.Connection[tuple[object, ...]]", table: TableId, condition: str) -> str | None:
    """Return what the server says of the condition; None when it is one condition that it accepts."""
    for statement in trials(table, condition):
        try:
            # One statement only, whatever the condition is: the extended protocol takes no other.
            connection.execute(statement, binary=True)
        except _OF_CONDITIONS as error:
            return (error.diag.message_primary or str(error)).rstrip(".")
    return None


def trials(table: TableId, condition: str) -> list[sql.Composed]:
    """Return statements that plan a query with the condition in two places.

    A text that closes its brackets fits one of them only, so what fits both is one condition.
    """
    own = sql.SQL(condition)
    relation = sql.Identifier(*table)
    return [
        sql.SQL("EXPLAIN SELECT 1 FROM ONLY ") + relation + sql.SQL(" WHERE (\n") + own + sql.SQL("\n)"),
        sql.SQL("EXPLAIN SELECT CASE WHEN\n") + own + sql.SQL("\nTHEN 1 END FROM ONLY ") + relation,
    ]
