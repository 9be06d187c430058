"""Tables that are added, copied again or given another target while the others of their pipeline go on."""

import threading
import time

import pytest

from rosetta_dagster.cdc.change import pages
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableState
from rosetta_dagster.cdc.copy import spool
from rosetta_dagster.cdc.errors import TableAltered
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database, digest_of
from tests.support.engines import debezium_in_the_long_run
from tests.support.orders_and_notes import NOTES, ORDERS, forget, held_up, rows, table_state, wait_until_same, with_tables
from tests.support.pipelines import (
    assert_no_walsender,
    is_streaming,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)
from tests.support.slow_copies import slow_down
from tests.support.waiting import TIMEOUT


class TestLateTables:
    def test_a_table_that_is_added_is_copied_while_the_others_go_on(
        self, both: PipelineConfig, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "PAGES_PER_RANGE", 8)
        monkeypatch.setattr(spool, "MEMORY_LIMIT", 1000)
        source.run(
            "CREATE TABLE late (id int PRIMARY KEY, n int)",
            "CREATE TABLE later (n int)",
            "ALTER TABLE later REPLICA IDENTITY FULL",
            "INSERT INTO late SELECT n, 0 FROM generate_series(1, 5000) AS n",
            "INSERT INTO later SELECT n % 100 FROM generate_series(1, 5000) AS n",
        )
        released = threading.Event()
        slow_down(monkeypatch, lambda: held_up(released))
        config = with_tables(both, ORDERS, NOTES, TableId("public", "late"), TableId("public", "later"))
        with running(config) as worker:
            wait_until(worker, lambda: table_state(worker, TableId("public", "late")) is TableState.SNAPSHOT)
            for n in range(5):
                source.run(
                    "BEGIN",
                    f"INSERT INTO orders VALUES ({2000 + n}, 1)",
                    f"UPDATE late SET n = n + 1 WHERE id % 5 = {n}",
                    f"DELETE FROM late WHERE id % 500 = {n}",
                    f"INSERT INTO late VALUES ({-n}, 0)",
                    f"UPDATE late SET id = id + 10000 WHERE id % 700 = {n}",
                    f"DELETE FROM later WHERE n = {n}",
                    "INSERT INTO later VALUES (7), (7)",
                    "COMMIT",
                )
            wait_until_equal(worker, source, destination, ORDERS, NOTES)
            assert [(0, 0)] == destination.rows("SELECT (SELECT count(*) FROM late), (SELECT count(*) FROM later)")
            released.set()
            wait_until_equal(worker, source, destination, "late", "later")
            wait_until(worker, lambda: table_state(worker, TableId("public", "later")) is TableState.STREAMING)
            source.run("INSERT INTO late VALUES (-100, 0)", "INSERT INTO orders VALUES (3000)")
            wait_until_equal(worker, source, destination, "late", "later", ORDERS)
        replicate(config, source, destination)

    def test_changes_that_waited_for_a_copy_are_not_applied_twice_when_sent_again(
        self, both: PipelineConfig, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE late (n int)", "ALTER TABLE late REPLICA IDENTITY FULL", "INSERT INTO late VALUES (1)")
        config = with_tables(both, ORDERS, NOTES, TableId("public", "late"))
        released = threading.Event()
        with monkeypatch.context() as patched:
            # As if the run was killed before it could tell the source.
            patched.setattr(PgoutputStream, "commit", lambda *_: None)
            patched.setattr(DebeziumStream, "commit", lambda *_: None)
            slow_down(patched, lambda: held_up(released))
            with running(config) as worker:
                source.run("INSERT INTO orders VALUES (2000)")
                wait_until_equal(worker, source, destination, ORDERS)
                wait_until(worker, lambda: table_state(worker, TableId("public", "late")) is TableState.SNAPSHOT)
                source.run("INSERT INTO late VALUES (2), (2)")
                released.set()
                wait_until_equal(worker, source, destination, "late")
        replicate(config, source, destination)
        source.run("INSERT INTO late VALUES (3)")
        replicate(config, source, destination)

    def test_a_column_that_comes_while_the_copy_begins_is_copied(
        self, engine: Engine, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
        config = pipeline(engine, source, [destination], ORDERS)
        with source.connect() as other:
            other.autocommit = False
            other.execute("INSERT INTO orders VALUES (2)")
            worker = Worker(config)
            worker.start()
            # The slot waits for the open transaction; the columns have been read.
            wait_until(
                worker, lambda: bool(source.rows("SELECT FROM pg_replication_slots WHERE database = current_database()"))
            )
            other.execute("ALTER TABLE orders ADD COLUMN amount int")
            other.execute("UPDATE orders SET amount = 7")
            other.commit()
        with pytest.raises(TableAltered):
            worker.wait(TIMEOUT)
        assert worker.stop(TIMEOUT)
        replicate(config, source, destination)

    def test_a_table_that_is_altered_before_its_first_copy_begins_is_made_to_fit(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, code varchar(3) NOT NULL, amount int NOT NULL)")
        config = pipeline(engine, source, [destination], ORDERS)
        with source.connect() as other:
            other.autocommit = False
            other.execute("INSERT INTO orders VALUES (1, 'abc', 1)")
            worker = Worker(config)
            worker.start()
            # The copy waits for the open transaction.
            made = "SELECT FROM pg_replication_slots WHERE database = current_database()"
            wait_until(worker, lambda: bool(source.rows(made)))
            assert worker.stop(TIMEOUT)
        source.run(
            "ALTER TABLE orders ALTER COLUMN code TYPE varchar(9), ALTER COLUMN code DROP NOT NULL",
            "ALTER TABLE orders RENAME COLUMN amount TO total",
            "INSERT INTO orders VALUES (2, 'longer', 2), (3, NULL, 3)",
        )
        with running(config) as worker:
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.STREAMING)
            wait_until_same(worker, source, destination, ORDERS)

    @debezium_in_the_long_run
    def test_a_late_copy_that_outlasts_its_run_begins_again_in_the_next_one(
        self, both: PipelineConfig, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE late (id int PRIMARY KEY, n int)", "INSERT INTO late SELECT generate_series(1, 2000)")
        config = with_tables(both, ORDERS, NOTES, TableId("public", "late"))
        with monkeypatch.context() as patched:
            patched.setattr(pages, "PAGES_PER_RANGE", 2)
            slow_down(patched, lambda: time.sleep(0.3))
            with running(config) as worker:
                wait_until(worker, lambda: bool(destination.rows("SELECT FROM rosetta.copied_ranges")))
                source.run("UPDATE late SET n = 1", "INSERT INTO orders VALUES (2000)", "DELETE FROM late WHERE id < 9")
                wait_until_equal(worker, source, destination, ORDERS)
        assert_no_walsender(config)
        source.run("UPDATE late SET n = 2 WHERE id % 3 = 0")
        replicate(config, source, destination)

    @debezium_in_the_long_run
    def test_a_copy_that_waits_for_an_open_transaction_can_be_stopped(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE late (id int PRIMARY KEY)", "INSERT INTO late VALUES (1)")
        config = with_tables(both, ORDERS, NOTES, TableId("public", "late"))
        with source.connect() as other:
            other.autocommit = False
            other.execute("INSERT INTO orders VALUES (2000)")
            with running(config) as worker:
                wait_until(worker, lambda: is_streaming(worker))
                source.run("INSERT INTO notes VALUES (11)")
                wait_until_equal(worker, source, destination, NOTES)
                assert TableState.PENDING is table_state(worker, TableId("public", "late"))
            assert_no_walsender(config)
            other.commit()
        replicate(config, source, destination)

    def test_a_table_that_is_forgotten_is_copied_again_and_alone(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        destination.run("UPDATE orders SET amount = -1", "UPDATE notes SET said = 'kept' WHERE n = 3")
        forget(both, ORDERS)
        source.run("DELETE FROM orders WHERE id < 10")
        with running(both) as worker:
            wait_until_equal(worker, source, destination, ORDERS)
        assert [(100,)] == destination.rows("SELECT count(*) FROM notes WHERE said = 'kept'")

    def test_a_table_that_comes_back_has_the_changes_that_it_missed(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        with running(with_tables(both, NOTES)) as worker:
            source.run("INSERT INTO orders VALUES (2000)", "INSERT INTO notes VALUES (12)")
            wait_until_equal(worker, source, destination, NOTES)
        assert [(1000,)] == destination.rows("SELECT count(*) FROM orders")
        replicate(both, source, destination)


def with_target(config: PipelineConfig, table: TableId, namespace: str) -> PipelineConfig:
    """The pipeline with another target for one of its tables."""
    tables = (
        each.model_copy(update={"target_namespace": namespace}) if each.id == table else each for each in config.tables
    )
    return config.model_copy(update={"tables": tuple(tables)})


class TestChangedTargets:
    @debezium_in_the_long_run
    def test_a_table_with_another_target_is_copied_into_it_while_the_others_go_on(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        moved = with_target(both, ORDERS, "kept")
        source.run("UPDATE orders SET amount = -1 WHERE id < 10", "INSERT INTO notes VALUES (7, 'new')")
        kept = TableId("kept", "orders")
        with running(moved) as worker:
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.STREAMING)
            source.run("INSERT INTO orders VALUES (5000, 1, 'after')")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: digest_of(source, ORDERS).row_count == digest_of(destination, kept).row_count)
        assert sorted(rows(source, ORDERS)) == sorted(rows(destination, kept))
        # What was written before is nobody's to remove.
        assert [(1000, 0)] == destination.rows("SELECT count(*), count(*) FILTER (WHERE amount < 0) FROM orders")
        with running(moved) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            assert TableState.STREAMING is table_state(worker, ORDERS)

    @pytest.mark.parametrize("resync", [False, True])
    @debezium_in_the_long_run
    def test_rows_of_somebody_else_in_the_new_target_stay(
        self, both: PipelineConfig, source: Database, destination: Database, resync: bool
    ) -> None:
        destination.run("CREATE SCHEMA kept", "CREATE TABLE kept.orders (LIKE orders INCLUDING ALL)")
        destination.run("INSERT INTO kept.orders VALUES (7, 7, 'precious')")
        moved = with_target(both, ORDERS, "kept")
        if resync:
            forget(moved, ORDERS)
        with running(moved) as worker:
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)
            assert "rows that Rosetta did not write" in str(worker.report().states[ORDERS][1])
            source.run("UPDATE orders SET amount = -1 WHERE id < 10", "INSERT INTO notes VALUES (7, 'new')")
            wait_until_equal(worker, source, destination, NOTES)
        assert [(7, 7, "precious")] == destination.rows("SELECT * FROM kept.orders")
        # Back where it was, it lacks what passed by.
        replicate(both, source, destination)

    @debezium_in_the_long_run
    def test_a_copy_from_before_targets_were_noted_is_of_the_target_of_now(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        before = destination.rows("SELECT lsn FROM rosetta.copies ORDER BY table_name")
        destination.run(
            "ALTER TABLE rosetta.copies DROP COLUMN target_schema, DROP COLUMN target_name, DROP COLUMN state_oid"
        )
        source.run("INSERT INTO orders VALUES (5000, 1, 'after')")
        replicate(both, source, destination)
        assert before == destination.rows("SELECT lsn FROM rosetta.copies ORDER BY table_name")
        assert [("notes",), ("orders",)] == destination.rows("SELECT target_name FROM rosetta.copies ORDER BY 1")
        replicate(with_target(both, ORDERS, "public"), source, destination)
        assert before == destination.rows("SELECT lsn FROM rosetta.copies ORDER BY table_name")
