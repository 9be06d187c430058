"""Decides whether a replica equals its source: row by row, by a digest that PostgreSQL computes on both sides."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql


class ReplicaDiffers(AssertionError):
    """A destination differs from its source, so the measurement is void."""


def verify(source: str, destination: str, contender: str, tables: Sequence[str]) -> None:
    """Raise `ReplicaDiffers` when the rows of a table differ."""
    with psycopg.connect(source) as expecting, psycopg.connect(destination) as holding:
        for table in tables:
            expected, actual = _digest(expecting, table), _digest(holding, table)
            if expected != actual:
                raise ReplicaDiffers(f"{contender}: table {table} is {actual}, at the source it is {expected}")


def _digest(connection: "psycopg.Connection[Any]", table: str) -> tuple[object, ...]:
    """Return the row count and the sum of 64-bit hashes: no order, so no sort of millions of rows."""
    query = sql.SQL("SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} AS t").format(sql.Identifier(table))
    row: tuple[object, ...] | None = connection.execute(query).fetchone()
    assert row is not None, "an aggregate returns one row"
    return row
