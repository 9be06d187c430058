"""The parts that tests share: one real PostgreSQL for the whole session, and databases of it that a test has to itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
<<<<<<< HEAD
from dataclasses import dataclass
from functools import cached_property
=======
from dataclasses import dataclass, replace
>>>>>>> snowflake-server
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from rosetta_dagster.cdc.config import PostgresConnection
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.connection import connect as connect_to_snowflake
from rosetta_dagster.cdc.destination.snowflake.keys import KeyPair, generate_key, key_of
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
<<<<<<< HEAD
from rosetta_dagster.embedded.snowflake import SnowflakeServer
=======
from rosetta_dagster.embedded.snowflake import KeyPair, SnowflakeServer
from tests.snowflake_account import USER, SnowflakeAccount
>>>>>>> snowflake-server

SECRET_KEY = "a key that is used by tests only"

_NUMBERS = count(1)


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def snowflake_server() -> Iterator[SnowflakeAccount]:
    """An account in memory, for the whole session."""
    pair = KeyPair.generate()
    # What a test leaves open, the next one need not wait for.
    with SnowflakeServer(users={USER: [pair.public_key]}, detached_timeout=2) as server:
        yield SnowflakeAccount(server=server, key_pair=pair)


@pytest.fixture
def snowflake(snowflake_server: SnowflakeAccount) -> Iterator[SnowflakeAccount]:
    """The account with a database that one test has to itself, and no fault that an earlier one left."""
    name = f"TEST_{next(_NUMBERS)}"
    snowflake_server.run(f"CREATE DATABASE {name}")
    yield replace(snowflake_server, database=name)
    snowflake_server.server.clear_faults()
    snowflake_server.server.abort_transactions()
    snowflake_server.run(f"DROP DATABASE {name}")


@pytest.fixture
def new_database(postgres_server: EmbeddedPostgres) -> Iterator[Callable[[str], Database]]:
    """Makes databases, and removes them after the test with their slots."""
    made: list[str] = []

    def make(purpose: str) -> Database:
        name = f"{purpose}_{next(_NUMBERS)}"
        made.append(name)
        return Database(url=postgres_server.create_database(name))

    yield make
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        for name in made:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s AND NOT active",
                [name],
            )
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def source(new_database: Callable[[str], Database]) -> Database:
    return new_database("source")


@pytest.fixture
def destination(new_database: Callable[[str], Database]) -> Database:
    return new_database("destination")


@pytest.fixture
def config_database(new_database: Callable[[str], Database]) -> Database:
    return new_database("config")


@pytest.fixture
def store(config_database: Database) -> Iterator[Store]:
    with Store(SecretStr(config_database.url), SecretStr(SECRET_KEY)) as opened:
        opened.migrate()
        yield opened


PASSPHRASE = "a passphrase that is used by tests only"


@dataclass(frozen=True, kw_only=True)
class SnowflakeDatabase:
    """A database of a Snowflake account that one test has to itself."""

    #: As `destinations.config` has it.
    config: dict[str, Any]

    @cached_property
    def session(self) -> Session:
        config = SnowflakeDestinationConfig.model_validate(self.config)
        return connect_to_snowflake(config, key_of(config), who="the test", tag="test")

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.session.execute(statement, parameters)


@pytest.fixture(scope="session")
def snowflake_key() -> KeyPair:
    return generate_key()


@pytest.fixture(scope="session")
def snowflake_server(snowflake_key: KeyPair) -> Iterator[SnowflakeServer]:
    with SnowflakeServer(users={"ROSETTA": [snowflake_key.public_pem]}) as server:
        yield server


@pytest.fixture
def snowflake_database(snowflake_server: SnowflakeServer, snowflake_key: KeyPair) -> Iterator[SnowflakeDatabase]:
    """A database of the emulator."""
    config = {
        **snowflake_server.address,
        "user": "ROSETTA",
        "warehouse": "COMPUTE_WH",
        "private_key": snowflake_key.pem(SecretStr(PASSPHRASE)).decode(),
        "private_key_passphrase": PASSPHRASE,
    }
    common = SnowflakeDatabase(config={**config, "database": "ANALYTICS"})
    name = f"TEST_{next(_NUMBERS)}"
    common.rows(f"CREATE DATABASE {name}")
    common.session.close()
    database = SnowflakeDatabase(config={**config, "database": name})
    yield database
    database.session.close()
    snowflake_server.clear_faults()
