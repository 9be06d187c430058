"""Servers that refuse to write: a setting is overridden, a standby is refused with the remedy, a failover is waited for."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.errors import ConfigurationError, DestinationRejected, PreflightFailed
from rosetta_dagster.cdc.postgres import connections
from rosetta_dagster.cdc.run import run
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.store import session as store_session
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import SECRET_KEY, Database
from tests.support.pipelines import failure, pipeline, replicate


@pytest.fixture
def source(source: Database) -> Database:
    source.run("CREATE TABLE items (id int PRIMARY KEY, name text)", "INSERT INTO items VALUES (1, 'one')")
    return source


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """One that a test may turn into a standby."""
    with EmbeddedPostgres() as made:
        yield made


def become_standby(server: EmbeddedPostgres) -> None:
    """Restart the server as a standby of nobody: it recovers for ever."""
    server.stop(keep_data=True)
    signal = Path(server._data) / "standby.signal"
    signal.touch()
    os.chown(signal, server._data.stat().st_uid, server._data.stat().st_gid)
    server.start()


def promote(database: Database) -> None:
    database.run("SELECT pg_promote()")


@pytest.mark.parametrize("scope", ["database", "role"])
def test_a_default_of_read_only_is_overridden(source: Database, server: EmbeddedPostgres, scope: str) -> None:
    destination = Database(url=server.create_database("shop"))
    name = "DATABASE shop" if scope == "database" else "ROLE postgres"
    destination.run(f"ALTER {name} SET default_transaction_read_only = on")
    source.run(f"ALTER DATABASE {source.connection.database} SET default_transaction_read_only = on")
    replicate(pipeline(Engine.PGOUTPUT, source, [destination], "items"), source, destination)


def test_a_standby_as_a_destination_is_refused_with_the_remedy(
    source: Database, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PROMOTION_PATIENCE", 1.0)
    destination = Database(url=server.create_database("shop"))
    become_standby(server)
    with pytest.raises(DestinationRejected) as caught:
        failure(pipeline(Engine.PGOUTPUT, source, [destination], "items"))
    assert "is a standby, which cannot be written to" in str(caught.value)
    assert "Set host and port to the primary" in caught.value.remedy


def test_a_destination_that_is_being_promoted_is_waited_for(source: Database, server: EmbeddedPostgres) -> None:
    destination = Database(url=server.create_database("shop"))
    become_standby(server)
    promotion = threading.Timer(2.0, promote, [destination])
    promotion.start()
    replicate(pipeline(Engine.PGOUTPUT, source, [destination], "items"), source, destination)
    promotion.join()


def test_a_run_that_waits_for_a_promotion_can_be_stopped(
    source: Database, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STOP_PATIENCE", 1.0)
    destination = Database(url=server.create_database("shop"))
    become_standby(server)
    worker = Worker(pipeline(Engine.PGOUTPUT, source, [destination], "items"))
    worker.start()
    time.sleep(2)
    assert worker.stop(10)


def test_a_standby_as_the_configuration_database_is_refused_with_the_remedy(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_session, "PROMOTION_PATIENCE", 1.0)
    database = Database(url=server.create_database("config"))
    become_standby(server)
    with Store(SecretStr(database.url), SecretStr(SECRET_KEY)) as store, pytest.raises(ConfigurationError) as caught:
        store.migrate()
    assert "The configuration database is a standby" in str(caught.value)


def test_a_standby_as_the_source_is_identified_by_what_it_refuses(
    destination: Database, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Database(url=server.create_database("shop"))
    source.run("CREATE TABLE items (id int PRIMARY KEY)")
    become_standby(server)
    config = pipeline(Engine.PGOUTPUT, source, [destination], "items")
    with pytest.raises(PreflightFailed, match="The source is a standby") as caught:
        failure(config)
    assert "Point the source at the primary." in str(caught.value)
