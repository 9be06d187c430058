"""For tests of code that uses Rosetta: compares a replica with its source, and replicates into memory."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.destination.memory.database import MemoryDatabase
from rosetta_dagster.cdc.destination.memory.kind import MEMORY
from rosetta_dagster.cdc.destination.registry import register, unregister
from rosetta_dagster.cdc.table_id import TableId

__all__ = ["MEMORY", "Digest", "MemoryDatabase", "are_same_at_snowflake", "digest", "memory_destinations"]


@contextmanager
def memory_destinations() -> Iterator[None]:
    """Let destinations be of the type MEMORY while the block lasts. `MemoryDatabase.named` returns what they wrote."""
    register(MEMORY)
    try:
        yield
    finally:
        unregister(MEMORY)


class Digest(NamedTuple):
    """A table's contents in two figures; equal digests mean equal rows, types and order of columns apart."""

    row_count: int
    md5: str


def digest(connection: "psycopg.Connection[Any]", table: TableId) -> Digest:
    """Return the digest of a table. Rows are compared by their text form, in any order."""
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
    """Return whether rows read by psycopg equal rows read by Snowflake's connector, in the same order."""
    return len(rows) == len(replica) and all(map(_is_same, rows, replica))


def _is_same(row: tuple[Any, ...], replica: tuple[Any, ...]) -> bool:
    """A VARIANT is read as its text."""
    return len(row) == len(replica) and all(
        (json.loads(found) if isinstance(value, list | dict) and isinstance(found, str) else found) == value
        for value, found in zip(row, replica, strict=True)
    )
