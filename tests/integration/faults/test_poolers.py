"""Connection poolers before a source, a destination and the configuration database: recognized with the remedy, or served.

Each test runs with a double that answers as PgBouncer does, and with PgBouncer itself where it is installed. Which engine
reads does not matter: a pooler is met before either opens.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.preflight import preflight
from rosetta_dagster.cdc.store.database import Store
from tests.support.database import SECRET_KEY, Database
from tests.support.pgbouncer import PROGRAM, pgbouncer
from tests.support.pipelines import failure, is_streaming, pipeline, replicate, running, wait_until, wait_until_equal
from tests.support.pooler import Pooler

Pooled = Callable[..., AbstractContextManager[Database]]


@contextmanager
def double(database: Database, *, mode: str, ignored: str = "") -> Iterator[Database]:
    with Pooler(database, mode=mode, ignored=frozenset(filter(None, ignored.split(",")))) as made:
        yield made.database


@pytest.fixture(
    params=[
        double,
        pytest.param(pgbouncer, marks=pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")),
    ],
    ids=["double", "pgbouncer"],
)
def pooled(request: pytest.FixtureRequest) -> Pooled:
    made: Pooled = request.param
    return made


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double asks for none."""
    monkeypatch.setenv("PGREQUIREAUTH", "scram-sha-256,none")


@pytest.fixture
def source(source: Database) -> Database:
    source.run("CREATE TABLE items (id int PRIMARY KEY, name text)", "INSERT INTO items VALUES (1, 'one')")
    return source


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_before_the_source_is_refused_before_anything_is_copied(
    source: Database, destination: Database, pooled: Pooled, mode: str
) -> None:
    with pooled(source, mode=mode) as behind:
        config = pipeline(Engine.PGOUTPUT, behind, [destination], "items")
        for attempt in (lambda: preflight(config), lambda: _fail(config)):
            with pytest.raises(ConfigurationError, match="pooler") as caught:
                attempt()
            assert "Set host and port to the PostgreSQL server itself." in caught.value.remedy
    assert [(0,)] == destination.rows("SELECT count(*) FROM pg_class WHERE relname = 'items'")


def test_a_pooler_that_ignores_replication_is_refused_too(source: Database, destination: Database, pooled: Pooled) -> None:
    with pooled(source, mode="session", ignored="replication") as behind, pytest.raises(ConfigurationError) as caught:
        preflight(pipeline(Engine.PGOUTPUT, behind, [destination], "items"))
    assert "does not replicate: a connection pooler" in str(caught.value)


def test_a_destination_behind_a_pooler_in_transaction_mode_is_refused(
    source: Database, destination: Database, pooled: Pooled
) -> None:
    with pooled(destination, mode="transaction") as behind, pytest.raises(ConfigurationError) as caught:
        failure(pipeline(Engine.PGOUTPUT, source, [behind], "items"))
    assert "reached through a connection pooler in transaction or statement mode" in str(caught.value)
    assert "pool_mode = session" in caught.value.remedy


def test_a_destination_behind_a_pooler_in_session_mode_is_served(
    source: Database, destination: Database, pooled: Pooled
) -> None:
    with pooled(destination, mode="session") as behind:
        # What others left in the sessions that the pooler hands out: temporary tables, prepared statements, settings.
        with ExitStack() as others:
            for _ in range(4):
                other = others.enter_context(behind.connect())
                other.execute("CREATE TEMPORARY TABLE rosetta_load AS SELECT generate_series(1, 1000)")
                other.execute("PREPARE _pg3_0 AS SELECT 1")
                other.execute("SET DateStyle = 'SQL, DMY'")
        config = pipeline(Engine.PGOUTPUT, source, [behind], "items")
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run(
                "INSERT INTO items SELECT n, n::text FROM generate_series(10, 3000) AS n", "DELETE FROM items WHERE id = 1"
            )
            wait_until_equal(worker, source, destination, "items")
        source.run("UPDATE items SET name = 'again' WHERE id = 10")
        replicate(config, source, destination)


def test_the_configuration_database_behind_a_pooler_in_transaction_mode_is_refused(
    config_database: Database, pooled: Pooled
) -> None:
    with (
        pooled(config_database, mode="transaction") as behind,
        Store(SecretStr(behind.url), SecretStr(SECRET_KEY)) as store,
        pytest.raises(ConfigurationError) as caught,
    ):
        store.migrate()
    assert "The configuration database is reached through a connection pooler in transaction" in str(caught.value)


def test_the_configuration_database_behind_a_pooler_in_session_mode_is_served(
    config_database: Database, pooled: Pooled
) -> None:
    with pooled(config_database, mode="session") as behind, Store(SecretStr(behind.url), SecretStr(SECRET_KEY)) as store:
        store.migrate()
        assert [] == store.states()


def _fail(config: PipelineConfig) -> None:
    failure(config)
