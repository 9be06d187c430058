"""For tests of code that uses Rosetta: its definitions without a database, replicas in memory, and comparisons."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import dagster as dg
import psycopg
from psycopg import sql

from rosetta_dagster.cdc.destination.memory.database import MemoryDatabase
from rosetta_dagster.cdc.destination.memory.kind import MEMORY
from rosetta_dagster.cdc.destination.registry import register, unregister
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.declarations import Pipeline, refuse_contradictions
from rosetta_dagster.orchestration.location import Location
from rosetta_dagster.orchestration.shapes import with_declared
from rosetta_dagster.orchestration.translator import RosettaTranslator
from rosetta_dagster.settings import Settings

__all__ = ["MEMORY", "Digest", "MemoryDatabase", "are_same_at_snowflake", "definitions", "digest", "memory_destinations"]


def definitions(
    pipelines: Sequence[Pipeline], translator: RosettaTranslator | None = None, *, source_assets: bool = True
) -> dg.Definitions:
    """Return what `rosetta_definitions` returns for these pipelines, without a configuration database or an environment."""
    refuse_contradictions(pipelines)
    location = Location(pipelines=pipelines, include=(), source_assets=source_assets, apply=False)
    return build(with_declared([], pipelines), Settings.model_construct(), translator=translator, location=location)


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
