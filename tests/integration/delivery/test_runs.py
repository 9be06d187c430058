"""Runs that begin, go on and end: what they take up, what they refuse, and what they leave."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import jpype
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.errors import DestinationRejected, SlotInvalid, TableNotOurs
from rosetta_dagster.cdc.run import gc_policy
from rosetta_dagster.cdc.run.worker import Worker
from tests.support.database import Database, current_lsn
from tests.support.engines import debezium_in_the_long_run, only_debezium, only_pgoutput
from tests.support.pipelines import (
    assert_no_walsender,
    confirmed_lsn,
    failure,
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
    walsenders,
)
from tests.support.waiting import TIMEOUT


def java_thread_count() -> int:
    return int(jpype.JClass("java.lang.Thread").getAllStackTraces().size())


class TestRuns:
    @debezium_in_the_long_run
    def test_a_table_added_later_brings_its_old_rows(self, engine: Engine, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE items (id int PRIMARY KEY)",
            "INSERT INTO items VALUES (1)",
            "CREATE TABLE late (id int PRIMARY KEY, name text)",
            "INSERT INTO late SELECT n, 'old' FROM generate_series(1, 500) AS n",
        )
        replicate(pipeline(engine, source, [destination], "items"), source, destination)
        # Waits in the slot when the new table's copy is made.
        source.run("INSERT INTO items VALUES (2)", "INSERT INTO late VALUES (1000, 'before the copy')")
        with running(pipeline(engine, source, [destination], "items", "late")) as worker:
            wait_until_equal(worker, source, destination, "items", "late")
            source.run(
                "UPDATE late SET name = 'new' WHERE id > 400",
                "INSERT INTO items VALUES (3)",
                "DELETE FROM items WHERE id = 1",
            )
            wait_until_equal(worker, source, destination, "items", "late")

    def test_every_destination_gets_everything_and_a_new_one_gets_the_old_rows(
        self, engine: Engine, source: Database, new_database: Callable[[str], Database]
    ) -> None:
        first, second, third = (new_database("destination") for _ in range(3))
        source.run(
            "CREATE TABLE notes (n int)", "ALTER TABLE notes REPLICA IDENTITY FULL", "INSERT INTO notes VALUES (1), (1)"
        )
        with running(pipeline(engine, source, [first, second], "notes")) as worker:
            wait_until_equal(worker, source, first, "notes")
            wait_until(worker, lambda: is_streaming(worker))
            source.run("INSERT INTO notes VALUES (1), (2)", "DELETE FROM notes WHERE n = 2")
            wait_until_equal(worker, source, first, "notes")
            wait_until_equal(worker, source, second, "notes")
        source.run("INSERT INTO notes VALUES (1), (3)")
        with running(pipeline(engine, source, [first, second, third], "notes")) as worker:
            for each in (first, second, third):
                wait_until_equal(worker, source, each, "notes")
            source.run("INSERT INTO notes VALUES (1), (4)", "DELETE FROM notes WHERE n = 3")
            for each in (first, second, third):
                wait_until_equal(worker, source, each, "notes")

    def test_a_slot_that_is_gone_is_not_replaced(self, engine: Engine, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        config = pipeline(engine, source, [destination], "items")
        replicate(config, source, destination)
        source.run(f"SELECT pg_drop_replication_slot('{config.slot_name}')", "INSERT INTO items VALUES (2)")
        with pytest.raises(SlotInvalid, match=config.slot_name):
            failure(config)
        assert [(1,)] == destination.rows("SELECT id FROM items")
        assert [] == source.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")

    def test_garbage_is_collected_by_the_run_alone_while_it_streams(
        self, engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        with running(pipeline(engine, source, [destination], "items")) as worker:
            wait_until(worker, lambda: is_streaming(worker) and not gc.isenabled())
            circle: list[Any] = [threading.Event()]
            circle.append(circle)
            left = weakref.ref(circle[0])
            del circle
            assert left() is not None
            monkeypatch.setattr(gc_policy, "INTERVAL", 0)
            wait_until(worker, lambda: left() is None)
        assert gc.isenabled()

    def test_a_slot_that_was_created_again_is_noticed(self, engine: Engine, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (0)")
        config = pipeline(engine, source, [destination], "items")
        replicate(config, source, destination)
        source.run(
            f"SELECT pg_drop_replication_slot('{config.slot_name}')",
            "INSERT INTO items VALUES (1)",
            f"SELECT pg_create_logical_replication_slot('{config.slot_name}', 'pgoutput')",
        )
        with pytest.raises(SlotInvalid, match=r"created again.*rosetta resync"):
            failure(config)
        assert [(0,)] == destination.rows("SELECT * FROM items")

    @debezium_in_the_long_run
    def test_rows_of_somebody_else_stop_the_pipeline_and_stay(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        destination.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (5)")
        config = pipeline(engine, source, [destination], "items")
        with pytest.raises(TableNotOurs, match=r"public\.items"):
            failure(config)
        assert [(5,)] == destination.rows("SELECT id FROM items")
        assert [] == source.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        destination.run("TRUNCATE items")
        replicate(config, source, destination)

    @debezium_in_the_long_run
    def test_a_copy_that_the_destination_refuses_is_an_error_of_the_destination(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        destination.run("CREATE TABLE items (id int PRIMARY KEY CONSTRAINT small CHECK (id < 1))")
        with pytest.raises(DestinationRejected, match="small"):
            failure(pipeline(engine, source, [destination], "items"))

    def test_the_slot_moves_while_only_other_tables_are_written(
        self, engine: Engine, source: Database, destination: Database, quick_beats: None
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "CREATE TABLE unpublished (n int)")
        config = pipeline(engine, source, [destination], "items")
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            for _ in range(2):
                source.run("INSERT INTO unpublished SELECT generate_series(1, 1000)")
                written = current_lsn(source)
                wait_until(worker, lambda written=written: confirmed_lsn(source, config) >= written)  # type: ignore[misc]

    @only_debezium
    def test_a_stopped_run_leaves_no_thread_in_the_jvm(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        config = pipeline(engine, source, [destination], "items")
        replicate(config, source, destination)
        before = java_thread_count()
        for _ in range(3):
            replicate(config, source, destination)
        assert java_thread_count() <= before

    @only_pgoutput
    def test_what_the_driver_says_of_its_cleaning_up_is_not_logged(
        self, engine: Engine, source: Database, destination: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        replicate(pipeline(engine, source, [destination], "items"), source, destination)
        logging.getLogger("psycopg").warning("error ignored in %s: %s", "rollback", "CONTEXT: COPY items, line 1: secret")
        logging.getLogger("psycopg").warning("anything else")
        assert ["anything else"] == [record.getMessage() for record in caplog.records if record.name == "psycopg"]

    def test_a_stopped_run_leaves_no_walsender(self, engine: Engine, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        config = pipeline(engine, source, [destination], "items")
        worker = Worker(config)
        worker.start()
        try:
            wait_until(worker, lambda: is_streaming(worker) and bool(walsenders(config)))
        finally:
            assert worker.stop(TIMEOUT)
        assert_no_walsender(config)
        assert [(False,)] == source.rows(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{config.slot_name}'")
        assert [] == source.rows(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%rosetta%' AND datname = current_database()"
        )
