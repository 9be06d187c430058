"""Tables that break, are added, or are copied again, while the others of their pipeline go on."""

from collections.abc import Callable

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableState
from rosetta_dagster.cdc.errors import DestinationRejected
from tests.support.database import Database
from tests.support.engines import debezium_in_the_long_run
from tests.support.orders_and_notes import NOTES, ORDERS, forget, table_state, with_tables
from tests.support.pipelines import (
    failure,
    pipeline,
    replicate,
    running,
    wait_until,
    wait_until_equal,
)


class TestBrokenTables:
    def test_a_table_that_breaks_is_set_aside_and_the_others_go_on(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        destination.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (amount < 5000)")
        with running(both) as worker:
            source.run("BEGIN; INSERT INTO orders VALUES (5000, 5000); INSERT INTO notes VALUES (1, 'with it'); COMMIT")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)
            reason = worker.report().states[ORDERS][1]
            assert reason is not None
            assert "CheckViolation" in reason
            assert "constraint small" in reason
            assert TableState.STREAMING is table_state(worker, NOTES)
        assert [(1000,)] == destination.rows("SELECT count(*) FROM orders")
        source.run("INSERT INTO orders VALUES (1001, 1)", "INSERT INTO notes VALUES (2, 'after it')")
        with running(both) as worker:
            wait_until_equal(worker, source, destination, NOTES)
            assert reason == worker.report().states[ORDERS][1]
        destination.run("ALTER TABLE orders DROP CONSTRAINT small")
        forget(both, ORDERS)
        replicate(both, source, destination)

    def test_the_last_table_that_breaks_ends_the_run_and_loses_nothing(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        alone = with_tables(both, ORDERS)
        destination.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (amount < 5000)")
        source.run("INSERT INTO orders VALUES (5000, 5000)")
        with pytest.raises(DestinationRejected):
            failure(alone)
        source.run("INSERT INTO orders VALUES (1001, 1)")
        destination.run("ALTER TABLE orders DROP CONSTRAINT small")
        replicate(alone, source, destination)

    @debezium_in_the_long_run
    def test_a_table_that_cannot_be_copied_does_not_stop_the_others(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY)", "CREATE TABLE notes (id int PRIMARY KEY)")
        source.run("INSERT INTO orders VALUES (1)", "INSERT INTO notes VALUES (1)")
        destination.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders VALUES (7)")
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        with running(config) as worker:
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)
        assert [(7,)] == destination.rows("SELECT id FROM orders")
        destination.run("TRUNCATE orders")
        replicate(config, source, destination)

    @debezium_in_the_long_run
    def test_at_one_destination_a_table_may_break_and_at_another_go_on(
        self,
        engine: Engine,
        both: PipelineConfig,
        source: Database,
        destination: Database,
        new_database: Callable[[str], Database],
    ) -> None:
        second = new_database("second")
        config = pipeline(engine, source, [destination, second], ORDERS, NOTES)
        replicate(config, source, destination, second)
        second.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (amount < 5000)")
        with running(config) as worker:
            source.run("INSERT INTO orders VALUES (5000, 5000)", "INSERT INTO notes VALUES (3)")
            wait_until_equal(worker, source, destination, ORDERS, NOTES)
            wait_until_equal(worker, source, second, NOTES)
        assert [(1000,)] == second.rows("SELECT count(*) FROM orders")
