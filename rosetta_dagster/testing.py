"""For tests of code that uses Rosetta: whether a replica equals its source."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.table_id import TableId


class Digest(NamedTuple):
    """A table's contents in two figures; equal digests mean equal rows, types and order of columns apart."""

    row_count: int
    md5: str


def digest(connection: "psycopg.Connection[Any]", table: TableId) -> Digest:
    """The digest of a table. Rows are compared by their text form, whatever order they come in."""
    columns = connection.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))"
        " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attname",
        table,
    ).fetchall()
    names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns)
    query = sql.SQL(
        "SELECT count(*), COALESCE(md5(string_agg(md5(ROW({names})::text), '' ORDER BY md5(ROW({names})::text))), '')"
        " FROM {table}"
    ).format(names=names, table=sql.Identifier(*table))
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate returns one row"
    return Digest(*row)


def are_same_at_snowflake(rows: Sequence[tuple[Any, ...]], replica: Sequence[tuple[Any, ...]]) -> bool:
    """Whether rows that psycopg has read, and rows that Snowflake's connector has read, are the same, in the same order."""
    return len(rows) == len(replica) and all(map(_is_same, rows, replica))


def _is_same(row: tuple[Any, ...], replica: tuple[Any, ...]) -> bool:
    """A VARIANT is read as its text."""
    return len(row) == len(replica) and all(
        (json.loads(found) if isinstance(value, list | dict) and isinstance(found, str) else found) == value
        for value, found in zip(row, replica, strict=True)
    )
