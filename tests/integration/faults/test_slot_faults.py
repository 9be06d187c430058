"""Slots that are lost, dropped or made anew at any time: it is noticed before anything is applied over the gap."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Health, PipelineConfig, Status
from rosetta_dagster.cdc.errors import SlotInvalid, TransientError
from rosetta_dagster.cdc.operate.health import Observation, observe
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import SECRET_KEY, Database, digest_of
from tests.support.gate import is_held
from tests.support.items_and_notes import CREATE, TABLES, assert_continues, changes, streaming
from tests.support.pipelines import failure, pipeline, reader_of_slot
from tests.support.servers import server_for_sources
from tests.support.supervised import put_rows
from tests.support.waiting import eventually

_NUMBERS = count(1)

#: One segment, so that a slot is lost soon.
SEGMENT = "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 900000)), pg_switch_wal()"


@pytest.fixture(scope="module")
def strict_server() -> Iterator[EmbeddedPostgres]:
    """A server that keeps WAL for slots up to a limit that is soon reached."""
    settings = {"max_slot_wal_keep_size": "64MB", "max_wal_size": "32MB", "min_wal_size": "32MB", "wal_keep_size": "0"}
    with server_for_sources(settings) as server:
        yield server


@pytest.fixture
def source(strict_server: EmbeddedPostgres) -> Iterator[Database]:
    """Its slots are dropped after the test: there is room for one that lags."""
    made = Database(url=strict_server.create_database(f"slot_fault_{next(_NUMBERS)}"))
    made.run(*CREATE)
    yield made
    made.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")


def wal_status(source: Database, slot: str) -> str:
    status: str = source.rows(f"SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'")[0][0]
    return status


def write_until(source: Database, slot: str, status: str) -> None:
    """Write WAL until the server says this of the slot; a checkpoint is what loses it."""
    for _ in range(12):
        if wal_status(source, slot) == status:
            return
        source.run(SEGMENT)
        if status == "lost":
            source.run("CHECKPOINT")
    assert status == wal_status(source, slot)


@contextmanager
def without_checkpoints(source: Database) -> Iterator[None]:
    """The server makes none by itself meanwhile: one would lose a slot that can still be lost only."""
    ((checkpointer,),) = source.rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    os.kill(checkpointer, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(checkpointer, signal.SIGCONT)


def assert_refused(config: PipelineConfig, destination: Database, remedy: str) -> None:
    """A run ends by what a person has to fix, and has applied nothing."""
    before = [digest_of(destination, table) for table in TABLES]
    with pytest.raises(SlotInvalid, match=config.slot_name) as caught:
        failure(config)
    assert remedy in str(caught.value)
    assert before == [digest_of(destination, table) for table in TABLES]


def stopped(worker: Worker) -> None:
    assert worker.stop(20)
    assert worker.wait(0)


def test_a_slot_lost_while_the_pipeline_is_paused_is_reported_with_the_remedy(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    stopped(streaming(config, source, destination))
    source.run(*changes(3))
    write_until(source, config.slot_name, "lost")
    assert_refused(config, destination, "Raise max_slot_wal_keep_size")


def test_a_slot_lost_behind_a_stalled_destination_ends_the_run_and_is_reported(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    with destination.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE items, notes IN SHARE MODE")
        source.run("INSERT INTO items VALUES (-1, 'before the gap')")
        eventually(lambda: is_held(destination))
        # The server ends the walsender of a slot whose WAL it removes.
        write_until(source, config.slot_name, "lost")
        source.run(*changes(3))
    with pytest.raises(TransientError):
        assert worker.wait(20)
    assert ([(1,)], [(0,)]) == (
        destination.rows("SELECT count(*) FROM items WHERE id = -1"),
        destination.rows("SELECT count(*) FROM items WHERE id BETWEEN 3000 AND 4000"),
    )
    assert_refused(config, destination, "Raise max_slot_wal_keep_size")


def test_a_slot_dropped_while_it_streams_ends_the_run_and_is_reported(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    pid = reader_of_slot(source, config)
    source.run(f"SELECT pg_terminate_backend({pid})")
    eventually(lambda: reader_of_slot(source, config) is None)
    source.run(f"SELECT pg_drop_replication_slot('{config.slot_name}')", *changes(3))
    with pytest.raises(TransientError):
        assert worker.wait(20)
    assert_refused(config, destination, "rosetta resync")


def test_a_slot_created_again_between_two_runs_is_reported(engine: Engine, source: Database, destination: Database) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    stopped(streaming(config, source, destination))
    source.run(
        f"SELECT pg_drop_replication_slot('{config.slot_name}')",
        *changes(3),
        f"SELECT pg_create_logical_replication_slot('{config.slot_name}', 'pgoutput')",
        *changes(4),
    )
    assert_refused(config, destination, "rosetta resync")


def test_a_slot_in_danger_shows_before_it_is_lost(
    source: Database, destination: Database, config_database: Database
) -> None:
    with Store(SecretStr(config_database.url), SecretStr(SECRET_KEY)) as store:
        store.migrate()
        name = put_rows(store, source, destination)
        store.set_status(name, Status.PAUSE)
        config = store.pipeline(name)
        source.run(f"SELECT pg_create_logical_replication_slot('{config.slot_name}', 'pgoutput')")
        seen = []

        def see(status: str) -> Observation:
            write_until(source, config.slot_name, status)
            observation = observe(store, name)
            noted = config_database.rows("SELECT wal_status, safe_wal_size > 0, health_status FROM pipeline_metadata")
            assert noted[0][2] == observation.health
            seen.append(noted[0])
            return observation

        with without_checkpoints(source):
            for status in ("reserved", "extended", "unreserved"):
                see(status)
        observation = see("lost")
        assert observation.slot is not None
        assert observation.slot.is_lost
    assert [
        ("reserved", True, Health.HEALTHY),
        ("extended", True, Health.WARNING),
        ("unreserved", False, Health.ERROR),
        ("lost", None, Health.ERROR),
    ] == seen


def test_walsenders_that_are_terminated_again_and_again_lose_and_double_nothing(
    source: Database, destination: Database, engine: Engine
) -> None:
    # Debezium takes seconds to start.
    end_count = 4 if engine is Engine.DEBEZIUM else 10
    config = pipeline(engine, source, [destination], *TABLES)
    stopped(streaming(config, source, destination))
    ended = 0
    worker: Worker | None = None
    for number in range(200):
        source.run(
            f"INSERT INTO items SELECT {1_000_000 + number * 60} + n, 'round' FROM generate_series(1, 60) AS n",
            "INSERT INTO notes SELECT 'note' FROM generate_series(1, 40)",
        )
        if worker is None:
            worker = Worker(config)
            worker.start()
        if ended < end_count and (pid := reader_of_slot(source, config)) is not None:
            source.run(f"SELECT pg_terminate_backend({pid})")
            with pytest.raises(TransientError):
                assert worker.wait(20)
            ended, worker = ended + 1, None
    if worker is not None:
        stopped(worker)
    assert ended == end_count
    assert_continues(config, source, destination)
