"""Makes the publication that a pipeline reads, and adds tables to one that Rosetta made."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.schema import TableId

#: Publications of this prefix are Rosetta's own to change.
OWN_PREFIX = "rosetta_"

_EXISTS = "SELECT puballtables, pubviaroot FROM pg_publication WHERE pubname = %s"

_TABLES = """
SELECT namespace.nspname::text, class.relname::text
FROM pg_publication AS publication
JOIN pg_publication_rel AS member ON member.prpubid = publication.oid
JOIN pg_class AS class ON class.oid = member.prrelid
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE publication.pubname = %s
UNION
SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = %s
"""


def missing_from_publication(
    connection: "psycopg.Connection[Any]", name: str, tables: Sequence[TableId]
) -> list[TableId] | None:
    """The tables that the publication lacks; None when there is no such publication."""
    row = connection.execute(_EXISTS, [name]).fetchone()
    if row is None:
        return None
    published = {TableId(*member) for member in connection.execute(_TABLES, [name, name])}
    return [table for table in tables if table not in published]


def ensure_publication(connection: "psycopg.Connection[Any]", name: str, tables: Sequence[TableId]) -> None:
    """Make the publication when it is missing; add what one of Rosetta's own lacks. Others are not touched."""
    missing = missing_from_publication(connection, name, tables)
    if missing is None:
        connection.execute(create_publication(name, tables))
    elif missing and name.startswith(OWN_PREFIX):
        connection.execute(add_tables(name, missing))


def create_publication(name: str, tables: Sequence[TableId]) -> sql.Composed:
    """A partitioned table is published as itself, not as its partitions."""
    return sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
        sql.Identifier(name), _names(tables)
    )


def add_tables(name: str, tables: Sequence[TableId]) -> sql.Composed:
    return sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), _names(tables))


def _names(tables: Sequence[TableId]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
