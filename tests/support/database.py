"""A database that one test has to itself, and how its tables are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.testing import Digest, digest

SECRET_KEY = "a key that is used by tests only"


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database that one test has to itself."""

    url: str

    @contextmanager
    def connect(self) -> Iterator["psycopg.Connection[Any]"]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            yield connection

    def run(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(query).fetchall()

    @property
    def connection(self) -> PostgresConnection:
        parts: dict[str, Any] = conninfo_to_dict(self.url)
        return PostgresConnection(
            host=parts["host"],
            port=int(parts["port"]),
            database=parts["dbname"],
            username=parts["user"],
            password=SecretStr(parts["password"]),
        )

    @property
    def config(self) -> dict[str, Any]:
        """As `destinations.config` has it."""
        password = self.connection.password
        assert password is not None
        return {**self.connection.model_dump(exclude={"password"}), "password": password.get_secret_value()}


def digest_or_none(connection: "psycopg.Connection[Any]", table: TableId) -> Digest | None:
    """The digest; None while there is no such table."""
    try:
        return digest(connection, table)
    except psycopg.errors.UndefinedTable:
        return None


def digest_of(database: Database, table: str | TableId) -> Digest:
    with database.connect() as reader:
        return digest(reader, TableId.parse(table) if isinstance(table, str) else table)


def current_lsn(source: Database) -> Lsn:
    return Lsn.parse(source.rows("SELECT pg_current_wal_insert_lsn()")[0][0])


def end_connections(database: Database) -> None:
    database.run(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
