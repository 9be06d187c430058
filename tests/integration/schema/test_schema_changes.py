"""Schema changes that are followed, and those that set their table aside."""

import re
from functools import partial

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, SchemaPolicy, TableState
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database, digest_of
from tests.support.orders_and_notes import NOTES, ORDERS, forget, table_state, wait_until_same
from tests.support.pipelines import is_streaming, pipeline, replicate, running, wait_until, wait_until_equal

FOLLOWED = [
    ("ALTER TABLE orders ADD COLUMN more int", "INSERT INTO orders (id, more) VALUES (0, 7)"),
    ("ALTER TABLE orders ADD COLUMN more int DEFAULT 5", "UPDATE orders SET amount = 0 WHERE id < 10"),
    (
        "ALTER TABLE orders ADD COLUMN more timestamptz NOT NULL DEFAULT '2024-02-29 12:00+00'",
        "INSERT INTO orders VALUES (0, 0, 'x', '2020-01-01 00:00+00')",
    ),
    (
        "ALTER TABLE orders ADD COLUMN more text DEFAULT 'it''s'; ALTER TABLE orders ALTER COLUMN more DROP DEFAULT",
        "INSERT INTO orders (id) VALUES (0)",
    ),
    ("ALTER TABLE orders DROP COLUMN body", "INSERT INTO orders VALUES (0, 7)"),
    ("ALTER TABLE orders DROP COLUMN amount", "INSERT INTO orders VALUES (0, 'x')"),
    ("ALTER TABLE orders RENAME COLUMN amount TO total", "UPDATE orders SET total = 0 WHERE id < 10"),
    ("ALTER TABLE orders RENAME COLUMN id TO number", "DELETE FROM orders WHERE number < 10"),
    (
        "ALTER TABLE orders ALTER COLUMN amount TYPE bigint",
        "INSERT INTO orders VALUES (0, 9000000000)",
    ),
    ("ALTER TABLE orders ALTER COLUMN amount TYPE text", "INSERT INTO orders VALUES (0, 'many')"),
    (
        "ALTER TABLE orders RENAME COLUMN amount TO total; ALTER TABLE orders ADD COLUMN amount text DEFAULT 'new'",
        "INSERT INTO orders VALUES (0, 1, 'x', 'newer')",
    ),
    (
        "ALTER TABLE orders RENAME amount TO a; ALTER TABLE orders ADD x int; ALTER TABLE orders RENAME x TO amount",
        "INSERT INTO orders VALUES (0, 1, 'x', 2)",
    ),
    (
        "ALTER TABLE orders RENAME id TO a; ALTER TABLE orders RENAME body TO id; ALTER TABLE orders RENAME a TO body",
        "DELETE FROM orders WHERE body < 10",
    ),
    (
        "ALTER TABLE orders RENAME body TO b; ALTER TABLE orders RENAME id TO body",
        "DELETE FROM orders WHERE body < 10",
    ),
]


@pytest.fixture
def altered(engine: Engine, source: Database, destination: Database) -> PipelineConfig:
    """A pipeline with a table for each of `FOLLOWED`, that has run once."""
    tables = [TableId("public", f"orders_{number}") for number in range(len(FOLLOWED))]
    for table in tables:
        source.run(
            f"CREATE TABLE {table.name} (id bigint PRIMARY KEY, amount int, body text)",
            f"INSERT INTO {table.name} SELECT n, n FROM generate_series(1, 1000) AS n",
        )
    config = pipeline(engine, source, [destination], *tables)
    replicate(config, source, destination)
    return config


def alter(source: Database, table: TableId, statements: tuple[str, str]) -> None:
    source.run(*(statement.replace("orders", table.name) for statement in statements))


def streams(worker: Worker, table: TableId) -> bool:
    return table_state(worker, table) is TableState.STREAMING


class TestSchemaChanges:
    # One run for all the cases: each is a table of its own, and they do not touch each other.
    def test_what_can_be_followed_is(self, altered: PipelineConfig, source: Database, destination: Database) -> None:
        tables = [table.id for table in altered.tables]
        with running(altered) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            # When these are there, nobody still reads the catalog on their behalf.
            source.run(*(f"INSERT INTO {table.name} VALUES (5000, 1, 'before')" for table in tables))
            wait_until_equal(worker, source, destination, *tables)
            for table, statements in zip(tables, FOLLOWED, strict=True):
                alter(source, table, statements)
            for table in tables:
                wait_until_same(worker, source, destination, table)
                # One whose rows were written again is copied, and may be equal before its copy is complete.
                wait_until(worker, partial(streams, worker, table))

    def test_what_happened_while_nobody_read_is_followed_in_order(
        self, altered: PipelineConfig, source: Database, destination: Database
    ) -> None:
        tables = [table.id for table in altered.tables]
        for table, statements in zip(tables, FOLLOWED, strict=True):
            source.run(
                f"INSERT INTO {table.name} VALUES (5000, 1, 'before')", f"UPDATE {table.name} SET amount = 2 WHERE id = 1"
            )
            alter(source, table, statements)
        with running(altered) as worker:
            for table in tables:
                wait_until_same(worker, source, destination, table)
                wait_until(worker, partial(streams, worker, table))

    @pytest.mark.parametrize(
        "statement",
        [
            "ALTER TABLE orders ADD COLUMN body text",
            "ALTER TABLE orders ADD COLUMN body int DEFAULT 7",
            "ALTER TABLE orders RENAME COLUMN amount TO body",
            "ALTER TABLE orders RENAME COLUMN id TO body",
        ],
    )
    def test_a_name_kept_of_a_dropped_column_sets_the_table_aside(
        self, both: PipelineConfig, source: Database, destination: Database, statement: str
    ) -> None:
        source.run("UPDATE orders SET body = 'old' WHERE id < 100")
        replicate(both, source, destination)
        source.run("ALTER TABLE orders DROP COLUMN body", "INSERT INTO orders VALUES (0, 1)")
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)
        source.run(statement, "INSERT INTO orders VALUES (-1, 1)")
        with running(both) as worker:
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)
            assert "already has a column body" in str(worker.report().states[ORDERS][1])
        forget(both, ORDERS)
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)

    @pytest.mark.parametrize("more", ["", "; ALTER TABLE orders ALTER more DROP DEFAULT"])
    def test_a_default_of_a_partitioned_table_is_followed(
        self, engine: Engine, source: Database, destination: Database, more: str
    ) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int) PARTITION BY RANGE (id)",
            "CREATE TABLE few PARTITION OF orders FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE others PARTITION OF orders DEFAULT PARTITION BY HASH (id)",
            "CREATE TABLE other PARTITION OF others FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            "CREATE TABLE notes (id int PRIMARY KEY)",
            "INSERT INTO orders SELECT n, n FROM generate_series(1, 20) AS n",
        )
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(f"ALTER TABLE orders ADD COLUMN more int DEFAULT 5{more}", "INSERT INTO orders VALUES (21, 21, 6)")
        with running(config) as worker:
            wait_until_same(worker, source, destination, ORDERS)
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.STREAMING)

    def test_null_in_a_column_that_has_a_default_stays_null(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        source.run(
            "ALTER TABLE orders ALTER amount SET DEFAULT 5, ALTER body SET DEFAULT 'x'",
            "INSERT INTO orders VALUES (0, NULL, NULL)",
            "UPDATE orders SET amount = NULL WHERE id < 10",
        )
        replicate(both, source, destination)

    def test_what_is_prepared_ahead_of_a_rename_is_prepared_under_the_old_name(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL, body int NOT NULL)",
            "CREATE TABLE notes (id int PRIMARY KEY)",
        )
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(
            "INSERT INTO orders VALUES (1, 2, 3)",
            "ALTER TABLE orders RENAME id TO number",
            "ALTER TABLE orders RENAME amount TO id",
            "ALTER TABLE orders RENAME body TO amount",
            "ALTER TABLE orders ALTER id TYPE bigint, ALTER id DROP NOT NULL, ALTER amount TYPE text",
            "INSERT INTO orders VALUES (2, NULL, 'x')",
        )
        with running(config) as worker:
            wait_until_same(worker, source, destination, ORDERS)
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.STREAMING)

    def test_a_table_that_is_copied_again_follows_the_names_of_its_key(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        forget(both, ORDERS)
        source.run("ALTER TABLE orders RENAME id TO number", "ALTER TABLE orders RENAME amount TO id")
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)

    def test_a_column_that_may_be_null_now_takes_null(self, engine: Engine, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL)", "CREATE TABLE notes (id int PRIMARY KEY)"
        )
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("ALTER TABLE orders ALTER COLUMN amount DROP NOT NULL", "INSERT INTO orders VALUES (1, NULL)")
            wait_until_equal(worker, source, destination, ORDERS)

    def test_a_column_that_took_null_before_it_was_dropped_takes_it(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL)", "CREATE TABLE notes (id int PRIMARY KEY)"
        )
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(
            "INSERT INTO orders VALUES (1, 5)",
            "ALTER TABLE orders ALTER amount DROP NOT NULL",
            "INSERT INTO orders VALUES (2, NULL)",
            "ALTER TABLE orders DROP amount",
            "INSERT INTO orders VALUES (3)",
        )
        with running(config) as worker:
            wait_until(worker, lambda: destination.rows("SELECT max(id) FROM orders") == [(3,)])
            assert [(1, 5), (2, None), (3, None)] == destination.rows("SELECT id, amount FROM orders ORDER BY id")
            assert TableState.STREAMING is table_state(worker, ORDERS)

    def test_rows_without_a_key_are_found_by_nulls_that_the_column_no_longer_allows(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE orders (amount int, body text)",
            "ALTER TABLE orders REPLICA IDENTITY FULL",
            "CREATE TABLE notes (id int PRIMARY KEY)",
            "INSERT INTO orders VALUES (1, NULL), (NULL, 'x')",
        )
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(
            "UPDATE orders SET amount = 2 WHERE amount IS NULL",
            "UPDATE orders SET body = 'y' WHERE body IS NULL",
            "ALTER TABLE orders ALTER amount SET NOT NULL, ALTER body SET NOT NULL",
        )
        replicate(config, source, destination)

    def test_a_longer_text_fits_after_the_column_was_widened(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, code varchar(3))", "CREATE TABLE notes (id int PRIMARY KEY)")
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("ALTER TABLE orders ALTER COLUMN code TYPE varchar(9)", "INSERT INTO orders VALUES (1, 'longer')")
            wait_until_equal(worker, source, destination, ORDERS)

    def test_a_column_that_is_widened_twice_before_it_is_read_is_followed(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, code int)", "CREATE TABLE notes (id int PRIMARY KEY)")
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(
            *("INSERT INTO orders VALUES (1, 1)", "ALTER TABLE orders ALTER COLUMN code TYPE bigint"),
            *("INSERT INTO orders VALUES (2, 2)", "ALTER TABLE orders ALTER COLUMN code TYPE text"),
            "INSERT INTO orders VALUES (3, 'three')",
        )
        replicate(config, source, destination)

    def test_digits_that_the_old_type_had_no_place_for_are_kept(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, price numeric(4,2))", "CREATE TABLE notes (id int PRIMARY KEY)")
        config = pipeline(engine, source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("INSERT INTO orders VALUES (1, 1.23)")
            wait_until_equal(worker, source, destination, ORDERS)
            source.run("ALTER TABLE orders ALTER COLUMN price TYPE numeric", "INSERT INTO orders VALUES (2, 12.34567)")
            wait_until_equal(worker, source, destination, ORDERS)

    def test_a_column_is_distinguished_from_a_dropped_one_whose_place_it_took(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        with running(both) as worker:
            source.run("UPDATE orders SET body = 'old' WHERE id < 10", "INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, ORDERS, NOTES)
            source.run("ALTER TABLE orders DROP COLUMN body; ALTER TABLE orders ADD COLUMN body text")
            source.run("INSERT INTO orders VALUES (0, 1, 'new')")
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)

    def test_another_key_sets_the_table_aside_until_the_destination_has_it_too(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        with running(both) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (amount)")
            source.run("DELETE FROM orders WHERE amount = 5", "INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)
            reason = str(worker.report().states[ORDERS][1])
        remedy = re.search(r"no unique index on the key of public.orders \(amount\)\. Run (.*) at the destination", reason)
        assert remedy is not None
        destination.run(remedy[1])
        forget(both, ORDERS)
        replicate(both, source, destination)

    def test_with_the_other_policy_every_change_sets_the_table_aside(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        strict = both.model_copy(update={"on_schema_change": SchemaPolicy.STOP_TABLE})
        with running(strict) as worker:
            source.run("ALTER TABLE orders ADD COLUMN more int", "INSERT INTO orders (id, more) VALUES (0, 7)")
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)
            source.run("INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, NOTES)
        assert [] == destination.rows("SELECT FROM pg_attribute WHERE attname = 'more'")
        forget(strict, ORDERS)
        replicate(strict, source, destination)

    def test_what_cannot_be_followed_sets_the_table_aside_until_it_is_copied_again(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        with running(both) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("ALTER TABLE orders ALTER COLUMN amount TYPE bytea USING int4send(amount)")
            source.run("INSERT INTO orders (id, amount) VALUES (0, '0')", "INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: table_state(worker, ORDERS) is TableState.ERROR)
        forget(both, ORDERS)
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)
            assert digest_of(source, NOTES) == digest_of(destination, NOTES)
