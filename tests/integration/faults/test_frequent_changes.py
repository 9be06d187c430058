"""Tables that come and go every moment do not keep the stream closed: such changes are gathered."""

import time

import pytest

from rosetta_dagster.cdc.config.pipeline import Status, TableState
from rosetta_dagster.cdc.run import supervision
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.store.database import Store
from tests.support.database import Database
from tests.support.supervised import Run
from tests.support.waiting import eventually

#: Seconds between two restarts of the worker.
INTERVAL = 6.0


def test_changes_of_the_table_list_are_gathered(
    own_store: Store, name: str, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "CHANGE_INTERVAL", INTERVAL)
    started = _count_workers(monkeypatch)
    names = [f"late_{number}" for number in range(4)]
    source.run(*(f"CREATE TABLE {table} AS SELECT 1 AS id" for table in names))
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    _add(own_store, names[0])
    eventually(lambda: len(started) == 2)
    for table in names[1:]:
        _add(own_store, table)
        time.sleep(0.7)
    source.run("INSERT INTO items VALUES (2)")
    eventually(lambda: (2,) in destination.rows("SELECT id FROM items"))
    assert len(started) == 2
    eventually(lambda: [TableState.STREAMING] * 5 == [table.state for table in own_store.tables(name)])
    assert len(started) == 3
    assert started[2] - started[1] >= INTERVAL
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def _count_workers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the time of each worker's start."""
    started: list[float] = []

    class Counted(Worker):
        def start(self) -> None:
            started.append(time.monotonic())
            super().start()

    monkeypatch.setattr(supervision, "Worker", Counted)
    return started


def _add(store: Store, table: str) -> None:
    with store.connected() as connection:
        connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, %s FROM pipelines", [table])
