"""What breaks while a pipeline runs: the run ends as one that time mends, and the next one loses and doubles nothing."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.copy import snapshot
from rosetta_dagster.cdc.errors import DestinationUnavailable, SourceUnavailable, TransientError
from rosetta_dagster.cdc.source import slots, transactions
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database, digest_of
from tests.support.engines import debezium_in_the_long_run, only_pgoutput
from tests.support.gate import GATE, is_held
from tests.support.items_and_notes import CREATE, TABLES, assert_continues, changes, streaming
from tests.support.pipelines import (
    assert_no_walsender,
    end_of,
    is_streaming,
    pipeline,
    reader_of_slot,
    replicate,
    running,
    started,
    wait_until,
    wait_until_equal,
)
from tests.support.servers import server_for_sources
from tests.support.waiting import TIMEOUT, eventually

_NUMBERS = count(1)

#: The connections that hold the snapshot of a copy.
HOLDERS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()"


@pytest.fixture(scope="module")
def source_server() -> Iterator[EmbeddedPostgres]:
    """A server that may be killed, since no other test uses it."""
    with server_for_sources({"max_replication_slots": "100"}) as server:
        yield server


@pytest.fixture
def source(source_server: EmbeddedPostgres) -> Database:
    """Its slots and data go with the server."""
    made = Database(url=source_server.create_database(f"fault_{next(_NUMBERS)}"))
    made.run(*CREATE)
    return made


def terminate_writers(destination: Database, config: PipelineConfig) -> None:
    """End the connections of the run to its destination."""
    ended = destination.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND application_name = 'rosetta {config.name}'"
    )
    assert ended


def test_a_run_whose_walsender_was_terminated_ends_and_the_next_one_continues(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    source.run(*changes(3), f"SELECT pg_terminate_backend({reader_of_slot(source, config)})", *changes(4))
    end_of(worker)
    assert_no_walsender(config)
    source.run(*changes(5))
    assert_continues(config, source, destination)


@pytest.mark.parametrize("is_crash", [True, False], ids=["killed", "stopped"])
def test_a_run_whose_source_went_away_ends_and_the_one_after_its_return_continues(
    engine: Engine, source_server: EmbeddedPostgres, source: Database, destination: Database, is_crash: bool
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    source.run(*changes(3))
    try:
        if is_crash:
            source_server.kill()
        else:
            source_server.stop(keep_data=True)
        end_of(worker)
        assert isinstance(end_of(started(config)), SourceUnavailable)
    finally:
        source_server.start()
    source.run(*changes(4))
    assert_continues(config, source, destination)


def test_a_source_that_crashes_within_large_transactions_loses_and_doubles_nothing(
    engine: Engine, source_server: EmbeddedPostgres, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 2_000)
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    # One is larger than a batch and on its way, one is not committed and never will be.
    with suppress(psycopg.OperationalError), source.connect() as unfinished:
        unfinished.execute("BEGIN; INSERT INTO notes SELECT 'never' FROM generate_series(1, 5000)")
        source.run("INSERT INTO items SELECT n, 'large' FROM generate_series(1000000, 1012000) AS n")
        source_server.kill()
        try:
            end_of(worker)
        finally:
            source_server.start()
    assert_continues(config, source, destination)
    assert [(0,)] == destination.rows("SELECT count(*) FROM notes WHERE name = 'never'")


@debezium_in_the_long_run
def test_a_run_whose_idle_destination_connection_was_terminated_ends_with_a_change(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    terminate_writers(destination, config)
    source.run(*changes(3))
    assert isinstance(end_of(worker), DestinationUnavailable)
    assert_no_walsender(config)
    assert_continues(config, source, destination)


@debezium_in_the_long_run
def test_a_batch_whose_connection_was_terminated_is_absent_and_comes_again(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    worker = streaming(config, source, destination)
    before = [digest_of(destination, table) for table in TABLES]
    with destination.connect() as blocker, blocker.transaction():
        # Rows of one table are written when the batch comes to the other, whichever of them is first.
        blocker.execute("LOCK TABLE items IN SHARE MODE")
        source.run("BEGIN; INSERT INTO notes VALUES ('half'); INSERT INTO items VALUES (-1, 'half'); COMMIT")
        eventually(lambda: is_held(destination))
        terminate_writers(destination, config)
        assert isinstance(end_of(worker), DestinationUnavailable)
    assert before == [digest_of(destination, table) for table in TABLES]
    assert_continues(config, source, destination)


def gated_copy(source: Database, destination: Database, row_count: int) -> None:
    """Have a copy of `items` wait in its middle while somebody else holds the gate."""
    source.run(
        f"INSERT INTO items SELECT n, repeat('x', 100) FROM generate_series(1, {row_count}) AS n",
        "INSERT INTO notes VALUES ('old')",
    )
    destination.run(
        "CREATE TABLE items (id int PRIMARY KEY, name text)",
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $$",
        "CREATE TRIGGER gate BEFORE INSERT ON items FOR EACH ROW WHEN (NEW.id = 400) EXECUTE FUNCTION gate()",
        "ALTER TABLE items ENABLE ALWAYS TRIGGER gate",
    )


def finished_copies(destination: Database) -> list[str]:
    return [name for (name,) in destination.rows("SELECT table_name FROM rosetta.copies WHERE finished_at IS NOT NULL")]


def assert_copies_again(config: PipelineConfig, source: Database, destination: Database) -> None:
    tables = [table.id for table in config.tables]
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)
        wait_until(worker, lambda: is_streaming(worker))
        source.run(*changes(500))
        wait_until_equal(worker, source, destination, *tables)


# Copies know no engine.
@only_pgoutput
def test_a_copy_whose_connection_was_terminated_in_the_middle_is_made_again(
    engine: Engine, source: Database, destination: Database
) -> None:
    gated_copy(source, destination, 500)
    config = pipeline(engine, source, [destination], "items")
    with destination.connect() as blocker:
        blocker.execute(f"SELECT pg_advisory_lock({GATE})")
        worker = started(config)
        wait_until(worker, lambda: is_held(destination))
        source.run("UPDATE items SET name = 'changed meanwhile' WHERE id % 2 = 0")
        terminate_writers(destination, config)
        assert isinstance(end_of(worker), DestinationUnavailable)
    assert_copies_again(config, source, destination)


# Copies know no engine.
@only_pgoutput
def test_a_copy_terminated_after_another_table_was_finished_is_made_again(
    engine: Engine, source: Database, destination: Database
) -> None:
    gated_copy(source, destination, 500)
    config = pipeline(engine, source, [destination], *TABLES)
    with destination.connect() as blocker:
        blocker.execute(f"SELECT pg_advisory_lock({GATE})")
        worker = started(config)
        wait_until(worker, lambda: is_held(destination) and finished_copies(destination) == ["notes"])
        source.run("UPDATE items SET name = 'changed meanwhile' WHERE id % 2 = 0", "INSERT INTO notes VALUES ('meanwhile')")
        terminate_writers(destination, config)
        assert isinstance(end_of(worker), DestinationUnavailable)
    assert_copies_again(config, source, destination)


# Copies know no engine.
@only_pgoutput
def test_a_copy_whose_snapshot_was_lost_after_another_table_is_made_again(
    engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.run("INSERT INTO items VALUES (1, 'old')", "INSERT INTO notes VALUES ('old')")
    config = pipeline(engine, source, [destination], *TABLES)
    copies = count()

    def lose_the_snapshot() -> None:
        if next(copies) == 1:
            eventually(lambda: finished_copies(destination))
            source.run(f"{HOLDERS.replace('pid', 'pg_terminate_backend(pid)', 1)}")
            eventually(lambda: not source.rows(HOLDERS))

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "READER_COUNT", 1)
        # Before the part has its own hold of the snapshot, which lasts as long as it is read.
        copy_part = snapshot.Copier._copy_part

        def copy_late(copier: snapshot.Copier, *arguments: Any) -> bool:
            lose_the_snapshot()
            return copy_part(copier, *arguments)

        patched.setattr(snapshot.Copier, "_copy_part", copy_late)
        assert isinstance(end_of(started(config)), SourceUnavailable)
    assert_copies_again(config, source, destination)


# Copies know no engine.
@only_pgoutput
def test_a_run_that_was_stopped_when_one_table_was_copied_goes_on_later(
    engine: Engine, source: Database, destination: Database
) -> None:
    # More rows than buffers hold: the copy is not through when it is told to stop.
    gated_copy(source, destination, 300_000)
    config = pipeline(engine, source, [destination], *TABLES)
    with destination.connect() as blocker:
        blocker.execute(f"SELECT pg_advisory_lock({GATE})")
        worker = started(config)
        wait_until(worker, lambda: is_held(destination) and finished_copies(destination) == ["notes"])
        worker.stop(0)
    assert worker.stop(TIMEOUT)
    assert worker.wait(0)
    assert_copies_again(config, source, destination)


def test_a_slot_that_is_not_ours_by_name_is_waited_for_while_another_run_streams_it(
    engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "RELEASE_TIMEOUT", 0.5)
    config = pipeline(engine, source, [destination], *TABLES)
    config = config.model_copy(update={"own_replication_name": f"shared_{source.connection.database}"})
    worker = streaming(config, source, destination)
    reader = reader_of_slot(source, config)
    assert isinstance(end_of(started(config)), SourceUnavailable)
    assert reader == reader_of_slot(source, config)
    source.run(*changes(3))
    wait_until_equal(worker, source, destination, *TABLES)
    assert worker.stop(TIMEOUT)
    assert worker.wait(0)
    assert_continues(config, source, destination)


def test_a_slot_of_ours_is_taken_over_and_the_run_that_had_it_ends(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    first = streaming(config, source, destination)
    reader = reader_of_slot(source, config)
    source.run(*changes(3))
    with running(config) as second:
        end_of(first)
        wait_until(second, lambda: reader_of_slot(source, config) not in (None, reader))
        source.run(*changes(4))
        wait_until_equal(second, source, destination, *TABLES)
    assert_continues(config, source, destination)


# Two engines of one name in one process wait for each other's JMX metrics: that is of the test, not of two workers.
@only_pgoutput
def test_of_two_runs_that_start_together_at_most_one_goes_on(
    engine: Engine, source: Database, destination: Database
) -> None:
    config = pipeline(engine, source, [destination], *TABLES)
    replicate(config, source, destination)
    source.run(*changes(3))
    workers = [started(config), started(config)]
    ends: list[TransientError] = []

    def has_one_left() -> bool:
        for worker in list(workers):
            try:
                assert not worker.wait(0), "nobody stopped it"
            except TransientError as error:
                ends.append(error)
                workers.remove(worker)
        return bool(ends)

    eventually(has_one_left)
    for worker in workers:
        source.run(*changes(4))
        wait_until_equal(worker, source, destination, *TABLES)
        assert worker.stop(TIMEOUT)
        assert worker.wait(0)
    assert_no_walsender(config)
    assert_continues(config, source, destination)
