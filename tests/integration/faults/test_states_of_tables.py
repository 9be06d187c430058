"""While a copy has to come, or one destination differs, no table says STREAMING: whoever waits would return too early."""

from collections.abc import Callable

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.source import slots
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.pipelines import is_streaming, pipeline, running, wait_until, wait_until_equal

PARTS = TableId("public", "parts")


def test_a_table_waits_while_its_partitions_are_to_be_copied_again(
    source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_watch, "INSPECTION_INTERVAL", 0.2)
    monkeypatch.setattr(slots, "WAIT_REPORT_INTERVAL", 3600.0)
    source.run(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE parts_2 (id int PRIMARY KEY)",
        "INSERT INTO parts_2 VALUES (11)",
        "CREATE TABLE other (id int)",
    )
    with running(pipeline(Engine.PGOUTPUT, source, [destination], PARTS)) as worker:
        wait_until(worker, lambda: is_streaming(worker) and worker.report().states[PARTS] == (TableState.STREAMING, None))
        with source.connect() as writer, writer.transaction():
            # A copy begins after every transaction that was open.
            writer.execute("INSERT INTO other VALUES (1)")
            source.run("ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20)")
            wait_until(worker, lambda: worker.report().states[PARTS][0] is TableState.PENDING)
            wait_until(worker, lambda: is_streaming(worker))
            source.run("INSERT INTO parts VALUES (5)")
            assert TableState.PENDING is worker.report().states[PARTS][0]
        wait_until_equal(worker, source, destination, PARTS)
        wait_until(worker, lambda: worker.report().states[PARTS] == (TableState.STREAMING, None))


def test_a_table_that_one_of_two_destinations_refuses_shows_that_one(
    source: Database, destination: Database, new_database: Callable[[str], Database]
) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY)", "CREATE TABLE others (id int PRIMARY KEY)")
    second_destination = new_database("second")
    items, others = TableId("public", "items"), TableId("public", "others")
    config = pipeline(Engine.PGOUTPUT, source, [destination, second_destination], items, others)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        destination.run("ALTER TABLE items ADD CONSTRAINT small CHECK (id < 5)")
        source.run("INSERT INTO items VALUES (7)", "INSERT INTO others VALUES (7)")
        for each in (destination, second_destination):
            wait_until_equal(worker, source, each, others)
        wait_until_equal(worker, source, second_destination, items)
        state, reason = worker.report().states[items]
        assert TableState.ERROR is state
        assert (reason or "").startswith("Destination replica_0: ")
        assert (TableState.STREAMING, None) == worker.report().states[others]
