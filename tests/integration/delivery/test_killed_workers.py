"""Workers that are killed at random moments, while everything that is hard to repeat goes on: nothing is lost or doubled."""

import random
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database, digest_or_none
from tests.support.pipelines import pipeline
from tests.support.worker_process import worker_of

TABLES = ("items", "notes")

CREATE = (
    "CREATE TABLE items (id int PRIMARY KEY, name text, amount int)",
    "CREATE TABLE notes (name text)",
    "ALTER TABLE notes REPLICA IDENTITY FULL",
    "INSERT INTO items SELECT n, 'old', 0 FROM generate_series(1, 5000) AS n",
)

#: How often the worker is killed, how many transactions are written, and how many rows the largest has.
KILL_COUNT, TRANSACTION_COUNT, LARGE_TRANSACTION = 4, 120, 60_000

#: Seconds between two rounds of the writer.
WRITE_PAUSE = 0.08

#: How long the last worker may take to catch up, in seconds.
CATCH_UP_LIMIT = 120.0


def test_workers_may_be_killed_at_any_moment(
    source: Database,
    destination: Database,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    engine: Engine,
) -> None:
    source.run(*CREATE)
    config = pipeline(engine, source, [destination], *TABLES)
    seed = random.randrange(1_000_000)
    dice = random.Random(seed)
    writer = threading.Thread(target=write, args=(source,))
    writer.start()
    peak = 0
    for _ in range(KILL_COUNT):
        with worker_of(config) as worker:
            time.sleep(dice.uniform(1.0, 4.0))
            peak = max(peak, psutil.Process(worker.pid).memory_info().rss)
            worker.kill()
    writer.join()
    with worker_of(config) as worker:
        deadline = time.monotonic() + CATCH_UP_LIMIT
        while not are_equal(source, destination):
            assert worker.poll() is None, "the worker ended by itself"
            assert time.monotonic() < deadline, f"seed {seed}"
            peak = max(peak, psutil.Process(worker.pid).memory_info().rss)
            time.sleep(0.1)
    record_property("seed", seed)
    record_property("peak_rss_mib", peak >> 20)
    assert peak < 1024 * 2**20


def write(source: Database) -> None:
    """Small transactions, rows of one COPY page that share an LSN, key changes, and one transaction larger than a batch."""
    with source.connect() as connection:
        for number in range(TRANSACTION_COUNT):
            # So that the kills fall between the transactions, not after them.
            time.sleep(WRITE_PAUSE)
            first = 10_000 + 1000 * number
            with connection.cursor().copy("COPY notes FROM STDIN") as copy:
                copy.write("".join(f"note {n % 5}\n" for n in range(300)))
            connection.execute(f"INSERT INTO items SELECT n, 'new', 1 FROM generate_series({first}, {first + 399}) AS n")
            connection.execute(f"UPDATE items SET id = -id, amount = amount + 1 WHERE id BETWEEN {first} AND {first + 50}")
            connection.execute("DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes LIMIT 10)")
            if number == TRANSACTION_COUNT // 2:
                first = 5_000_000
                connection.execute(f"INSERT INTO items SELECT {first} + n FROM generate_series(1, {LARGE_TRANSACTION}) AS n")


def are_equal(source: Database, destination: Database) -> bool:
    """On a busy machine every worker may have been killed before it made the tables."""
    with source.connect() as here, destination.connect() as there:
        return all(digest_or_none(here, table) == digest_or_none(there, table) for table in map(TableId.parse, TABLES))
