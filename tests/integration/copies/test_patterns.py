"""Patterns of tables: those that are created later are published and copied, and what would surprise is skipped."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Status, TableState
from rosetta_dagster.cdc.run import pattern_watch, supervision
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database, digest_of, digest_or_none
from tests.support.supervised import Run, put_rows
from tests.support.waiting import eventually

TABLES = ("shop.*", "Odd.Place.in?oice ?*")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern_watch, "INSPECTION_INTERVAL", 0.3)
    monkeypatch.setattr(supervision, "CHANGE_INTERVAL", 0.5)


@contextmanager
def supervised(store: Store, name: str) -> Iterator[None]:
    """A run that goes on in spite of everything that happens meanwhile."""
    run = Run(store, name)
    try:
        yield
    finally:
        store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def states(store: Store, name: str) -> dict[str, TableState]:
    return {str(record.id): record.state for record in store.tables(name)}


def wait_until_streaming(store: Store, name: str, *tables: str) -> None:
    eventually(lambda: states(store, name) == dict.fromkeys(tables, TableState.STREAMING))


def wait_until_equal(source: Database, destination: Database, *tables: str) -> None:
    with destination.connect() as reader:
        expected = {TableId.parse(table): digest_of(source, table) for table in tables}
        eventually(lambda: {table: digest_or_none(reader, table) for table in expected} == expected)


def skipped(store: Store, name: str) -> dict[str, str]:
    return {str(each.id): each.reason for each in store.skipped_tables(name)}


def create_shop(source: Database) -> None:
    source.run(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id int PRIMARY KEY, n int)",
        "INSERT INTO shop.orders SELECT n, n FROM generate_series(1, 500) AS n",
    )


def test_a_table_that_is_created_during_a_load_arrives_equal(
    engine: Engine, store: Store, source: Database, destination: Database
) -> None:
    create_shop(source)
    name = put_rows(store, source, destination, "shop.*", engine=engine, exclude_tables=("shop.tmp_*",))
    with supervised(store, name):
        wait_until_streaming(store, name, "shop.orders")
        stop = threading.Event()
        rounds = [0]

        def load() -> None:
            with source.connect() as writer:
                writer.execute("CREATE TABLE shop.late (id int PRIMARY KEY, n int)")
                writer.execute("CREATE TABLE shop.tmp_1 (id int PRIMARY KEY)")
                while not stop.is_set():
                    n = rounds[0] = rounds[0] + 1
                    writer.execute("INSERT INTO shop.orders VALUES (%s, 0)", [1000 + n])
                    writer.execute("INSERT INTO shop.late VALUES (%s, 0)", [n])
                    writer.execute("UPDATE shop.late SET n = n + 1 WHERE id = %s", [n - n % 100])
                    writer.execute("DELETE FROM shop.late WHERE id = %s", [n - 150])

        writing = threading.Thread(target=load)
        began = time.monotonic()
        writing.start()
        try:
            wait_until_streaming(store, name, "shop.late", "shop.orders")
        finally:
            stop.set()
            writing.join()
        # Some 2,000 transactions a second on a machine that is not busy.
        assert 200 < 4 * rounds[0] / (time.monotonic() - began), "this is no load"
        wait_until_equal(source, destination, "shop.orders", "shop.late")
    assert {} == skipped(store, name)


def test_what_would_surprise_is_skipped_until_its_reason_is_gone(
    store: Store, source: Database, destination: Database
) -> None:
    create_shop(source)
    source.run('CREATE SCHEMA "Odd"', 'CREATE TABLE "Odd"."Place.invoice ""1" (id int PRIMARY KEY)')
    source.run('CREATE TABLE "Odd"."Place.inXXoice ""2" (id int PRIMARY KEY)', "CREATE SCHEMA shop_eu")
    source.run("CREATE TABLE shop_eu.orders (id int PRIMARY KEY)", "CREATE VIEW shop.view AS SELECT 1 AS one")
    name = put_rows(store, source, destination, *TABLES, max_tables=5)
    named = ["shop.orders", 'Odd.Place.invoice "1']
    with supervised(store, name):
        wait_until_streaming(store, name, *named)
        before = source.rows("SELECT active_pid FROM pg_replication_slots WHERE database = current_database()")
        source.run(
            "CREATE TABLE shop.keyless (id int)",
            "CREATE UNLOGGED TABLE shop.quick (id int PRIMARY KEY)",
            "CREATE TABLE public.whole (id int) PARTITION BY RANGE (id)",
            "CREATE TABLE shop.leaf PARTITION OF public.whole DEFAULT",
        )
        eventually(lambda: skipped(store, name).keys() == {"shop.keyless", "shop.quick", "shop.leaf"})
        assert "REPLICA IDENTITY FULL" in skipped(store, name)["shop.keyless"]
        assert before == source.rows("SELECT active_pid FROM pg_replication_slots WHERE database = current_database()"), (
            "the stream goes on"
        )
        source.run("UPDATE shop.orders SET n = 1", "ALTER TABLE shop.keyless ADD PRIMARY KEY (id)")
        source.run(
            "ALTER TABLE shop.quick SET LOGGED", "CREATE TABLE shop.parts (id int PRIMARY KEY) PARTITION BY RANGE (id)"
        )
        source.run("CREATE TABLE shop.a_part PARTITION OF shop.parts DEFAULT")
        wait_until_streaming(store, name, *named, "shop.keyless", "shop.quick", "shop.parts")
        source.run("CREATE TABLE shop.sixth (id int PRIMARY KEY)")
        eventually(lambda: "shop.sixth" in skipped(store, name))
        assert "--max-tables" in skipped(store, name)["shop.sixth"]
        with store.connected() as connection:
            connection.execute("UPDATE pipelines SET max_tables = 6")
        wait_until_streaming(store, name, *named, "shop.keyless", "shop.quick", "shop.parts", "shop.sixth")
        wait_until_equal(source, destination, *named, "shop.keyless", "shop.quick", "shop.parts", "shop.sixth")


def test_patterns_change_while_the_pipeline_runs_and_named_tables_stay(
    store: Store, config_database: Database, source: Database, destination: Database
) -> None:
    create_shop(source)
    source.run("CREATE TABLE shop.items (id int PRIMARY KEY)", "CREATE TABLE shop.named (id int PRIMARY KEY, note text)")
    name = put_rows(store, source, destination, "shop.*", "shop.named")
    with supervised(store, name), config_database.connect() as connection:
        wait_until_streaming(store, name, "shop.items", "shop.named", "shop.orders")
        # What an operator changes in the row stays: the pattern is the same.
        connection.execute("UPDATE pipeline_tables SET row_filter = 'id > 250' WHERE table_name = 'orders'")
        eventually(lambda: [(250,)] == destination.rows("SELECT count(*) FROM shop.orders"))
        source.run("CREATE TABLE shop.another (id int PRIMARY KEY)")
        wait_until_streaming(store, name, "shop.another", "shop.items", "shop.named", "shop.orders")
        assert "id > 250" == next(each.where for each in store.pipeline(name).tables if each.id.name == "orders")
        connection.execute("UPDATE pipeline_patterns SET table_name = 'o*', options = '{\"comments\": false}'")
        wait_until_streaming(store, name, "shop.named", "shop.orders")
        assert {"named": (True, None), "orders": (False, None)} == {
            each.id.name: (each.comments, each.where) for each in store.pipeline(name).tables
        }
        eventually(lambda: [(500,)] == destination.rows("SELECT count(*) FROM shop.orders"))
        connection.execute("DELETE FROM pipeline_patterns")
        wait_until_streaming(store, name, "shop.named")
        published = "SELECT schemaname, tablename FROM pg_publication_tables"
        eventually(lambda: [("shop", "named")] == source.rows(published))


def test_a_pattern_without_a_table_waits_for_one(store: Store, source: Database, destination: Database) -> None:
    source.run("CREATE SCHEMA shop")
    name = put_rows(store, source, destination, "shop.*")
    error = Run(store, name).wait()
    assert error is not None
    assert error.transient
    assert "No table of source db matches" in str(error)
    source.run("CREATE TABLE shop.first (id int PRIMARY KEY)")
    with supervised(store, name):
        wait_until_streaming(store, name, "shop.first")
