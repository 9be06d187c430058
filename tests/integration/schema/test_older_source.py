"""An older PostgreSQL as the source: copies, all kinds of changes, restarts and the heartbeat, over both engines."""

from collections.abc import Iterator
from itertools import count

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database, current_lsn
from tests.support.items_and_notes import CREATE, TABLES, assert_continues, changes, streaming
from tests.support.pipelines import confirmed_lsn, pipeline, wait_until, wait_until_equal

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def older_server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(version=16) as server:
        yield server


@pytest.fixture
def source(older_server: EmbeddedPostgres) -> Database:
    """Its slots and data go with the server."""
    made = Database(url=older_server.create_database(f"older_{next(_NUMBERS)}"))
    made.run(*CREATE)
    return made


def test_a_source_of_version_16_is_replicated(
    source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    assert [("16",)] == source.rows("SELECT split_part(current_setting('server_version'), '.', 1)")
    monkeypatch.setattr("rosetta_dagster.cdc.source.heartbeat.BEAT_INTERVAL", 0.3)
    source.run("INSERT INTO items SELECT n, 'old' FROM generate_series(1, 500) AS n")
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    source.run("CREATE TABLE unpublished AS SELECT generate_series(1, 1000)")
    written = current_lsn(source)
    wait_until(worker, lambda: confirmed_lsn(source, config) >= written)
    assert worker.stop(20)
    assert worker.wait(0)
    source.run(*changes(3), "TRUNCATE notes", *changes(4))
    assert_continues(config, source, destination)


def test_a_publication_that_a_source_of_version_16_loses_is_a_gap(
    source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    # So long that only the stream's error is noticed: the server ends a stream without its publication.
    monkeypatch.setattr("rosetta_dagster.cdc.run.source_watch.INSPECTION_INTERVAL", 1000)
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    source.run(f"DROP PUBLICATION {config.publication_name}", *changes(3))
    wait_until_equal(worker, source, destination, *TABLES)
    source.run(*changes(4))
    wait_until_equal(worker, source, destination, *TABLES)
    assert worker.stop(20)
    assert worker.wait(0)
