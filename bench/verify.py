"""Decides whether a replica equals its source: row by row, by a digest that PostgreSQL computes on both sides."""

import psycopg
from psycopg import sql

from bench.workload import TABLES


class ReplicaDiffers(AssertionError):
    """A contender did not do the work that it was measured at."""


def verify(source: str, destination: str, contender: str) -> None:
    """`ReplicaDiffers` when a table does not hold the same rows."""
    for table in TABLES:
        expected, actual = _digest(source, table), _digest(destination, table)
        if expected != actual:
            raise ReplicaDiffers(f"{contender}: table {table} is {actual}, at the source it is {expected}")


def _digest(url: str, table: str) -> tuple[object, ...]:
    """Count of rows and sum of their 64-bit hashes: it needs no order, so it takes no sort of millions of rows."""
    query = sql.SQL("SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} AS t").format(sql.Identifier(table))
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate returns one row"
    return row
