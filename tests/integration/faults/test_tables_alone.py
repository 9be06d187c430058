"""Tables that break, are added, or are copied anew, while the others of their pipeline go on."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import sql

from rosetta_dagster.cdc.change import pages
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, SchemaPolicy, TableConfig, TableState
from rosetta_dagster.cdc.copy import snapshot, spool
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import DestinationRejected, TableAltered
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from rosetta_dagster.cdc.source.slots import SnapshotStopped
from rosetta_dagster.cdc.table_id import TableId
from tests.conftest import Database
from tests.integration.delivery import test_replication as replication
from tests.integration.delivery.test_replication import (
    BIG,
    TIMEOUT,
    assert_no_walsender,
    digest_of,
    failure,
    is_streaming,
    only_pgoutput,
    pipeline,
    replicate,
    running,
    slow_down,
    wait_until,
    wait_until_equal,
)

ORDERS, NOTES = TableId("public", "orders"), TableId("public", "notes")


@pytest.fixture(autouse=True, params=list(Engine))
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Every test runs over every engine."""
    chosen: Engine = request.param
    monkeypatch.setattr(replication, "ENGINE", chosen)
    return chosen


@pytest.fixture
def both(source: Database, destination: Database) -> PipelineConfig:
    """A pipeline of two tables, one with a key and one without, that has run once."""
    source.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, amount int, body text)",
        "CREATE TABLE notes (n int, said text)",
        "ALTER TABLE notes REPLICA IDENTITY FULL",
        "INSERT INTO orders SELECT n, n FROM generate_series(1, 1000) AS n",
        "INSERT INTO notes SELECT n % 10 FROM generate_series(1, 1000) AS n",
    )
    config = pipeline(source, [destination], ORDERS, NOTES)
    replicate(config, source, destination)
    return config


def state_of(worker: Worker, table: TableId) -> TableState | None:
    return worker.report().states.get(table, (None, None))[0]


def forget(config: PipelineConfig, *tables: TableId) -> None:
    make_destination(config.destinations[0], config).forget(list(tables))


def held_up(released: threading.Event) -> None:
    assert released.wait(TIMEOUT)


def with_tables(config: PipelineConfig, *tables: TableId) -> PipelineConfig:
    return config.model_copy(update={"tables": tuple(TableConfig(id=table) for table in tables)})


class TestBrokenTables:
    def test_a_table_that_breaks_is_set_aside_and_the_others_go_on(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        destination.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (amount < 5000)")
        with running(both) as worker:
            source.run("BEGIN; INSERT INTO orders VALUES (5000, 5000); INSERT INTO notes VALUES (1, 'with it'); COMMIT")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)
            reason = worker.report().states[ORDERS][1]
            assert reason is not None
            assert "CheckViolation" in reason
            assert "constraint small" in reason
            assert TableState.STREAMING is state_of(worker, NOTES)
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

    def test_a_table_that_cannot_be_copied_does_not_stop_the_others(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY)", "CREATE TABLE notes (id int PRIMARY KEY)")
        source.run("INSERT INTO orders VALUES (1)", "INSERT INTO notes VALUES (1)")
        destination.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders VALUES (7)")
        config = pipeline(source, [destination], ORDERS, NOTES)
        with running(config) as worker:
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)
        assert [(7,)] == destination.rows("SELECT id FROM orders")
        destination.run("TRUNCATE orders")
        replicate(config, source, destination)

    def test_at_one_destination_a_table_may_break_and_at_another_go_on(
        self, both: PipelineConfig, source: Database, destination: Database, new_database: Callable[[str], Database]
    ) -> None:
        second = new_database("second")
        config = pipeline(source, [destination, second], ORDERS, NOTES)
        replicate(config, source, destination, second)
        second.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (amount < 5000)")
        with running(config) as worker:
            source.run("INSERT INTO orders VALUES (5000, 5000)", "INSERT INTO notes VALUES (3)")
            wait_until_equal(worker, source, destination, ORDERS, NOTES)
            wait_until_equal(worker, source, second, NOTES)
        assert [(1000,)] == second.rows("SELECT count(*) FROM orders")


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
            wait_until(worker, lambda: state_of(worker, TableId("public", "late")) is TableState.SNAPSHOT)
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
            wait_until(worker, lambda: state_of(worker, TableId("public", "later")) is TableState.STREAMING)
            source.run("INSERT INTO late VALUES (-100, 0)", "INSERT INTO orders VALUES (3000)")
            wait_until_equal(worker, source, destination, "late", "later", ORDERS)
        replicate(config, source, destination)

    def test_changes_that_waited_for_a_copy_are_not_applied_again_when_they_are_sent_again(
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
                wait_until(worker, lambda: state_of(worker, TableId("public", "late")) is TableState.SNAPSHOT)
                source.run("INSERT INTO late VALUES (2), (2)")
                released.set()
                wait_until_equal(worker, source, destination, "late")
        replicate(config, source, destination)
        source.run("INSERT INTO late VALUES (3)")
        replicate(config, source, destination)

    def test_a_column_that_comes_while_the_copy_begins_is_copied(
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
        config = pipeline(source, [destination], ORDERS)
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
        self, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, code varchar(3) NOT NULL, amount int NOT NULL)")
        config = pipeline(source, [destination], ORDERS)
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
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.STREAMING)
            wait_until_same(worker, source, destination, ORDERS)

    def test_a_run_that_ends_before_a_late_copy_does_begins_it_anew(
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

    def test_a_copy_that_waits_for_an_open_transaction_ends_when_it_is_told_to(
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
                assert TableState.PENDING is state_of(worker, TableId("public", "late"))
            assert_no_walsender(config)
            other.commit()
        replicate(config, source, destination)

    def test_a_table_that_is_forgotten_is_copied_anew_and_alone(
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


class TestResumedCopies:
    # Copies know no engine.
    @only_pgoutput
    def test_a_first_copy_that_was_broken_off_is_resumed_by_range(
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
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
        config = pipeline(source, [destination], ORDERS)
        copied: list[snapshot.Part] = []
        limit = 3
        load = snapshot.Copier._load

        def record(copier: snapshot.Copier, connections: Any, part: snapshot.Part, *arguments: Any) -> bool:
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
    def test_ranges_of_a_table_that_was_written_anew_are_not_resumed(
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "PAGES_PER_RANGE", 2)
        source.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 5000)")
        config = pipeline(source, [destination], ORDERS)
        with monkeypatch.context() as patched:
            slow_down(patched, lambda: time.sleep(0.2))
            worker = Worker(config)
            worker.start()
            wait_until(worker, lambda: bool(worker.report().tables))
            assert worker.stop(TIMEOUT)
        assert destination.rows("SELECT FROM rosetta.copied_ranges")
        source.run("TRUNCATE orders", "INSERT INTO orders SELECT generate_series(4000, 6000)")
        replicate(config, source, destination)


def with_target(config: PipelineConfig, table: TableId, namespace: str) -> PipelineConfig:
    """The pipeline with another target for one of its tables."""
    tables = (
        each.model_copy(update={"target_namespace": namespace}) if each.id == table else each for each in config.tables
    )
    return config.model_copy(update={"tables": tuple(tables)})


class TestChangedTargets:
    def test_a_table_with_another_target_is_copied_into_it_while_the_others_go_on(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        moved = with_target(both, ORDERS, "kept")
        source.run("UPDATE orders SET amount = -1 WHERE id < 10", "INSERT INTO notes VALUES (7, 'new')")
        kept = TableId("kept", "orders")
        with running(moved) as worker:
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.STREAMING)
            source.run("INSERT INTO orders VALUES (5000, 1, 'after')")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: digest_of(source, ORDERS).row_count == digest_of(destination, kept).row_count)
        assert sorted(rows(source, ORDERS)) == sorted(rows(destination, kept))
        # What was written before is nobody's to remove.
        assert [(1000, 0)] == destination.rows("SELECT count(*), count(*) FILTER (WHERE amount < 0) FROM orders")
        with running(moved) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            assert TableState.STREAMING is state_of(worker, ORDERS)

    @pytest.mark.parametrize("resync", [False, True])
    def test_rows_of_somebody_else_in_the_new_target_stay(
        self, both: PipelineConfig, source: Database, destination: Database, resync: bool
    ) -> None:
        destination.run("CREATE SCHEMA kept", "CREATE TABLE kept.orders (LIKE orders INCLUDING ALL)")
        destination.run("INSERT INTO kept.orders VALUES (7, 7, 'precious')")
        moved = with_target(both, ORDERS, "kept")
        if resync:
            forget(moved, ORDERS)
        with running(moved) as worker:
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)
            assert "rows that Rosetta did not write" in str(worker.report().states[ORDERS][1])
            source.run("UPDATE orders SET amount = -1 WHERE id < 10", "INSERT INTO notes VALUES (7, 'new')")
            wait_until_equal(worker, source, destination, NOTES)
        assert [(7, 7, "precious")] == destination.rows("SELECT * FROM kept.orders")
        # Back where it was, it lacks what passed by.
        replicate(both, source, destination)

    def test_a_copy_from_before_targets_were_noted_is_of_the_target_of_now(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        before = destination.rows("SELECT lsn FROM rosetta.copies ORDER BY table_name")
        destination.run("ALTER TABLE rosetta.copies DROP COLUMN target_schema, DROP COLUMN target_name")
        source.run("INSERT INTO orders VALUES (5000, 1, 'after')")
        replicate(both, source, destination)
        assert before == destination.rows("SELECT lsn FROM rosetta.copies ORDER BY table_name")
        assert [("notes",), ("orders",)] == destination.rows("SELECT target_name FROM rosetta.copies ORDER BY 1")
        replicate(with_target(both, ORDERS, "public"), source, destination)
        assert before == destination.rows("SELECT lsn FROM rosetta.copies ORDER BY table_name")


def rows(database: Database, table: TableId) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*table))).fetchall()


@pytest.mark.parametrize("engine", [Engine.PGOUTPUT], indirect=True)  # no engine takes part in a copy
class TestTablesThatAreAlteredWhileTheyAreCopied:
    @pytest.mark.parametrize(
        "statement",
        [
            # Rows that are written anew are not there for a snapshot of before.
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
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch, statement: str, *, is_late: bool
    ) -> None:
        source.run(
            "CREATE TABLE notes (id int PRIMARY KEY)", "CREATE TABLE orders (id int PRIMARY KEY, amount int, total int)"
        )
        source.run("INSERT INTO orders SELECT n, n, -n FROM generate_series(1, 100) AS n")
        if is_late:
            replicate(pipeline(source, [destination], NOTES), source, destination)
        config = pipeline(source, [destination], NOTES, ORDERS)
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
                with pytest.raises(TableAltered, match="was altered or written anew"):
                    worker.wait(TIMEOUT)
            finally:
                altered.set()
                worker.stop(TIMEOUT)
        with running(config) as worker:
            wait_until_same(worker, source, destination, ORDERS)


def same_columns(source: Database, destination: Database, table: TableId) -> bool:
    """Whether the destination has the source's columns with their types; it may have more."""
    query = (
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{table.name}'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    return set(source.rows(query)) <= set(destination.rows(query))


def rows_of(database: Database, columns: list[tuple[str]], table: TableId) -> list[tuple[object, ...]]:
    names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in columns)
    with database.connect() as connection:
        query = sql.SQL("SELECT {} FROM {} ORDER BY 1, 2").format(names, sql.Identifier(*table))
        return connection.execute(query).fetchall()


def wait_until_same(worker: Worker, source: Database, destination: Database, table: TableId) -> None:
    """Wait until the destination holds the source's rows in the source's columns."""
    columns = source.rows(
        f"SELECT attname::text FROM pg_attribute WHERE attrelid = '{table.name}'::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum"
    )
    expected = rows_of(source, columns, table)
    wait_until(
        worker,
        lambda: same_columns(source, destination, table) and expected == rows_of(destination, columns, table),
    )


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
def altered(source: Database, destination: Database) -> PipelineConfig:
    """A pipeline with a table for each of `FOLLOWED`, that has run once."""
    tables = [TableId("public", f"orders_{number}") for number in range(len(FOLLOWED))]
    for table in tables:
        source.run(
            f"CREATE TABLE {table.name} (id bigint PRIMARY KEY, amount int, body text)",
            f"INSERT INTO {table.name} SELECT n, n FROM generate_series(1, 1000) AS n",
        )
    config = pipeline(source, [destination], *tables)
    replicate(config, source, destination)
    return config


def alter(source: Database, table: TableId, statements: tuple[str, str]) -> None:
    source.run(*(statement.replace("orders", table.name) for statement in statements))


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
                assert TableState.STREAMING is state_of(worker, table)

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
                assert TableState.STREAMING is state_of(worker, table)

    @pytest.mark.parametrize(
        "statement",
        [
            "ALTER TABLE orders ADD COLUMN body text",
            "ALTER TABLE orders ADD COLUMN body int DEFAULT 7",
            "ALTER TABLE orders RENAME COLUMN amount TO body",
            "ALTER TABLE orders RENAME COLUMN id TO body",
        ],
    )
    def test_a_name_that_the_destination_still_has_of_a_dropped_column_sets_the_table_aside(
        self, both: PipelineConfig, source: Database, destination: Database, statement: str
    ) -> None:
        source.run("UPDATE orders SET body = 'old' WHERE id < 100")
        replicate(both, source, destination)
        source.run("ALTER TABLE orders DROP COLUMN body", "INSERT INTO orders VALUES (0, 1)")
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)
        source.run(statement, "INSERT INTO orders VALUES (-1, 1)")
        with running(both) as worker:
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)
            assert "already has a column body" in str(worker.report().states[ORDERS][1])
        forget(both, ORDERS)
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)

    @pytest.mark.parametrize("more", ["", "; ALTER TABLE orders ALTER more DROP DEFAULT"])
    def test_a_default_of_a_partitioned_table_is_followed(self, source: Database, destination: Database, more: str) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int) PARTITION BY RANGE (id)",
            "CREATE TABLE few PARTITION OF orders FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE others PARTITION OF orders DEFAULT PARTITION BY HASH (id)",
            "CREATE TABLE other PARTITION OF others FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            "CREATE TABLE notes (id int PRIMARY KEY)",
            "INSERT INTO orders SELECT n, n FROM generate_series(1, 20) AS n",
        )
        config = pipeline(source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(f"ALTER TABLE orders ADD COLUMN more int DEFAULT 5{more}", "INSERT INTO orders VALUES (21, 21, 6)")
        with running(config) as worker:
            wait_until_same(worker, source, destination, ORDERS)
            assert TableState.STREAMING is state_of(worker, ORDERS)

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
        self, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL, body int NOT NULL)",
            "CREATE TABLE notes (id int PRIMARY KEY)",
        )
        config = pipeline(source, [destination], ORDERS, NOTES)
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
            assert TableState.STREAMING is state_of(worker, ORDERS)

    def test_a_table_that_is_copied_anew_follows_the_names_of_its_key(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        forget(both, ORDERS)
        source.run("ALTER TABLE orders RENAME id TO number", "ALTER TABLE orders RENAME amount TO id")
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)

    def test_a_column_that_may_be_null_now_takes_null(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL)", "CREATE TABLE notes (id int PRIMARY KEY)"
        )
        config = pipeline(source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("ALTER TABLE orders ALTER COLUMN amount DROP NOT NULL", "INSERT INTO orders VALUES (1, NULL)")
            wait_until_equal(worker, source, destination, ORDERS)

    def test_a_column_that_took_null_before_it_was_dropped_takes_it(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY, amount int NOT NULL)", "CREATE TABLE notes (id int PRIMARY KEY)"
        )
        config = pipeline(source, [destination], ORDERS, NOTES)
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
            assert TableState.STREAMING is state_of(worker, ORDERS)

    def test_rows_without_a_key_are_told_by_their_nulls_although_there_are_none_any_more(
        self, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE orders (amount int, body text)",
            "ALTER TABLE orders REPLICA IDENTITY FULL",
            "CREATE TABLE notes (id int PRIMARY KEY)",
            "INSERT INTO orders VALUES (1, NULL), (NULL, 'x')",
        )
        config = pipeline(source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(
            "UPDATE orders SET amount = 2 WHERE amount IS NULL",
            "UPDATE orders SET body = 'y' WHERE body IS NULL",
            "ALTER TABLE orders ALTER amount SET NOT NULL, ALTER body SET NOT NULL",
        )
        replicate(config, source, destination)

    def test_a_longer_text_fits_after_the_column_was_widened(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, code varchar(3))", "CREATE TABLE notes (id int PRIMARY KEY)")
        config = pipeline(source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("ALTER TABLE orders ALTER COLUMN code TYPE varchar(9)", "INSERT INTO orders VALUES (1, 'longer')")
            wait_until_equal(worker, source, destination, ORDERS)

    def test_a_column_that_is_widened_twice_before_it_is_read_is_followed(
        self, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, code int)", "CREATE TABLE notes (id int PRIMARY KEY)")
        config = pipeline(source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        source.run(
            *("INSERT INTO orders VALUES (1, 1)", "ALTER TABLE orders ALTER COLUMN code TYPE bigint"),
            *("INSERT INTO orders VALUES (2, 2)", "ALTER TABLE orders ALTER COLUMN code TYPE text"),
            "INSERT INTO orders VALUES (3, 'three')",
        )
        replicate(config, source, destination)

    def test_digits_that_the_old_type_had_no_place_for_are_kept(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE orders (id int PRIMARY KEY, price numeric(4,2))", "CREATE TABLE notes (id int PRIMARY KEY)")
        config = pipeline(source, [destination], ORDERS, NOTES)
        replicate(config, source, destination)
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("INSERT INTO orders VALUES (1, 1.23)")
            wait_until_equal(worker, source, destination, ORDERS)
            source.run("ALTER TABLE orders ALTER COLUMN price TYPE numeric", "INSERT INTO orders VALUES (2, 12.34567)")
            wait_until_equal(worker, source, destination, ORDERS)

    def test_a_column_that_took_the_place_of_one_that_was_dropped_is_told_from_it(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        with running(both) as worker:
            source.run("UPDATE orders SET body = 'old' WHERE id < 10", "INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, ORDERS, NOTES)
            source.run("ALTER TABLE orders DROP COLUMN body; ALTER TABLE orders ADD COLUMN body text")
            source.run("INSERT INTO orders VALUES (0, 1, 'new')")
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)

    def test_another_key_sets_the_table_aside_until_the_destination_has_it_too(
        self, both: PipelineConfig, source: Database, destination: Database
    ) -> None:
        with running(both) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (amount)")
            source.run("DELETE FROM orders WHERE amount = 5", "INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)
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
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)
            source.run("INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, NOTES)
        assert [] == destination.rows("SELECT FROM pg_attribute WHERE attname = 'more'")
        forget(strict, ORDERS)
        replicate(strict, source, destination)

    @pytest.mark.parametrize(
        "statements",
        [
            ("ALTER TABLE orders ALTER COLUMN amount TYPE bytea USING int4send(amount)",),
            ("ALTER TABLE orders ADD COLUMN made timestamptz DEFAULT clock_timestamp()",),
        ],
    )
    def test_what_cannot_be_followed_sets_the_table_aside_until_it_is_copied_anew(
        self, both: PipelineConfig, source: Database, destination: Database, statements: tuple[str, ...]
    ) -> None:
        with running(both) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            source.run(*statements, "INSERT INTO orders (id, amount) VALUES (0, '0')", "INSERT INTO notes VALUES (0)")
            wait_until_equal(worker, source, destination, NOTES)
            wait_until(worker, lambda: state_of(worker, ORDERS) is TableState.ERROR)
        forget(both, ORDERS)
        with running(both) as worker:
            wait_until_same(worker, source, destination, ORDERS)
            assert digest_of(source, NOTES) == digest_of(destination, NOTES)
