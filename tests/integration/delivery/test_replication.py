"""Whole pipelines between real databases: a worker, its real Debezium engine, and what arrives at the other end."""

import gc
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jpype
import psycopg
import pytest
from psycopg import sql

from rosetta_dagster.cdc.change import pages
from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig, TableConfig
from rosetta_dagster.cdc.copy import snapshot
from rosetta_dagster.cdc.errors import ChangeUndecodable, DestinationRejected, PreflightFailed, SlotInvalid, TableNotOurs
from rosetta_dagster.cdc.report import Phase
from rosetta_dagster.cdc.run import gc_policy as garbage
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source import heartbeat
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.testing import Digest, digest
from tests.conftest import Database

#: Seconds that anything awaited here may take.
TIMEOUT = 30.0

#: A value that PostgreSQL keeps out of the row, and does not send again with an update that leaves it alone.
BIG = "(SELECT string_agg(md5({0} || n::text), '') FROM generate_series(1, 1000) AS n)"


ODD_NAMES = [
    'quo"te', "per%cent", "%s", "Upper Case", "naïve_日本語", "back\\slash", "comma,", "dot.ted", "{}", "op", "x" * 63, "*",
    "apo'strophe", "Ödd, ta.ble \\ {}", ".", "$", "[a]", "(a", "a+b", "ß ", "\\E", "^a|b", " ", "\t", "select", "excluded",
]  # fmt: skip


#: The capture engine of the test that runs.
ENGINE = Engine.DEBEZIUM


@pytest.fixture(autouse=True, params=list(Engine))
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Every test runs over every engine."""
    chosen: Engine = request.param
    monkeypatch.setattr(sys.modules[__name__], "ENGINE", chosen)
    return chosen


def java_thread_count() -> int:
    return int(jpype.JClass("java.lang.Thread").getAllStackTraces().size())


only_debezium = pytest.mark.parametrize("engine", [Engine.DEBEZIUM], indirect=True)
only_pgoutput = pytest.mark.parametrize("engine", [Engine.PGOUTPUT], indirect=True)


def pipeline(source: Database, destinations: Sequence[Database], *tables: str | TableId) -> PipelineConfig:
    """A pipeline of these tables whose slot no other test has."""
    database = source.connection.database
    return PipelineConfig(
        id=1,
        name=database,
        engine=ENGINE,
        source=SourceConfig(name="the_source", connection=source.connection),
        destinations=tuple(
            DestinationConfig(name=f"replica_{n}", type="POSTGRES", config=each.config)
            for n, each in enumerate(destinations)
        ),
        tables=tuple(TableConfig(id=TableId.parse(each) if isinstance(each, str) else each) for each in tables),
    )


@contextmanager
def running(config: PipelineConfig) -> Iterator[Worker]:
    """A run of the pipeline. At the end it stops, has not failed, and leaves nobody on the slot."""
    worker = Worker(config)
    worker.start()
    try:
        yield worker
    finally:
        has_ended = worker.stop(TIMEOUT)
    assert has_ended, "the run did not stop"
    assert worker.wait(0)
    assert_no_walsender(config)


def assert_no_walsender(config: PipelineConfig) -> None:
    """The server takes a moment to notice that the connection is closed."""
    deadline = time.monotonic() + 5
    while walsenders(config):
        assert time.monotonic() < deadline, "somebody still streams"


def walsenders(config: PipelineConfig) -> list[tuple[Any, ...]]:
    """Who streams from the pipeline's slots, or from its source at all."""
    with psycopg.connect(config.source.connection.conninfo()) as connection:
        return connection.execute(
            "SELECT pid, application_name FROM pg_stat_activity"
            " WHERE backend_type = 'walsender' AND datname = current_database()"
            " UNION SELECT active_pid, slot_name FROM pg_replication_slots WHERE database = current_database() AND active"
        ).fetchall()


def wait_until(worker: Worker, condition: Callable[[], bool]) -> None:
    """Poll while the run goes on; what ends the run is raised."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        assert not worker.wait(0.05), "the run ended before"


def wait_until_equal(worker: Worker, source: Database, destination: Database, *tables: str | TableId) -> None:
    """Wait until the destination holds what the source holds now."""
    ids = [TableId.parse(each) if isinstance(each, str) else each for each in tables]
    with source.connect() as reader:
        expected = [digest(reader, table) for table in ids]
    with destination.connect() as reader:
        wait_until(worker, lambda: expected == [digest_or_none(reader, table) for table in ids])


def digest_or_none(connection: "psycopg.Connection[Any]", table: TableId) -> Digest | None:
    """The digest; None while there is no such table."""
    try:
        return digest(connection, table)
    except psycopg.errors.UndefinedTable:
        return None


def digest_of(database: Database, table: str | TableId) -> Digest:
    with database.connect() as reader:
        return digest(reader, TableId.parse(table) if isinstance(table, str) else table)


def replicate(config: PipelineConfig, source: Database, *destinations: Database) -> None:
    """Run the pipeline until every destination equals the source, and it streams: empty tables are equal before."""
    with running(config) as worker:
        for destination in destinations:
            wait_until_equal(worker, source, destination, *(table.id for table in config.tables))
        wait_until(worker, lambda: is_streaming(worker))


def failure(config: PipelineConfig) -> None:
    """Run the pipeline until it fails, and raise that."""
    worker = Worker(config)
    worker.start()
    try:
        assert worker.wait(TIMEOUT), "the run did not end"
    finally:
        assert worker.stop(TIMEOUT)
        assert_no_walsender(config)


def confirmed_lsn(source: Database, config: PipelineConfig) -> Lsn:
    rows = source.rows(f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{config.slot_name}'")
    return Lsn.parse(rows[0][0])


def current_lsn(source: Database) -> Lsn:
    return Lsn.parse(source.rows("SELECT pg_current_wal_insert_lsn()")[0][0])


def is_streaming(worker: Worker) -> bool:
    return worker.report().phase is Phase.STREAMING


class TestRowsAndChanges:
    def test_existing_rows_are_copied_and_all_kinds_of_changes_follow(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric(10, 2), made timestamptz, tags text[])",
            "INSERT INTO items SELECT n, 'item ' || n, n * 1.5, now() - n * interval '1 hour', ARRAY['a', NULL, 'b\"c']"
            " FROM generate_series(1, 1000) AS n",
            "CREATE TABLE emptied (id int PRIMARY KEY)",
            "INSERT INTO emptied SELECT generate_series(1, 100)",
        )
        config = pipeline(source, [destination], "items", "emptied")
        with running(config) as worker:
            wait_until_equal(worker, source, destination, "items", "emptied")
            wait_until(worker, lambda: is_streaming(worker))
            source.run(
                "INSERT INTO items (id, name) VALUES (2001, E'tab\\tnewline\\nbackslash\\\\N'), (2002, ''), (2003, NULL)",
                "UPDATE items SET price = -price, name = upper(name) WHERE id % 3 = 0",
                "DELETE FROM items WHERE id % 7 = 0",
                "UPDATE items SET id = id + 10000 WHERE id % 11 = 0",
                "BEGIN; INSERT INTO items VALUES (9000); UPDATE items SET name = 'x' WHERE id = 9000;"
                " DELETE FROM items WHERE id = 9000; INSERT INTO items VALUES (9000, 'again'); COMMIT",
                "BEGIN; INSERT INTO items VALUES (9001, 'never'); ROLLBACK",
                "TRUNCATE emptied",
                "INSERT INTO emptied VALUES (7)",
            )
            wait_until_equal(worker, source, destination, "items", "emptied")
            wait_until(worker, lambda: worker.report().tables[TableId("public", "emptied")].inserted == 1)
            counts = worker.report().tables
        assert (1000, 100) == (counts[TableId("public", "items")].copied, counts[TableId("public", "emptied")].copied)
        assert 1 == counts[TableId("public", "emptied")].truncated
        assert [(7,)] == destination.rows("SELECT id FROM emptied")

    def test_the_first_transaction_after_a_stop_arrives(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        config = pipeline(source, [destination], "items")
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            # The second one is known by the COMMIT before it; the first one of a stream has none.
            source.run("INSERT INTO items VALUES (2)", "INSERT INTO items VALUES (3)")
            written = current_lsn(source)
            wait_until_equal(worker, source, destination, "items")
            # The slot stands behind the last transaction: the next one is the first that the new stream sees.
            wait_until(worker, lambda: confirmed_lsn(source, config) >= written)
        for number in (4, 5):
            source.run(f"INSERT INTO items VALUES ({number})")
            replicate(config, source, destination)
        assert [(1,), (2,), (3,), (4,), (5,)] == destination.rows("SELECT id FROM items ORDER BY id")

    def test_changes_that_the_source_repeats_are_done_once(
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE notes (n int)", "ALTER TABLE notes REPLICA IDENTITY FULL")
        config = pipeline(source, [destination], "notes")
        with monkeypatch.context() as patched:
            # As if each run crashed when the rows were durable and the source was not told so yet.
            patched.setattr(DebeziumStream, "commit", lambda stream, delivery: None)
            for number in (1, 2, 3):
                with running(config) as worker:
                    wait_until(worker, lambda: is_streaming(worker))
                    source.run(
                        f"INSERT INTO notes SELECT {number} FROM generate_series(1, 10)",
                        f"INSERT INTO notes VALUES ({number})",
                        f"DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes WHERE n = {number} LIMIT 1)",
                    )
                    wait_until_equal(worker, source, destination, "notes")
        source.run("INSERT INTO notes VALUES (4)")
        replicate(config, source, destination)

    def test_rows_written_while_the_copy_runs_are_neither_lost_nor_doubled(
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run(
            "CREATE TABLE keyed (id bigint PRIMARY KEY, value int)",
            "CREATE TABLE unkeyed (writer int, value int)",
            "ALTER TABLE unkeyed REPLICA IDENTITY FULL",
            "INSERT INTO keyed SELECT n, 0 FROM generate_series(-5000, -1) AS n",
            "INSERT INTO unkeyed SELECT 0, n FROM generate_series(1, 5000) AS n",
        )
        config = pipeline(source, [destination], "keyed", "unkeyed")
        monkeypatch.setattr(pages, "PAGES_PER_RANGE", 8)
        with writers(source) as writer, running(config) as worker:
            # The copy goes on only as the writers do: each range is read after more was written.
            slow_down(monkeypatch, writer.wait_for_more)
            wait_until(worker, lambda: is_streaming(worker))
            writer.wait_for_more()
            writer.stop()
            wait_until_equal(worker, source, destination, "keyed", "unkeyed")
            assert writer.count > 100
        replicate(config, source, destination)

    def test_a_stopped_copy_starts_again(
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE notes (n int)", "INSERT INTO notes SELECT generate_series(1, 20000)")
        config = pipeline(source, [destination], "notes")
        copied, released = threading.Event(), threading.Event()

        def wait() -> None:
            if copied.is_set():
                assert released.wait(TIMEOUT)
            copied.set()

        with monkeypatch.context() as patched:
            patched.setattr(pages, "PAGES_PER_RANGE", 8)
            patched.setattr(snapshot, "READER_COUNT", 1)
            slow_down(patched, wait)
            worker = Worker(config)
            worker.start()
            wait_until(worker, lambda: bool(worker.report().tables))
            worker.stop(0)
            released.set()
            assert worker.wait(TIMEOUT)
        assert_no_walsender(config)
        assert 0 < destination.rows("SELECT count(*) FROM notes")[0][0] < 20000
        assert [] == source.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        replicate(config, source, destination)


class Writers:
    """Two threads that write as fast as they can, in transactions that overlap, until told to stop."""

    def __init__(self, source: Database) -> None:
        self._source = source
        self._stopping = threading.Event()
        self._counts = [0, 0]
        self._threads = [threading.Thread(target=self._write, args=[number]) for number in (0, 1)]

    @property
    def count(self) -> int:
        """Transactions so far."""
        return sum(self._counts)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def wait_for_more(self) -> None:
        """Wait for ten more transactions."""
        enough, deadline = self.count + 10, time.monotonic() + TIMEOUT
        while self.count < enough and not self._stopping.wait(0.001):
            assert time.monotonic() < deadline, "nothing is written"

    def _write(self, writer: int) -> None:
        with psycopg.connect(self._source.url) as connection:
            while not self._stopping.is_set():
                number = 2 * self._counts[writer] + writer
                connection.execute("INSERT INTO keyed VALUES (%s, 1)", [number])
                connection.execute("INSERT INTO unkeyed SELECT %s, 0 FROM generate_series(1, 3)", [writer + 1])
                connection.execute("UPDATE keyed SET value = value + 1 WHERE id IN (%s, %s)", [number, -1 - number % 5000])
                # The two never touch a row of each other, so they cannot deadlock.
                connection.execute("DELETE FROM keyed WHERE id = %s AND id >= 0", [number - 20])
                connection.execute("DELETE FROM unkeyed WHERE writer = 0 AND value = %s", [number % 5000])
                connection.commit()
                self._counts[writer] += 1


@contextmanager
def writers(source: Database) -> Iterator[Writers]:
    both = Writers(source)
    both.start()
    try:
        yield both
    finally:
        both.stop()


def slow_down(monkeypatch: pytest.MonkeyPatch, wait: Callable[[], None]) -> None:
    """Let each range of a copy wait before it is read."""
    load = snapshot.Copier._load

    def slow(copier: snapshot.Copier, *arguments: Any) -> bool:
        wait()
        return load(copier, *arguments)

    monkeypatch.setattr(snapshot.Copier, "_load", slow)


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_INTERVAL", 0.2)


@pytest.mark.usefixtures("quick_beats")
class TestTablesOfEveryKind:
    def test_rows_of_a_table_without_a_key_are_counted(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE notes (text text, n int, doc json)",
            "ALTER TABLE notes REPLICA IDENTITY FULL",
            "INSERT INTO notes SELECT 'same', 1, '{}' FROM generate_series(1, 5)",
        )
        follow(
            source,
            destination,
            ["notes"],
            "UPDATE notes SET n = 2 WHERE ctid IN (SELECT ctid FROM notes LIMIT 2)",
            "DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes WHERE n = 1 LIMIT 1)",
            "INSERT INTO notes VALUES ('same', 1, '{ }'), ('same', 1, '{}'), (NULL, NULL, NULL), (NULL, NULL, NULL)",
            "DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes WHERE n IS NULL LIMIT 1)",
        )

    def test_large_values_that_are_not_sent_again_move_with_the_key(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE documents (id int PRIMARY KEY, title text, body text, other text)",
            "ALTER TABLE documents ALTER body SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL",
            *(f"INSERT INTO documents SELECT {n}, 't', {BIG.format(n)}, {BIG.format(n + 100)}" for n in (1, 2, 3, 4)),
        )
        follow(
            source,
            destination,
            ["documents"],
            "UPDATE documents SET title = 'only this' WHERE id = 1",
            "UPDATE documents SET id = 20, title = 'moved' WHERE id = 2",
            "UPDATE documents SET id = 30, other = NULL WHERE id = 3",
            f"""
            BEGIN;
            UPDATE documents SET body = {BIG.format(77)} WHERE id = 4;
            UPDATE documents SET id = 40 WHERE id = 4;
            UPDATE documents SET title = 'after' WHERE id = 40;
            COMMIT
            """,
        )
        sizes = destination.rows("SELECT id, length(body), length(other) FROM documents ORDER BY id")
        assert [(1, 32000, 32000), (20, 32000, 32000), (30, 32000, None), (40, 32000, 32000)] == sizes

    def test_large_arrays_that_are_not_sent_again_stay(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE bags (id int PRIMARY KEY, n int, tags text[], numbers int[], ids uuid[])",
            *(f"ALTER TABLE bags ALTER {name} SET STORAGE EXTERNAL" for name in ("tags", "numbers", "ids")),
            f"""
            INSERT INTO bags SELECT n, 0, array_fill({BIG.format(1)}::text, ARRAY[2]), array_fill(n, ARRAY[2000]),
                array_fill(gen_random_uuid(), ARRAY[500])
            FROM generate_series(1, 90) AS n
            """,
        )
        follow(
            source,
            destination,
            ["bags"],
            *(f"UPDATE bags SET n = n + 1 WHERE id = {n}" for n in range(1, 4)),
            "UPDATE bags SET n = n + 1",
            """
            BEGIN;
            INSERT INTO bags SELECT id + 1000, n, tags, numbers, ids FROM bags WHERE id < 4;
            UPDATE bags SET n = -1 WHERE id > 1000 OR id < 10;
            COMMIT
            """,
        )

    def test_tables_that_are_truncated_together_are_emptied_together(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE parents (id int PRIMARY KEY)",
            "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents)",
            "INSERT INTO parents SELECT generate_series(1, 50)",
            "INSERT INTO children SELECT n, n FROM generate_series(1, 50) AS n",
        )
        follow(
            source,
            destination,
            ["parents", "children"],
            "DELETE FROM children WHERE id > 40",
            "TRUNCATE parents CASCADE",
            "INSERT INTO parents VALUES (100)",
            "INSERT INTO children VALUES (100, 100)",
        )
        assert [(100,)] == destination.rows("SELECT parent FROM children")

    def test_a_partitioned_table_is_one_table(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE parts (id int, month int, value text, PRIMARY KEY (month, id)) PARTITION BY RANGE (month)",
            "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (7)",
            # Its columns stand in another order.
            "CREATE TABLE parts_2 (value text, month int NOT NULL, id int NOT NULL)",
            "ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (7) TO (13)",
            "INSERT INTO parts SELECT n, 1 + n % 12, 'v' || n FROM generate_series(1, 100) AS n",
        )
        follow(
            source,
            destination,
            ["parts"],
            "UPDATE parts SET value = 'stays' WHERE id < 20",
            "UPDATE parts SET month = 13 - month WHERE id > 80",
            "DELETE FROM parts WHERE id BETWEEN 30 AND 40",
            "INSERT INTO parts VALUES (1000, 12, 'new')",
        )
        assert [("parts", "r")] == destination.rows(
            "SELECT relname::text, relkind::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        )

    def test_a_generated_column_is_left_out(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE sums (id int PRIMARY KEY, a int, total int GENERATED ALWAYS AS (a * 2) STORED, b int)",
            "INSERT INTO sums (id, a, b) SELECT n, n, n FROM generate_series(1, 10) AS n",
        )
        follow(
            source,
            destination,
            ["sums"],
            "UPDATE sums SET a = a + 1 WHERE id % 2 = 0",
            "INSERT INTO sums (id, a, b) VALUES (11, 1, NULL)",
        )
        columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'sums'::regclass AND attnum > 0 ORDER BY attnum"
        assert [("id",), ("a",), ("b",)] == destination.rows(columns)

    def test_tables_of_one_name_in_two_namespaces_are_kept_apart(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE SCHEMA one",
            "CREATE SCHEMA other",
            "CREATE TABLE one.items (id int PRIMARY KEY, name text)",
            "CREATE TABLE other.items (name text, id int PRIMARY KEY, more int)",
            "INSERT INTO one.items VALUES (1, 'of one')",
            "INSERT INTO other.items VALUES ('of other', 1, 2)",
        )
        follow(
            source,
            destination,
            ["one.items", "other.items"],
            "UPDATE one.items SET name = 'still of one'",
            "DELETE FROM other.items",
            "INSERT INTO other.items VALUES ('new of other', 2, 3)",
        )

    def test_namespaces_tables_and_columns_may_have_any_name(self, source: Database, destination: Database) -> None:
        for name in ODD_NAMES:
            source.run(*of_table(name, *ODD_TABLE))
        changes = [statement for name in ODD_NAMES for statement in of_table(name, *ODD_CHANGES)]
        follow(source, destination, [TableId(name, name) for name in ODD_NAMES], *changes)

    @only_pgoutput
    def test_names_may_be_of_quotes(self, source: Database, destination: Database) -> None:
        names = ('"quoted"', 'two "words"', '"')
        for name in names:
            source.run(*of_table(name, *ODD_TABLE))
        changes = [statement for name in names for statement in of_table(name, *ODD_CHANGES)]
        follow(source, destination, [TableId(name, name) for name in names], *changes)

    @only_debezium
    @pytest.mark.parametrize("name", ['"quoted"', 'two "words"', '"'])
    def test_names_with_quotes_are_refused_since_debezium_would_leave_their_changes_out(
        self, source: Database, destination: Database, name: str
    ) -> None:
        source.run(*of_table(name, *ODD_TABLE))
        with pytest.raises(PreflightFailed, match="Debezium cannot read the double quotes in"):
            failure(pipeline(source, [destination], TableId(name, name)))

    @only_debezium
    def test_a_column_with_quotes_in_its_name_is_refused_too(self, source: Database, destination: Database) -> None:
        source.run('CREATE TABLE items (id int PRIMARY KEY, """key""" int)')
        with pytest.raises(PreflightFailed, match='double quotes in "key"'):
            failure(pipeline(source, [destination], "items"))

    @only_debezium
    def test_quotes_within_a_column_are_refused_when_a_unique_index_makes_it_the_key(
        self, source: Database, destination: Database
    ) -> None:
        source.run(
            'CREATE TABLE items ("k""ey" int NOT NULL UNIQUE)',
            'ALTER TABLE items REPLICA IDENTITY USING INDEX "items_k""ey_key"',
        )
        with pytest.raises(PreflightFailed, match="in a unique index's column"):
            failure(pipeline(source, [destination], "items"))

    @only_debezium
    def test_columns_whose_names_differ_by_case_only_are_refused(self, source: Database, destination: Database) -> None:
        source.run('CREATE TABLE items (id int PRIMARY KEY, "Name" text, name text)')
        with pytest.raises(PreflightFailed, match="cannot distinguish the columns Name, name"):
            failure(pipeline(source, [destination], "items"))

    @only_pgoutput
    def test_columns_whose_names_differ_by_case_only_are_kept_apart(self, source: Database, destination: Database) -> None:
        source.run('CREATE TABLE items (id int PRIMARY KEY, "Name" text, name text)')
        follow(source, destination, ["items"], "INSERT INTO items VALUES (1, 'a', 'b')")

    @only_debezium
    def test_a_domain_over_an_enum_is_refused_since_debezium_would_not_start(
        self, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TYPE color AS ENUM ('red')", "CREATE DOMAIN paint AS color", "CREATE TABLE items (id int PRIMARY KEY)"
        )
        with pytest.raises(PreflightFailed, match=r"domain over an enum: public\.paint"):
            failure(pipeline(source, [destination], "items"))

    @only_debezium
    def test_a_value_that_debezium_cannot_print_stops_the_pipeline_and_is_told_nowhere(
        self, source: Database, destination: Database, capfd: pytest.CaptureFixture[str]
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY, v interval, name text)")
        config = pipeline(source, [destination], "items")
        worker = Worker(config)
        worker.start()
        wait_until(worker, lambda: is_streaming(worker))
        source.run("INSERT INTO items VALUES (1, '2147483999 hours', 'a secret')")
        with pytest.raises(ChangeUndecodable) as caught:
            wait_until(worker, lambda: worker.wait(0.1))
        assert worker.stop(TIMEOUT)
        told = f"{caught.value} {''.join(capfd.readouterr())}"
        assert "2147483999" not in told
        assert "a secret" not in told

    def test_tables_whose_names_are_alike_are_kept_apart(self, source: Database, destination: Database) -> None:
        # Debezium makes one topic name of all of these.
        names = ["a b", "a_b", "a%b", "A b", "a.b"]
        source.run(*(f'CREATE TABLE "{name}" (id int PRIMARY KEY, "column {n}" text)' for n, name in enumerate(names)))
        follow(
            source,
            destination,
            [TableId("public", name) for name in names],
            *(f"INSERT INTO \"{name}\" VALUES (1, 'of {name}')" for name in names),
            *(f'UPDATE "{name}" SET id = {n}' for n, name in enumerate(names)),
        )


#: Statements about a table; each name in them is made of one odd name.
ODD_TABLE = [
    "CREATE SCHEMA {schema}",
    "CREATE TABLE {table} ({key} int PRIMARY KEY, {plain} text, body text)",
    "ALTER TABLE {table} ALTER body SET STORAGE EXTERNAL",
    f"INSERT INTO {{table}} SELECT n, 'old', {BIG.format(1)} FROM generate_series(1, 4) AS n",
]
ODD_CHANGES = [
    "UPDATE {table} SET {plain} = 'new' WHERE {key} = 1",
    "UPDATE {table} SET {key} = 20 WHERE {key} = 2",
    "DELETE FROM {table} WHERE {key} = 3",
    "INSERT INTO {table} VALUES (5, 'new', NULL)",
]


def of_table(name: str, *statements: str) -> list[str]:
    """The statements with the odd name for namespace, table and key, and one much like it for another column."""
    names = {
        "schema": sql.Identifier(name),
        "table": sql.Identifier(name, name),
        "key": sql.Identifier(name),
        "plain": sql.Identifier(f"{name[:62]}2"),
    }
    return [sql.SQL(statement).format(**names).as_string() for statement in statements]


def follow(source: Database, destination: Database, tables: Sequence[str | TableId], *changes: str) -> None:
    """Copy the tables, let the changes follow, and start once more: nothing may be done twice."""
    config = pipeline(source, [destination], *tables)
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)
        wait_until(worker, lambda: is_streaming(worker))
        before = [digest_of(source, table) for table in tables]
        source.run(*changes)
        assert all(old != digest_of(source, table) for old, table in zip(before, tables, strict=True)), "nothing changed"
        wait_until_equal(worker, source, destination, *tables)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        written = current_lsn(source)
        wait_until(worker, lambda: (worker.report().applied_lsn or 0) >= written)
        wait_until_equal(worker, source, destination, *tables)


class TestRuns:
    def test_a_table_added_later_brings_its_old_rows(self, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE items (id int PRIMARY KEY)",
            "INSERT INTO items VALUES (1)",
            "CREATE TABLE late (id int PRIMARY KEY, name text)",
            "INSERT INTO late SELECT n, 'old' FROM generate_series(1, 500) AS n",
        )
        replicate(pipeline(source, [destination], "items"), source, destination)
        # Waits in the slot when the new table's copy is made.
        source.run("INSERT INTO items VALUES (2)", "INSERT INTO late VALUES (1000, 'before the copy')")
        with running(pipeline(source, [destination], "items", "late")) as worker:
            wait_until_equal(worker, source, destination, "items", "late")
            source.run(
                "UPDATE late SET name = 'new' WHERE id > 400",
                "INSERT INTO items VALUES (3)",
                "DELETE FROM items WHERE id = 1",
            )
            wait_until_equal(worker, source, destination, "items", "late")

    def test_every_destination_gets_everything_and_a_new_one_gets_the_old_rows(
        self, source: Database, new_database: Callable[[str], Database]
    ) -> None:
        first, second, third = (new_database("destination") for _ in range(3))
        source.run(
            "CREATE TABLE notes (n int)", "ALTER TABLE notes REPLICA IDENTITY FULL", "INSERT INTO notes VALUES (1), (1)"
        )
        with running(pipeline(source, [first, second], "notes")) as worker:
            wait_until_equal(worker, source, first, "notes")
            wait_until(worker, lambda: is_streaming(worker))
            source.run("INSERT INTO notes VALUES (1), (2)", "DELETE FROM notes WHERE n = 2")
            wait_until_equal(worker, source, first, "notes")
            wait_until_equal(worker, source, second, "notes")
        source.run("INSERT INTO notes VALUES (1), (3)")
        with running(pipeline(source, [first, second, third], "notes")) as worker:
            for each in (first, second, third):
                wait_until_equal(worker, source, each, "notes")
            source.run("INSERT INTO notes VALUES (1), (4)", "DELETE FROM notes WHERE n = 3")
            for each in (first, second, third):
                wait_until_equal(worker, source, each, "notes")

    def test_a_slot_that_is_gone_is_not_replaced(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        config = pipeline(source, [destination], "items")
        replicate(config, source, destination)
        source.run(f"SELECT pg_drop_replication_slot('{config.slot_name}')", "INSERT INTO items VALUES (2)")
        with pytest.raises(SlotInvalid, match=config.slot_name):
            failure(config)
        assert [(1,)] == destination.rows("SELECT id FROM items")
        assert [] == source.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")

    def test_garbage_is_collected_by_the_run_alone_while_it_streams(
        self, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        with running(pipeline(source, [destination], "items")) as worker:
            wait_until(worker, lambda: is_streaming(worker) and not gc.isenabled())
            circle: list[Any] = [threading.Event()]
            circle.append(circle)
            left = weakref.ref(circle[0])
            del circle
            assert left() is not None
            monkeypatch.setattr(garbage, "INTERVAL", 0)
            wait_until(worker, lambda: left() is None)
        assert gc.isenabled()

    def test_a_slot_that_was_made_anew_is_noticed(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (0)")
        config = pipeline(source, [destination], "items")
        replicate(config, source, destination)
        source.run(
            f"SELECT pg_drop_replication_slot('{config.slot_name}')",
            "INSERT INTO items VALUES (1)",
            f"SELECT pg_create_logical_replication_slot('{config.slot_name}', 'pgoutput')",
        )
        with pytest.raises(SlotInvalid, match=r"made anew.*rosetta resync"):
            failure(config)
        assert [(0,)] == destination.rows("SELECT * FROM items")

    def test_rows_of_somebody_else_stop_the_pipeline_and_stay(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        destination.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (5)")
        config = pipeline(source, [destination], "items")
        with pytest.raises(TableNotOurs, match=r"public\.items"):
            failure(config)
        assert [(5,)] == destination.rows("SELECT id FROM items")
        assert [] == source.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        destination.run("TRUNCATE items")
        replicate(config, source, destination)

    def test_a_copy_that_the_destination_refuses_is_told_of_the_destination(
        self, source: Database, destination: Database
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
        destination.run("CREATE TABLE items (id int PRIMARY KEY CONSTRAINT small CHECK (id < 1))")
        with pytest.raises(DestinationRejected, match="small"):
            failure(pipeline(source, [destination], "items"))

    def test_the_slot_moves_while_only_other_tables_are_written(
        self, source: Database, destination: Database, quick_beats: None
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)", "CREATE TABLE unpublished (n int)")
        config = pipeline(source, [destination], "items")
        with running(config) as worker:
            wait_until(worker, lambda: is_streaming(worker))
            for _ in range(2):
                source.run("INSERT INTO unpublished SELECT generate_series(1, 1000)")
                written = current_lsn(source)
                wait_until(worker, lambda written=written: confirmed_lsn(source, config) >= written)  # type: ignore[misc]

    @only_debezium
    def test_a_stopped_run_leaves_no_thread_in_the_jvm(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        config = pipeline(source, [destination], "items")
        replicate(config, source, destination)
        before = java_thread_count()
        for _ in range(3):
            replicate(config, source, destination)
        assert java_thread_count() <= before

    @only_pgoutput
    def test_what_the_driver_says_of_its_cleaning_up_is_not_logged(
        self, source: Database, destination: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        replicate(pipeline(source, [destination], "items"), source, destination)
        logging.getLogger("psycopg").warning("error ignored in %s: %s", "rollback", "CONTEXT: COPY items, line 1: secret")
        logging.getLogger("psycopg").warning("anything else")
        assert ["anything else"] == [record.getMessage() for record in caplog.records if record.name == "psycopg"]

    def test_a_stopped_run_leaves_no_walsender(self, source: Database, destination: Database) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY)")
        config = pipeline(source, [destination], "items")
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
