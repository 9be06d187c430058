"""The parts that tests share: one real PostgreSQL for the whole session, and databases of it that a test has to itself."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from xdist.scheduler import LoadScopeScheduling

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.destination.snowflake.config import EMULATOR
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from rosetta_dagster.embedded.snowflake import KeyPair, SnowflakeServer
from tests.support.database import SECRET_KEY, Database
from tests.support.servers import named_install, server_for_sources
from tests.support.snowflake_account import USER, SnowflakeAccount, keys_read_once
from tests.support.snowflake_database import SnowflakeDatabase, database_of

_NUMBERS = count(1)

#: A file system in memory, and what all servers of four workers may write there at once.
_MEMORY, _NEEDED_BYTES = Path("/dev/shm"), 4 << 30

_ACCEPTANCE = "tests/acceptance/"
#: Tests that share one Dagster stay on one worker. All of them would take longer than everything else, so there are two.
DAGSTERS = {
    "tests/acceptance/, first Dagster": ("test_pipeline_life", "test_downstream", "test_first_day"),
    "tests/acceptance/, second Dagster": ("test_api_page", "test_screens", "test_planted_secrets", "test_snowflake_demo"),
}
#: What takes longest comes first, so that no worker is left alone with it at the end. The other acceptance tests start
#: parts of their own, and come later so that not all of them start at once.
_LONGEST_FIRST = (*DAGSTERS, "tests/fuzz/", "tests/integration/", _ACCEPTANCE, "tests/contract/", "tests/unit/")


class NewDatabase(Protocol):
    """Makes a database for one test: empty, or a copy of another one."""

    def __call__(self, purpose: str, template: str | None = None) -> Database: ...


def pytest_configure() -> None:
    """Leave nothing of a developer's own PostgreSQL to the tests: libpq reads these where a connection names nothing."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    os.environ[EMULATOR] = "true"
    # Java's second compiler pays off after minutes, which is longer than a test lasts.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    _write_to_memory()


def _write_to_memory() -> None:
    """Put the servers' data into memory where there is room: a database is made there with a tenth of the work."""
    if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _NEEDED_BYTES:
        os.environ["TMPDIR"] = str(_MEMORY)
        # It is remembered from the first use on.
        tempfile.tempdir = None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _rank(_scope_of(item.nodeid)))


def _rank(scope: str) -> int:
    return next((rank for rank, each in enumerate(_LONGEST_FIRST) if scope.startswith(each)), len(_LONGEST_FIRST))


@cache
def _scope_of(nodeid: str) -> str:
    """Return what the test shares servers with: its file, or all tests of a Dagster."""
    file = nodeid.partition("::")[0]
    stems = {f"{_ACCEPTANCE}{stem}.py": scope for scope, group in DAGSTERS.items() for stem in group}
    return stems.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False
    return _SharedServers(config, log)


class _SharedServers(LoadScopeScheduling):  # type: ignore[misc]  # it carries no types
    """Tests that share servers stay on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope_of(nodeid)


@pytest.fixture(params=list(Engine))
def engine(request: pytest.FixtureRequest) -> Engine:
    """A test that takes it runs over every engine."""
    chosen: Engine = request.param
    return chosen


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def snowflake_server() -> Iterator[SnowflakeAccount]:
    """An account in memory, for the whole session."""
    pair = KeyPair.generate()
    # What a test leaves open, the next one need not wait for.
    with keys_read_once(), SnowflakeServer(users={USER: [pair.public_key]}, detached_timeout=2) as server:
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


@pytest.fixture(scope="session")
def sources_server(postgres_server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """The server of the sources: one of its own when the environment names another version."""
    if named_install() is None:
        yield postgres_server
        return
    with server_for_sources() as server:
        yield server


@pytest.fixture
def new_database(postgres_server: EmbeddedPostgres) -> Iterator[NewDatabase]:
    """Makes databases, and removes them after the test with their slots."""
    with _databases_of(postgres_server) as make:
        yield make


@contextmanager
def _databases_of(server: EmbeddedPostgres) -> Iterator[NewDatabase]:
    made: list[str] = []

    def make(purpose: str, template: str | None = None) -> Database:
        name = f"{purpose}_{next(_NUMBERS)}"
        made.append(name)
        return Database(url=server.create_database(name, template=template))

    yield make
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for name in made:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s AND NOT active",
                [name],
            )
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def new_source(sources_server: EmbeddedPostgres) -> Iterator[NewDatabase]:
    """Makes databases on the server of the sources."""
    with _databases_of(sources_server) as make:
        yield make


@pytest.fixture
def source(new_source: NewDatabase) -> Database:
    return new_source("source")


@pytest.fixture
def destination(new_database: NewDatabase) -> Database:
    return new_database("destination")


@pytest.fixture(scope="session")
def migrated(postgres_server: EmbeddedPostgres) -> str:
    """The name of a configuration database to copy: a copy takes a quarter of the work of its migrations."""
    name = "migrated"
    with Store(SecretStr(postgres_server.create_database(name)), SecretStr(SECRET_KEY)) as opened:
        opened.migrate()
    return name


@pytest.fixture
def config_database(request: pytest.FixtureRequest, new_database: NewDatabase) -> Database:
    """The database of the test's store; an empty one for a test that opens its own."""
    is_migrated = "store" in request.fixturenames
    return new_database("config", request.getfixturevalue("migrated") if is_migrated else None)


@pytest.fixture
def store(config_database: Database) -> Iterator[Store]:
    with Store(SecretStr(config_database.url), SecretStr(SECRET_KEY)) as opened:
        opened.migrate()
        yield opened


@pytest.fixture
def snowflake_database(snowflake: SnowflakeAccount) -> Iterator[SnowflakeDatabase]:
    """The database of the account, as a destination."""
    database = database_of(snowflake)
    yield database
    database.session.close()
