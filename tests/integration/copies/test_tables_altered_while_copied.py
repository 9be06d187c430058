"""Tables that are altered while their copy is made."""

import threading

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.errors import TableAltered
from rosetta_dagster.cdc.run.worker import Worker
from tests.support.database import Database
from tests.support.orders_and_notes import NOTES, ORDERS, wait_until_same
from tests.support.pipelines import pipeline, replicate, running
from tests.support.slow_copies import slow_down
from tests.support.waiting import TIMEOUT


@pytest.mark.parametrize("engine", [Engine.PGOUTPUT], indirect=True)  # no engine takes part in a copy
class TestTablesThatAreAlteredWhileTheyAreCopied:
    @pytest.mark.parametrize(
        "statement",
        [
            # Rows that are written again are not there for a snapshot of before.
            "ALTER TABLE orders ALTER COLUMN amount TYPE bigint",
            "VACUUM FULL orders",
            "ALTER TABLE orders RENAME COLUMN amount TO more",
            "BEGIN; ALTER TABLE orders RENAME amount TO a; ALTER TABLE orders RENAME total TO amount;"  # noqa: ISC004
            "ALTER TABLE orders RENAME a TO total; COMMIT",
            "ALTER TABLE orders DROP COLUMN total",
            "BEGIN; ALTER TABLE orders ADD COLUMN more int; UPDATE orders SET more = id; COMMIT",
        ],
    )
    @pytest.mark.parametrize("is_late", [False, True])
    def test_they_are_copied_again_as_they_are_then(
        self,
        engine: Engine,
        source: Database,
        destination: Database,
        monkeypatch: pytest.MonkeyPatch,
        statement: str,
        *,
        is_late: bool,
    ) -> None:
        source.run(
            "CREATE TABLE notes (id int PRIMARY KEY)", "CREATE TABLE orders (id int PRIMARY KEY, amount int, total int)"
        )
        source.run("INSERT INTO orders SELECT n, n, -n FROM generate_series(1, 100) AS n")
        if is_late:
            replicate(pipeline(engine, source, [destination], NOTES), source, destination)
        config = pipeline(engine, source, [destination], NOTES, ORDERS)
        waiting, altered = threading.Event(), threading.Event()

        def wait() -> None:
            waiting.set()
            assert altered.wait(TIMEOUT)

        with monkeypatch.context() as patched:
            slow_down(patched, wait)
            worker = Worker(config)
            worker.start()
            assert waiting.wait(TIMEOUT)
            try:
                source.run(statement)
                altered.set()
                with pytest.raises(TableAltered, match="was altered or rewritten"):
                    worker.wait(TIMEOUT)
            finally:
                altered.set()
                worker.stop(TIMEOUT)
        with running(config) as worker:
            wait_until_same(worker, source, destination, ORDERS)
