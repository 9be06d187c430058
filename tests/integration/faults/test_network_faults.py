"""A network that goes silent: no byte comes and no connection ends. It is noticed, and never taken for an idle server."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config import pipeline as config_module
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.destination.postgres import direct as direct_module
from rosetta_dagster.cdc.errors import (
    DestinationUnavailable,
    SourceUnavailable,
    StoreUnavailable,
    StreamStalled,
    TransientError,
)
from rosetta_dagster.cdc.postgres import watched_connection
from rosetta_dagster.cdc.run import supervision
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source import heartbeat
from rosetta_dagster.cdc.source.debezium import properties
from rosetta_dagster.cdc.source.pgoutput import walsender
from rosetta_dagster.cdc.store.database import Store
from tests.support.database import SECRET_KEY, Database
from tests.support.engines import debezium_in_the_long_run, only_pgoutput
from tests.support.gate import is_held
from tests.support.items_and_notes import CREATE, TABLES, assert_continues, changes, streaming
from tests.support.pipelines import pipeline, reader_of_slot, replicate, started, wait_until_equal
from tests.support.proxy import Proxy
from tests.support.supervised import Run, put_rows
from tests.support.waiting import eventually

#: Threads that a run may have; the one that replicates notes its end a moment before it has ended.
THREADS = ("walsender", "debezium", "snapshot")


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a connection waits for an answer of the source."""
    monkeypatch.setitem(properties._FIXED, "driver.socketTimeout", "2")
    monkeypatch.setattr(walsender, "START_TIMEOUT", 2.0)


@pytest.fixture
def source(source: Database) -> Database:
    source.run(*CREATE)
    return source


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as made:
        yield made


@contextmanager
def in_haste() -> Iterator[None]:
    """What takes a minute takes seconds within the block. A stream may take its time to open, so this comes later."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(heartbeat, "BEAT_INTERVAL", 0.5)
        patched.setattr(heartbeat, "STALL_TIMEOUT", 1.5)
        patched.setattr(config_module, "CONNECT_TIMEOUT", 2)
        patched.setattr(watched_connection, "ANSWER_TIMEOUT", 1.0)
        patched.setattr(watched_connection, "ASK_TIMEOUT", 2)
        yield


def end_of(worker: Worker) -> TransientError:
    """What ends the run; it leaves no thread behind."""
    with pytest.raises(TransientError) as caught:
        assert worker.wait(20), "the silence was not noticed"
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith(THREADS)]
    return caught.value


def test_a_silent_source_ends_the_run_and_the_next_one_continues(
    engine: Engine, source: Database, destination: Database, proxy: Proxy
) -> None:
    config = pipeline(engine, proxy.before(source), [destination], *TABLES)
    worker = streaming(config, source, destination)
    with in_haste(), proxy.standing_still():
        source.run(*changes(3))
        assert isinstance(end_of(worker), SourceUnavailable)
    source.run(*changes(4))
    assert_continues(config, source, destination)


def test_a_walsender_that_stands_still_is_not_treated_as_an_idle_source(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    pid = reader_of_slot(source, config)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        # The source answers everybody else: nothing is written but the run's own heartbeat.
        with in_haste():
            assert isinstance(end_of(worker), StreamStalled)
    finally:
        os.kill(pid, signal.SIGCONT)
    source.run(*changes(3))
    assert_continues(config, source, destination)


def test_a_source_that_goes_silent_within_a_transaction_ends_the_run(
    engine: Engine, source: Database, destination: Database, proxy: Proxy
) -> None:
    config = pipeline(engine, proxy.before(source), [destination], *TABLES)
    worker = streaming(config, source, destination)
    with in_haste(), proxy.standing_still():
        source.run("INSERT INTO items SELECT n, repeat('x', 500) FROM generate_series(1000000, 1020000) AS n")
        # A part of it is forwarded, and its end is in the middle of a message.
        proxy.forward_bytes(1_000_000)
        eventually(lambda: proxy.stands_still)
        # A heartbeat may have been among what was forwarded: then its absence in the stream is noticed first.
        assert isinstance(end_of(worker), SourceUnavailable | StreamStalled)
    assert_continues(config, source, destination)


# Debezium takes longer to open its stream than the haste of these tests allows.
@only_pgoutput
@pytest.mark.parametrize("words", [b"CREATE_REPLICATION_SLOT", b"COPY (SELECT", b"START_REPLICATION"], ids=bytes.decode)
def test_a_source_that_goes_silent_while_the_run_begins_ends_it(
    engine: Engine, source: Database, destination: Database, proxy: Proxy, words: bytes
) -> None:
    source.run(*changes(1))
    config = pipeline(engine, proxy.before(source), [destination], *TABLES)
    proxy.stand_still_after(words)
    with in_haste():
        assert isinstance(end_of(started(config)), SourceUnavailable)
    assert proxy.stands_still
    proxy.forward()
    source.run(*changes(2))
    replicate(config, source, destination)


@only_pgoutput
def test_a_server_that_is_at_work_is_waited_for(
    engine: Engine, source: Database, destination: Database, proxy: Proxy
) -> None:
    config = pipeline(engine, source, [proxy.before(destination)], *TABLES)
    worker = streaming(config, source, destination)
    with in_haste(), destination.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE items IN SHARE MODE")
        source.run(*changes(3))
        eventually(lambda: is_held(destination))
        assert not worker.wait(4 * watched_connection.ANSWER_TIMEOUT)
    wait_until_equal(worker, source, destination, *TABLES)
    assert worker.stop(20)
    assert worker.wait(0)


@debezium_in_the_long_run
def test_a_destination_that_goes_silent_within_a_batch_ends_the_run(
    engine: Engine, source: Database, destination: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In steps: a small batch is one message, which the server carries out alone.
    monkeypatch.setattr(direct_module, "ROW_LIMIT", 0)
    config = pipeline(engine, source, [proxy.before(destination)], *TABLES)
    worker = streaming(config, source, destination)
    with in_haste(), destination.connect() as blocker:
        with blocker.transaction():
            blocker.execute("LOCK TABLE items IN SHARE MODE")
            source.run(*changes(3))
            eventually(lambda: is_held(destination))
            proxy.stand_still()
        assert isinstance(end_of(worker), DestinationUnavailable)
    # The server still has the transaction open: the network has not told it that nobody is there.
    unfinished = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE xact_start IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert [(1,)] == destination.rows(unfinished)
    direct = pipeline(engine, source, [destination], *TABLES)
    assert_continues(direct, source, destination)
    proxy.forward()


@debezium_in_the_long_run
def test_a_commit_whose_answer_is_lost_is_not_done_twice(
    engine: Engine, source: Database, destination: Database, proxy: Proxy
) -> None:
    config = pipeline(engine, source, [proxy.before(destination)], *TABLES)
    worker = streaming(config, source, destination)
    with in_haste():
        proxy.stand_still_after(b"COMMIT")
        source.run("INSERT INTO notes SELECT 'once' FROM generate_series(1, 10)")
        assert isinstance(end_of(worker), DestinationUnavailable)
    assert [(10,)] == destination.rows("SELECT count(*) FROM notes WHERE name = 'once'")
    proxy.forward()
    assert_continues(config, source, destination)


@debezium_in_the_long_run
def test_a_small_batch_whose_answer_is_lost_is_not_done_twice(
    engine: Engine, source: Database, destination: Database, proxy: Proxy
) -> None:
    destination.run(
        "CREATE TABLE written (id int)",
        "CREATE FUNCTION count_row() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO public.written VALUES (NEW.id); RETURN NEW; END$$",
    )
    config = pipeline(engine, source, [proxy.before(destination)], *TABLES)
    worker = streaming(config, source, destination)
    destination.run(
        "CREATE TRIGGER counted AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION count_row()",
        "ALTER TABLE items ENABLE ALWAYS TRIGGER counted",
    )
    with in_haste():
        proxy.stand_still_after(b"FROM moved")
        source.run("INSERT INTO items SELECT max(id) + 1 FROM items")
        assert isinstance(end_of(worker), DestinationUnavailable)
    assert [(1,)] == destination.rows("SELECT count(*) FROM written")
    proxy.forward()
    assert_continues(config, source, destination)
    assert [(1,)] == destination.rows("SELECT count(*) FROM written WHERE id = (SELECT min(id) FROM written)")


def test_a_silent_configuration_database_ends_the_run_and_the_next_one_continues(
    source: Database, destination: Database, config_database: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STORE_PATIENCE", 2.0)
    with Store(SecretStr(proxy.before(config_database).url), SecretStr(SECRET_KEY)) as store:
        store.migrate()
        name = put_rows(store, source, destination)
        run = Run(store, name)
        eventually(lambda: store.state(name).run_status == "STREAMING")
        with in_haste(), proxy.standing_still():
            source.run("INSERT INTO items VALUES (1)")
            eventually(lambda: destination.rows("SELECT count(*) FROM items") == [(1,)])
            assert isinstance(run.wait(), StoreUnavailable)
        source.run("INSERT INTO items VALUES (2)")
        run = Run(store, name)
        eventually(lambda: destination.rows("SELECT count(*) FROM items") == [(2,)])
        store.set_status(name, Status.PAUSE)
        assert run.wait() is None
