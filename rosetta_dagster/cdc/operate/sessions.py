"""Opens sessions for a user's own statements, in autocommit mode. A source's errors are the driver's own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import psycopg

from rosetta_dagster.cdc.config.pipeline import PostgresConnection

PostgresSession: TypeAlias = "psycopg.Connection[Any]"


class SnowflakeSession(Protocol):
    """A session at Snowflake."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows. A `?` stands for a parameter if there are any."""


@contextmanager
def source_session(source: PostgresConnection) -> Iterator[PostgresSession]:
    """Open a session at a source. It is closed with the block."""
    with psycopg.connect(source.conninfo(application_name="rosetta"), autocommit=True) as connection:
        yield connection
