"""A copy that was broken off goes on with the ranges that are missing."""

import time
from typing import Any

import pytest

from rosetta_dagster.cdc.change import pages
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.copy import snapshot
from rosetta_dagster.cdc.copy.parts import Part
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.slots import SnapshotStopped
from tests.support.database import Database
from tests.support.engines import only_pgoutput
from tests.support.every_value import BIG
from tests.support.orders_and_notes import ORDERS
from tests.support.pipelines import pipeline, replicate, wait_until
from tests.support.slow_copies import slow_down
from tests.support.waiting import TIMEOUT


class TestResumedCopies:
    # Copies know no engine.
    @only_pgoutput
    def test_a_first_copy_that_was_broken_off_is_resumed_by_range(
        self, engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "PAGES_PER_RANGE", 4)
        monkeypatch.setattr(snapshot, "READER_COUNT", 1)
        source.run(
            "CREATE TABLE orders (id bigint PRIMARY KEY, amount int, body text)",
            "ALTER TABLE orders ALTER COLUMN body SET STORAGE EXTERNAL",
            f"INSERT INTO orders SELECT n, n, {BIG.format('m')} FROM generate_series(1, 50) AS m,"
            " LATERAL (SELECT m * 3 AS n) AS numbers",
            "INSERT INTO orders SELECT n, n, 'short' FROM generate_series(1000, 4000) AS n",
        )
        config = pipeline(engine, source, [destination], ORDERS)
        copied: list[Part] = []
        limit = 3
        load = snapshot.Copier._load

        def record(copier: snapshot.Copier, connections: Any, part: Part, *arguments: Any) -> bool:
            if len(copied) == limit:
                raise SnapshotStopped
            is_last = load(copier, connections, part, *arguments)
            copied.append(part)
            return is_last

        monkeypatch.setattr(snapshot.Copier, "_load", record)
        worker = Worker(config)
        worker.start()
        assert worker.wait(TIMEOUT)
        first = list(copied)
        copied.clear()
        source.run(
            # Rows move to pages that are copied and to pages that are not, keep values that are not sent again, get keys
            # that others had, come, go, and come back.
            "UPDATE orders SET amount = amount + 1 WHERE id % 2 = 0",
            "UPDATE orders SET id = id + 100000 WHERE id BETWEEN 3 AND 60",
            "DELETE FROM orders WHERE id BETWEEN 60 AND 90",
            "DELETE FROM orders WHERE id BETWEEN 1500 AND 1600",
            "VACUUM orders",
            "INSERT INTO orders SELECT n, n, 'again' FROM generate_series(1, 90) AS n WHERE n % 3 = 0",
            "UPDATE orders SET amount = 0 WHERE id > 100000 OR id % 10 = 3",
            "INSERT INTO orders SELECT n, n, 'new' FROM generate_series(5000, 9000) AS n",
        )
        # Broken off once more, and then finished.
        worker = Worker(config)
        worker.start()
        wait_until(worker, lambda: len(copied) == limit)
        assert worker.stop(TIMEOUT)
        source.run("UPDATE orders SET amount = -1 WHERE id % 7 = 0", "DELETE FROM orders WHERE id % 8 = 0")
        copied.clear()
        limit = 1000
        replicate(config, source, destination)
        again = {part.pages for part in copied if part.since_xid is not None}
        missing = {part.pages for part in copied if part.since_xid is None}
        assert {part.pages for part in first} < again
        assert not again & missing
        source.run("UPDATE orders SET amount = 1 WHERE id % 2 = 0")
        replicate(config, source, destination)

    # Copies know no engine.
    @only_pgoutput
    def test_ranges_of_a_table_that_was_rewritten_are_not_resumed(
        self, engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "PAGES_PER_RANGE", 2)
        source.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 5000)")
        config = pipeline(engine, source, [destination], ORDERS)
        with monkeypatch.context() as patched:
            slow_down(patched, lambda: time.sleep(0.2))
            worker = Worker(config)
            worker.start()
            wait_until(worker, lambda: bool(worker.report().tables))
            assert worker.stop(TIMEOUT)
        assert destination.rows("SELECT FROM rosetta.copied_ranges")
        source.run("TRUNCATE orders", "INSERT INTO orders SELECT generate_series(4000, 6000)")
        replicate(config, source, destination)
