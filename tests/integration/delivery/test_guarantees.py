"""Promises of docs/guarantees.md that no other file has a test for."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import psutil
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.source import transactions
from tests.support.database import Database, digest_of
from tests.support.engines import debezium_in_the_long_run, only_pgoutput
from tests.support.gate import GATE, is_held
from tests.support.pipelines import (
    assert_no_walsender,
    follow,
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)
from tests.support.waiting import eventually
from tests.support.worker_process import with_secrets, worker_of

#: What a worker may use while it replicates one huge transaction, in bytes.
MEMORY_LIMIT = 1024 * 2**20

#: Changes in a batch of a worker that is killed between two of them.
SMALL_BATCH = 500


@contextmanager
def small_batch_worker(config: PipelineConfig) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker in a process of its own, whose batches and ranges of a copy are small."""
    command = [sys.executable, "-m", "tests.fuzz.killed_worker"]
    given = {"config": with_secrets(config), "change_limit": SMALL_BATCH, "is_confirmed": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(given).encode() + b"\n")
        worker.stdin.flush()
        try:
            yield worker
        finally:
            worker.kill()


def make_gate(destination: Database, last: int) -> None:
    """A table whose writer waits at this number while somebody else holds the gate."""
    destination.run(
        "CREATE TABLE IF NOT EXISTS notes (n int, said text)",
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $$",
        f"CREATE TRIGGER gate BEFORE INSERT ON notes FOR EACH ROW WHEN (NEW.n = {last}) EXECUTE FUNCTION gate()",
        "ALTER TABLE notes ENABLE ALWAYS TRIGGER gate",
    )


def kill_at_the_gate(config: PipelineConfig, destination: Database, before: Callable[[], None] = lambda: None) -> None:
    """Let a worker run into the gate, and kill it there."""
    with destination.connect() as blocker:
        blocker.execute(f"SELECT pg_advisory_lock({GATE})")
        with small_batch_worker(config) as worker:
            before()
            eventually(lambda: worker.poll() is not None or is_held(destination))
            assert worker.poll() is None, "the worker ended by itself"
    assert_no_walsender(config)


@debezium_in_the_long_run
def test_a_worker_killed_within_the_copy_of_a_table_without_a_key_doubles_nothing(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run(
        "CREATE TABLE notes (n int, said text)",
        "ALTER TABLE notes REPLICA IDENTITY FULL",
        "INSERT INTO notes SELECT n % 5, repeat('x', 50) FROM generate_series(1, 3000) AS n",
        "INSERT INTO notes VALUES (-1, 'the last page')",
    )
    make_gate(destination, -1)
    config = pipeline(engine, source, [destination], "notes")
    kill_at_the_gate(config, destination)
    assert 0 < destination.rows("SELECT count(*) FROM notes")[0][0] < 3001
    source.run("DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes LIMIT 10)", "INSERT INTO notes VALUES (7, 'new')")
    replicate(config, source, destination)


@debezium_in_the_long_run
def test_a_worker_killed_between_parts_of_one_copy_of_equal_rows_doubles_nothing(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE notes (n int, said text)", "ALTER TABLE notes REPLICA IDENTITY FULL")
    config = pipeline(engine, source, [destination], "notes")
    replicate(config, source, destination)
    make_gate(destination, -1)

    def copy_in() -> None:
        # Rows of one page share an LSN; many of them are equal, and the batches end within the pages.
        with source.connect() as connection, connection.cursor().copy("COPY notes FROM STDIN") as copy:
            copy.write("".join(f"{n % 3}\tequal\n" for n in range(4 * SMALL_BATCH)) + "-1\tlast\n")

    kill_at_the_gate(config, destination, copy_in)
    assert 0 < destination.rows("SELECT count(*) FROM notes")[0][0] <= 4 * SMALL_BATCH
    source.run("INSERT INTO notes VALUES (1, 'equal')")
    replicate(config, source, destination)


class Reader:
    """Looks at the destination all the time: what it sees of two tables has to be of whole transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look)
        #: The counts of the two tables, each time that they had changed.
        self.seen: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopping.is_set():
            found = self._database.rows("SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM notes)")[0]
            if found not in self.seen:
                self.seen.append((found[0], found[1]))


def test_a_transaction_that_fits_into_a_batch_is_never_half_visible(
    engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 5_000)
    source.run(
        "CREATE TABLE items (id int PRIMARY KEY)", "CREATE TABLE notes (n int)", "ALTER TABLE notes REPLICA IDENTITY FULL"
    )
    config = pipeline(engine, source, [destination], "items", "notes")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        with Reader(destination) as reader:
            # Small ones, and two that are nearly as large as a batch.
            for number, size in enumerate([5, 1, 300, 2_000, 3, 2_400, 40, 7]):
                first = number * 100_000
                rows = f"SELECT n FROM generate_series({first}, {first + size - 1}) AS n"
                source.run(f"BEGIN; INSERT INTO items {rows}; INSERT INTO notes {rows}; COMMIT")
            wait_until_equal(worker, source, destination, "items", "notes")
            wait_until(worker, lambda: (4_756, 4_756) in reader.seen)
    assert len(reader.seen) > 2
    assert [] == [(items, notes) for items, notes in reader.seen if items != notes]


def test_a_unique_index_identifies_rows_and_a_table_of_inserts_needs_nothing(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run(
        "CREATE TABLE places (id int, region text NOT NULL, number int NOT NULL, body text)",
        "CREATE UNIQUE INDEX by_number ON places (region, number)",
        "ALTER TABLE places REPLICA IDENTITY USING INDEX by_number",
        "CREATE TABLE events (n int, said text)",
        "INSERT INTO places SELECT n, 'north', n, 'old' FROM generate_series(1, 20) AS n",
        "INSERT INTO events VALUES (1, 'old'), (1, 'old')",
    )
    follow(
        engine,
        source,
        destination,
        ["places", "events"],
        "UPDATE places SET body = 'new' WHERE number < 5",
        "UPDATE places SET region = 'south', number = number + 100 WHERE number > 15",
        "DELETE FROM places WHERE number BETWEEN 6 AND 9",
        "INSERT INTO places VALUES (1, 'east', 1, NULL), (1, 'east', 2, NULL)",
        "INSERT INTO events VALUES (1, 'old'), (2, NULL)",
    )


# The handlers that refuse are the destination's, whichever engine reads.
@only_pgoutput
def test_a_dropped_column_keeps_its_values_and_no_table_is_made_again(
    engine: Engine, source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY, name text)", "INSERT INTO items VALUES (1, 'kept')")
    config = pipeline(engine, source, [destination], "items")
    replicate(config, source, destination)
    made = destination.rows("SELECT 'items'::regclass::oid, pg_relation_filenode('items')")
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        source.run("ALTER TABLE items DROP COLUMN name, ADD COLUMN more int", "INSERT INTO items VALUES (2, 7)")
        wait_until(worker, lambda: bool(destination.rows("SELECT FROM items WHERE id = 2")))
    assert [(1, "kept"), (2, None)] == destination.rows("SELECT id, name FROM items ORDER BY id")
    assert made == destination.rows("SELECT 'items'::regclass::oid, pg_relation_filenode('items')")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_transaction_of_a_million_rows_passes_in_bounded_memory(
    engine: Engine, source: Database, destination: Database, record_property: Callable[[str, object], None]
) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY, name text, body text)")
    config = pipeline(engine, source, [destination], "items")
    replicate(config, source, destination)
    peak = 0
    with worker_of(config) as worker:
        source.run("INSERT INTO items SELECT n, 'item ' || n, repeat(md5(n::text), 4) FROM generate_series(1, 1000000) AS n")
        deadline = time.monotonic() + 400
        while destination.rows("SELECT count(*) FROM items") != [(1_000_000,)]:
            assert worker.poll() is None, "the worker ended by itself"
            assert time.monotonic() < deadline, "it did not come in time"
            peak = max(peak, psutil.Process(worker.pid).memory_info().rss)
            time.sleep(0.2)
        assert worker.stdin is not None
        worker.stdin.close()
        assert 0 == worker.wait(60)
    record_property("peak_rss_mib", peak >> 20)
    assert digest_of(source, "items") == digest_of(destination, "items")
    assert peak < MEMORY_LIMIT, f"{peak >> 20} MiB"
