"""Whole pipelines between real databases: a worker, its real Debezium engine, and what arrives at the other end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from rosetta_dagster.cdc.change import pages
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.copy import snapshot
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database, current_lsn
from tests.support.engines import debezium_in_the_long_run
from tests.support.pipelines import (
    assert_no_walsender,
    confirmed_lsn,
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)
from tests.support.slow_copies import slow_down
from tests.support.waiting import TIMEOUT


class TestRowsAndChanges:
    def test_existing_rows_are_copied_and_all_kinds_of_changes_follow(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric(10, 2), made timestamptz, tags text[])",
            "INSERT INTO items SELECT n, 'item ' || n, n * 1.5, now() - n * interval '1 hour', ARRAY['a', NULL, 'b\"c']"
            " FROM generate_series(1, 1000) AS n",
            "CREATE TABLE emptied (id int PRIMARY KEY)",
            "INSERT INTO emptied SELECT generate_series(1, 100)",
        )
        config = pipeline(engine, source, [destination], "items", "emptied")
        with running(config) as worker:
            wait_until_equal(worker, source, destination, "items", "emptied")
            wait_until(worker, lambda: is_streaming(worker))
            source.run(
                "INSERT INTO items (id, name) VALUES (2001, E'tab\\tnewline\\nbackslash\\\\N'), (2002, ''), (2003, NULL)",
                "UPDATE items SET price = -price, name = upper(name) WHERE id % 3 = 0",
                "DELETE FROM items WHERE id % 7 = 0",
                "UPDATE items SET id = id + 10000 WHERE id % 11 = 0",
                "BEGIN; INSERT INTO items VALUES (9000); UPDATE items SET name = 'x' WHERE id = 9000;"
                " DELETE FROM items WHERE id = 9000; INSERT INTO items VALUES (9000, 'again'); COMMIT",
                "BEGIN; INSERT INTO items VALUES (9001, 'never'); ROLLBACK",
                "TRUNCATE emptied",
                "INSERT INTO emptied VALUES (7)",
            )
            wait_until_equal(worker, source, destination, "items", "emptied")
            wait_until(worker, lambda: worker.report().tables[TableId("public", "emptied")].inserted == 1)
            counts = worker.report().tables
        assert (1000, 100) == (counts[TableId("public", "items")].copied, counts[TableId("public", "emptied")].copied)
        assert 1 == counts[TableId("public", "emptied")].truncated
        assert [(7,)] == destination.rows("SELECT id FROM emptied")

    def test_the_first_transaction_after_a_stop_arrives(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        config = pipeline(engine, source, [destination], "items")
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            # The second one is known by the COMMIT before it; the first one of a stream has none.
            source.run("INSERT INTO items VALUES (2)", "INSERT INTO items VALUES (3)")
            written = current_lsn(source)
            wait_until_equal(worker, source, destination, "items")
            # The slot stands behind the last transaction: the next one is the first that the new stream sees.
            wait_until(worker, lambda: confirmed_lsn(source, config) >= written)
        for number in (4, 5):
            source.run(f"INSERT INTO items VALUES ({number})")
            replicate(config, source, destination)
        assert [(1,), (2,), (3,), (4,), (5,)] == destination.rows("SELECT id FROM items ORDER BY id")

    def test_changes_that_the_source_repeats_are_done_once(
        self, engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE notes (n int)", "ALTER TABLE notes REPLICA IDENTITY FULL")
        config = pipeline(engine, source, [destination], "notes")
        with monkeypatch.context() as patched:
            # As if each run crashed when the rows were durable and the source was not told so yet.
            patched.setattr(DebeziumStream, "commit", lambda stream, delivery: None)
            for number in (1, 2, 3):
                with running(config) as worker:
                    wait_until(worker, lambda: is_streaming(worker))
                    source.run(
                        f"INSERT INTO notes SELECT {number} FROM generate_series(1, 10)",
                        f"INSERT INTO notes VALUES ({number})",
                        f"DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes WHERE n = {number} LIMIT 1)",
                    )
                    wait_until_equal(worker, source, destination, "notes")
        source.run("INSERT INTO notes VALUES (4)")
        replicate(config, source, destination)

    def test_rows_written_while_the_copy_runs_are_neither_lost_nor_doubled(
        self, engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run(
            "CREATE TABLE keyed (id bigint PRIMARY KEY, value int)",
            "CREATE TABLE unkeyed (writer int, value int)",
            "ALTER TABLE unkeyed REPLICA IDENTITY FULL",
            "INSERT INTO keyed SELECT n, 0 FROM generate_series(-5000, -1) AS n",
            "INSERT INTO unkeyed SELECT 0, n FROM generate_series(1, 5000) AS n",
        )
        config = pipeline(engine, source, [destination], "keyed", "unkeyed")
        monkeypatch.setattr(pages, "PAGES_PER_RANGE", 8)
        with writers(source) as writer, running(config) as worker:
            # The copy goes on only as the writers do: each range is read after more was written.
            slow_down(monkeypatch, writer.wait_for_more)
            wait_until(worker, lambda: is_streaming(worker))
            writer.wait_for_more()
            writer.stop()
            wait_until_equal(worker, source, destination, "keyed", "unkeyed")
            assert writer.count > 100
        replicate(config, source, destination)

    @debezium_in_the_long_run
    def test_a_stopped_copy_starts_again(
        self, engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE notes (n int)", "INSERT INTO notes SELECT generate_series(1, 20000)")
        config = pipeline(engine, source, [destination], "notes")
        copied, released = threading.Event(), threading.Event()

        def wait() -> None:
            if copied.is_set():
                assert released.wait(TIMEOUT)
            copied.set()

        with monkeypatch.context() as patched:
            patched.setattr(pages, "PAGES_PER_RANGE", 8)
            patched.setattr(snapshot, "READER_COUNT", 1)
            slow_down(patched, wait)
            worker = Worker(config)
            worker.start()
            wait_until(worker, lambda: bool(worker.report().tables))
            worker.stop(0)
            released.set()
            assert worker.wait(TIMEOUT)
        assert_no_walsender(config)
        assert 0 < destination.rows("SELECT count(*) FROM notes")[0][0] < 20000
        assert [] == source.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        replicate(config, source, destination)


class Writers:
    """Two threads that write as fast as they can, in transactions that overlap, until told to stop."""

    def __init__(self, source: Database) -> None:
        self._source = source
        self._stopping = threading.Event()
        self._counts = [0, 0]
        self._threads = [threading.Thread(target=self._write, args=[number]) for number in (0, 1)]

    @property
    def count(self) -> int:
        """Transactions so far."""
        return sum(self._counts)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def wait_for_more(self) -> None:
        """Wait for ten more transactions."""
        enough, deadline = self.count + 10, time.monotonic() + TIMEOUT
        while self.count < enough and not self._stopping.wait(0.001):
            assert time.monotonic() < deadline, "nothing is written"

    def _write(self, writer: int) -> None:
        with psycopg.connect(self._source.url) as connection:
            while not self._stopping.is_set():
                number = 2 * self._counts[writer] + writer
                connection.execute("INSERT INTO keyed VALUES (%s, 1)", [number])
                connection.execute("INSERT INTO unkeyed SELECT %s, 0 FROM generate_series(1, 3)", [writer + 1])
                connection.execute("UPDATE keyed SET value = value + 1 WHERE id IN (%s, %s)", [number, -1 - number % 5000])
                # The two never touch a row of each other, so they cannot deadlock.
                connection.execute("DELETE FROM keyed WHERE id = %s AND id >= 0", [number - 20])
                connection.execute("DELETE FROM unkeyed WHERE writer = 0 AND value = %s", [number % 5000])
                connection.commit()
                self._counts[writer] += 1


@contextmanager
def writers(source: Database) -> Iterator[Writers]:
    both = Writers(source)
    both.start()
    try:
        yield both
    finally:
        both.stop()
