"""Owns the connection with the configuration database, and opens the box of its secrets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString, Self, TypeAlias

import psycopg
from psycopg.sql import Composed
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import PipelineNotFound
from rosetta_dagster.cdc.postgres.connections import open_session
from rosetta_dagster.cdc.postgres.errors import translated
from rosetta_dagster.cdc.store.connection import PROMOTION_PATIENCE, TRANSLATION, conninfo
from rosetta_dagster.cdc.store.keys import open_box
from rosetta_dagster.cdc.store.secrets import SecretBox

#: What psycopg can execute: a text of the code, or one composed from such texts and quoted names.
Query: TypeAlias = LiteralString | Composed


class StoreSession:
    """One connection, opened at first use and again after it broke, until `close`.

    Threads may share it; their statements take turns.
    """

    def __init__(
        self, database_url: SecretStr, secret_key: SecretStr | None = None, secret_key_old: SecretStr | None = None
    ) -> None:
        self._database_url = database_url
        self._secret_key = secret_key
        self._secret_key_old = secret_key_old
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def secret_box(self) -> SecretBox:
        """Return the box that encrypts secrets. Raise when SECRET_KEY is not set, is weak, or is another one than before."""
        with self.connected() as connection:
            return open_box(connection, self._secret_key, self._secret_key_old)

    @contextmanager
    def connected(self) -> Iterator["psycopg.Connection[Any]"]:
        """Lend the connection while the block lasts. psycopg's errors in the block are translated."""
        with self._lock, translated(TRANSLATION):
            if self._connection is None or self._connection.broken:
                self._connection = self._connect()
            yield self._connection

    def _rows(self, query: Query, parameters: Any = None) -> list[Any]:
        with self.connected() as connection:
            return connection.execute(query, parameters).fetchall()

    def _execute(self, query: Query, parameters: Any) -> int:
        with self.connected() as connection:
            return connection.execute(query, parameters).rowcount

    def _connect(self) -> "psycopg.Connection[Any]":
        return open_session(conninfo(self._database_url), TRANSLATION, promotion_patience=PROMOTION_PATIENCE)


def not_found(kind: str, name: str) -> PipelineNotFound:
    return PipelineNotFound(f"There is no {kind} {name}.", "Look up the names in the configuration database.")
