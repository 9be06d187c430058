"""Small batches, written without staging tables: the destination holds the same, whatever is in them or goes wrong."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeAlias

import psycopg
import pytest
from psycopg import sql

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Operation
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import Destination, StreamIdentity
from rosetta_dagster.cdc.destination.postgres import direct
from rosetta_dagster.cdc.destination.postgres.direct import DirectWriter
from rosetta_dagster.cdc.errors import BrokenTable, DestinationRejected, DestinationUnavailable
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.changes import SOMEWHERE, delete, insert, rekey, table, truncate, update
from tests.support.database import Database
from tests.support.destinations import PostgresKind, make
from tests.support.every_value import CREATE_TYPES, LOSSLESS_SESSION, UNUSUAL_SETTINGS, expressions_of
from tests.support.waiting import eventually

POINT = SnapshotPoint(Lsn(16), XidSnapshot(100, 100, frozenset()))
ITEMS, NOTES, TAGS = (table("id", "name", name=name) for name in ("items", "notes", "tags"))

#: Types whose values are compared as those of another type, which a literal beside them is read as: a delete by such a key
#: goes through a staging table.
COMPARED_AS_OTHERS = {"regclass", "regtype", "pair", "couple"}

#: Bytes of a value that fits into an index.
LARGEST_KEY = 2000


class Replica:
    """A destination whose tables are empty; each batch has the next watermark."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self._number = 1000

    def apply(self, *changes: Change) -> None:
        self._number += 1
        position = Position(self._number, self._number, 0)
        watermark = Watermark(engine=Engine.PGOUTPUT, position=position, xid=self._number)
        self.destination.apply(compact(changes), watermark)


Begin: TypeAlias = Callable[..., Replica]


@pytest.fixture
def begin(destination: Database) -> Iterator[Begin]:
    """Opens destinations of these tables, each table copied while it was empty."""
    with ExitStack() as stack:

        def opener(*tables: TableSchema, namespace: str = "public", database: Database = destination) -> Replica:
            opened = make(PostgresKind(database), tables, pipeline=namespace, namespace=namespace)
            stack.callback(opened.close)
            opened.open(StreamIdentity(pipeline=namespace, system_identifier="7", slot_name=f"rosetta_{namespace}"))
            opened.prepare(tables)
            opened.start_copy(tables, POINT)
            with opened.loader() as loader:
                for each in tables:
                    loader.complete(each)
            for each in tables:
                opened.finish_copy(each)
            return Replica(opened)

        yield opener


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each message with small batches, whether it was done."""
    seen: list[bool] = []
    execute = DirectWriter._try_to_execute

    def spy(writer: DirectWriter, statements: Sequence[bytes]) -> bool:
        done = execute(writer, statements)
        seen.append(done)
        return done

    monkeypatch.setattr(DirectWriter, "_try_to_execute", spy)
    return seen


@pytest.fixture(scope="module")
def odd_server() -> Iterator[EmbeddedPostgres]:
    """A server whose defaults would change most text forms."""
    with EmbeddedPostgres(settings=UNUSUAL_SETTINGS | {"standard_conforming_strings": "off"}) as made:
        yield made


def rows(database: Database, target: str) -> list[tuple[object, ...]]:
    return database.rows(f"SELECT * FROM {target} ORDER BY 1")


# --- values ---


class Values:
    """Every type that the server has: a table of each, one whose key is of the type where that can be, and values."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._texts: dict[str, list[bytes]] = {}
        with database.connect() as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("SET standard_conforming_strings = on")
            connection.execute(CREATE_TYPES)
            connection.execute(LOSSLESS_SESSION)
            for kind, expressions in expressions_of(connection).items():
                self._texts[kind] = [text_of(connection, f"({each})::{kind}") for each in expressions]
            tables = {TableId("public", f"t{n}"): f"id int PRIMARY KEY, value {kind}" for n, kind in enumerate(self._texts)}
            keyed = {
                TableId("public", f"k{n}"): f"value {kind} PRIMARY KEY"
                for n, (kind, (text, *_)) in enumerate(self._texts.items())
                if can_be_a_key(connection, kind, text)
            }
            for name, columns in (tables | keyed).items():
                connection.execute(f"CREATE TABLE {name} ({columns})")
            self.tables = list(read_schemas(connection, list(tables)).values())
            self.keyed = list(read_schemas(connection, list(keyed)).values())
            self._kinds = dict(zip([*tables], self._texts, strict=True))

    def of(self, schema: TableSchema) -> list[bytes]:
        return self._texts[self.kind(schema)]

    def kind(self, schema: TableSchema) -> str:
        return self._kinds[TableId("public", f"t{schema.id.name[1:]}")]


def text_of(connection: "psycopg.Connection[tuple[str]]", expression: str) -> bytes:
    found = connection.execute(f"SELECT {expression}::text").fetchone()
    assert found is not None, "a query without FROM returns one row"
    return str(found[0]).encode()


def can_be_a_key(connection: "psycopg.Connection[tuple[str]]", kind: str, text: bytes) -> bool:
    """Whether two values of the type can be told to be the same."""
    quoted = sql.Literal(text.decode()).as_string()
    try:
        connection.execute(f"CREATE TABLE trial (v {kind} PRIMARY KEY)")
        connection.execute(f"INSERT INTO trial VALUES ({quoted}), ({quoted})")
    except (psycopg.errors.UndefinedObject, psycopg.errors.UndefinedFunction, psycopg.errors.ProgramLimitExceeded):
        return False
    except psycopg.errors.UniqueViolation:
        return True
    finally:
        connection.execute("DROP TABLE IF EXISTS trial")
    raise AssertionError("one value stands in a key twice")


@pytest.fixture(scope="module")
def values(odd_server: EmbeddedPostgres) -> Values:
    return Values(Database(url=odd_server.create_database("every_type")))


def printed(database: Database, namespace: str, tables: Sequence[TableSchema], column: str) -> list[tuple[object, ...]]:
    part = f"SELECT '{{0}}', {column}, ROW(value)::text, pg_typeof(value)::text FROM {namespace}.{{0}}"
    with database.connect() as connection:
        connection.execute(LOSSLESS_SESSION)
        found = connection.execute(" UNION ALL ".join(part.format(each.id.name) for each in tables))
        return sorted(found.fetchall())


def test_values_of_every_type_are_those_that_a_staging_table_gives(
    values: Values, begin: Begin, outcomes: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [
        Change(*SOMEWHERE, 1, Operation.INSERT, schema, (str(number).encode(), text), None)
        for schema in values.tables
        for number, text in enumerate([*values.of(schema), None])
    ]
    begin(*values.tables, namespace="direct", database=values.database).apply(*changes)
    assert [True] == outcomes
    monkeypatch.setattr(direct, "ROW_LIMIT", 0)
    begin(*values.tables, namespace="staged", database=values.database).apply(*changes)
    assert [True] == outcomes
    expected = printed(values.database, "staged", values.tables, "id")
    assert len(changes) == len(expected)
    assert expected == printed(values.database, "direct", values.tables, "id")


def test_keys_of_every_type_are_found(values: Values, begin: Begin, outcomes: list[bool]) -> None:
    tables = [each for each in values.keyed if values.kind(each) not in COMPARED_AS_OTHERS]
    assert 60 < len(tables)
    replica = begin(*tables, namespace="keyed", database=values.database)
    keys = {each: [text for text in values.of(each) if len(text) < LARGEST_KEY] for each in tables}
    for _ in range(2):
        for at in range(max(map(len, keys.values()))):
            some = [(each, texts[at]) for each, texts in keys.items() if at < len(texts)]
            replica.apply(*(Change(*SOMEWHERE, 1, Operation.INSERT, each, (text,), None) for each, text in some))
    held = printed(values.database, "keyed", tables, "0")
    assert {each.id.name for each in tables} == {name for name, *_ in held}
    for only_one in (True, False):
        pairs = [(each, text) for each, texts in keys.items() for text in (texts[:1] if only_one else texts)]
        replica.apply(*(Change(*SOMEWHERE, 1, Operation.DELETE, each, None, (text,)) for each, text in pairs))
        assert len(printed(values.database, "keyed", tables, "0")) < len(held)
    assert [] == printed(values.database, "keyed", tables, "0")
    assert all(outcomes)


def test_keys_that_are_compared_as_another_type_are_found(values: Values, begin: Begin, outcomes: list[bool]) -> None:
    tables = [each for each in values.keyed if values.kind(each) in COMPARED_AS_OTHERS]
    assert COMPARED_AS_OTHERS == {values.kind(each) for each in tables}
    replica = begin(*tables, namespace="compared", database=values.database)
    for schema in tables:
        text = values.of(schema)[0]
        replica.apply(Change(*SOMEWHERE, 1, Operation.INSERT, schema, (text,), None))
        replica.apply(Change(*SOMEWHERE, 1, Operation.DELETE, schema, None, (text,)))
        assert [True, False] == outcomes[-2:]
    assert [] == printed(values.database, "compared", tables, "0")


# --- what is written without a staging table, and what is not ---


def test_deletes_come_before_rows(begin: Begin, destination: Database, outcomes: list[bool]) -> None:
    replica = begin(ITEMS)
    replica.apply(insert(ITEMS, "1", "one"), insert(ITEMS, "2", "two"))
    destination.run("CREATE UNIQUE INDEX ON items (name)")
    replica.apply(rekey(ITEMS, ("1",), "3", "one"), delete(ITEMS, "2"), insert(ITEMS, "4", "two"))
    assert [("3", "one"), ("4", "two")] == rows(destination, "items")
    assert [True, True] == outcomes


def test_one_message_may_come_any_number_of_times(begin: Begin, destination: Database, outcomes: list[bool]) -> None:
    """A statement that comes often would be prepared, which a message of several cannot be."""
    replica = begin(ITEMS)
    for _ in range(20):
        replica.apply(insert(ITEMS, "1", "one"))
    assert [True] * 20 == outcomes
    assert [("1", "one")] == rows(destination, "items")


@pytest.mark.parametrize("limit", [3, 2])
def test_more_rows_than_the_limit_are_staged(
    begin: Begin, destination: Database, outcomes: list[bool], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(direct, "ROW_LIMIT", limit)
    begin(ITEMS).apply(insert(ITEMS, "1", None), delete(ITEMS, "2"), insert(ITEMS, "3", "c"))
    assert ([True] if limit == 3 else []) == outcomes
    assert [("1", None), ("3", "c")] == rows(destination, "items")


def test_tables_beyond_the_largest_message_are_staged(
    begin: Begin, destination: Database, outcomes: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = begin(ITEMS, NOTES, TAGS)
    monkeypatch.setattr(direct, "BYTE_LIMIT", 1000)
    replica.apply(insert(ITEMS, "1", "a"), insert(NOTES, "1", "x" * 1000), insert(TAGS, "1", "b"))
    assert [True] == outcomes
    assert [[("1", "a")], [("1", "x" * 1000)], [("1", "b")]] == [
        rows(destination, name) for name in ("items", "notes", "tags")
    ]


def test_values_that_were_not_sent_stay(begin: Begin, destination: Database, outcomes: list[bool]) -> None:
    replica = begin(ITEMS, NOTES)
    replica.apply(insert(ITEMS, "1", "large"), insert(NOTES, "1", "note"))
    replica.apply(update(ITEMS, "1", UNCHANGED), update(NOTES, "1", "other"))
    assert [("1", "large")] == rows(destination, "items")
    assert [("1", "other")] == rows(destination, "notes")
    assert [True, True] == outcomes


def test_a_table_that_was_emptied_is_emptied_before_its_rows(begin: Begin, destination: Database) -> None:
    replica = begin(ITEMS, NOTES)
    replica.apply(insert(ITEMS, "1", "a"))
    replica.apply(insert(ITEMS, "2", "b"), truncate(ITEMS), insert(ITEMS, "3", "c"), insert(NOTES, "1", "n"))
    assert [("3", "c")] == rows(destination, "items")
    assert [("1", "n")] == rows(destination, "notes")


def test_a_table_that_is_altered_within_a_batch_gets_every_row(begin: Begin, destination: Database) -> None:
    replica = begin(ITEMS, NOTES)
    wide = table("id", "name", "size")
    replica.apply(
        insert(ITEMS, "1", "a"), insert(NOTES, "1", "n"), insert(wide, "2", "b", "large"), update(wide, "1", "A", "small")
    )
    assert [("1", "A", "small"), ("2", "b", "large")] == rows(destination, "items")
    assert [("1", "n")] == rows(destination, "notes")


def test_a_name_that_comes_and_goes_is_followed_each_time(begin: Begin, destination: Database, outcomes: list[bool]) -> None:
    renamed = table("id", "label")
    replica = begin(ITEMS)
    replica.apply(insert(ITEMS, "1", "a"))
    replica.apply(insert(renamed, "2", "b"))
    replica.apply(insert(ITEMS, "3", "c"))
    assert [True] == outcomes, "the table was altered before each of the others"
    replica.apply(insert(ITEMS, "4", "d"))
    assert [True, True] == outcomes
    assert [("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")] == rows(destination, "items")


PARTITIONED = """
    CREATE TABLE items (id text PRIMARY KEY, name text) PARTITION BY HASH (id);
    CREATE TABLE one PARTITION OF items FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE other PARTITION OF items FOR VALUES WITH (MODULUS 2, REMAINDER 1)
"""


@pytest.mark.parametrize(
    "made",
    [
        PARTITIONED,
        "CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)",
        "CREATE TABLE items (more int DEFAULT 7, name varchar(3), id text PRIMARY KEY)",
        "CREATE TABLE items (id text, name text, UNIQUE (id) INCLUDE (name))",
    ],
    ids=["partitioned", "identity", "other order", "unique index"],
)
def test_tables_that_somebody_made_are_written(begin: Begin, destination: Database, outcomes: list[bool], made: str) -> None:
    destination.run(made)
    replica = begin(ITEMS)
    replica.apply(*(insert(ITEMS, str(number), "a") for number in range(9)))
    replica.apply(*(update(ITEMS, str(number), "b") for number in range(8)), delete(ITEMS, "8"), delete(ITEMS, "0"))
    held = destination.rows("SELECT id::text, name FROM items ORDER BY 1")
    assert [(str(number), "b") for number in range(1, 8)] == held
    assert [True, True] == outcomes


# --- statements that fail ---


def refused(replica: Replica, *changes: Change) -> DestinationRejected:
    with pytest.raises(DestinationRejected) as caught:
        replica.apply(*changes)
    return caught.value


def test_a_value_that_a_narrower_column_cannot_hold_is_refused_and_not_cut(
    begin: Begin, destination: Database, outcomes: list[bool]
) -> None:
    destination.run("CREATE TABLE items (id text PRIMARY KEY, name varchar(3))")
    replica = begin(NOTES, ITEMS)
    error = refused(replica, insert(NOTES, "1", "n"), insert(ITEMS, "1", "abc"), insert(ITEMS, "2", "secret"))
    assert "table public.items, column name" in str(error)
    assert "secret" not in str(error)
    assert BrokenTable(ITEMS.id, "the_replica") == error.broken
    assert ([], []) == (rows(destination, "items"), rows(destination, "notes"))
    assert [False] == outcomes
    replica.apply(insert(NOTES, "1", "n"), insert(ITEMS, "1", "abc"))
    assert ([("1", "abc")], [("1", "n")]) == (rows(destination, "items"), rows(destination, "notes"))


RAISING = """
    CREATE FUNCTION check_name() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN IF NEW.name = 'bad' THEN RAISE 'no %', NEW.name; END IF; RETURN NEW; END$$;
    CREATE TRIGGER checked BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION check_name();
    ALTER TABLE notes ENABLE ALWAYS TRIGGER checked
"""
LARGE = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n)"


@pytest.mark.parametrize(
    ("prepared", "name", "part"),
    [
        (RAISING, "bad", "P0001"),
        ("CREATE INDEX ON notes (name)", LARGE, "54000"),
        ("ALTER TABLE notes ADD CHECK (name <> 'bad')", "bad", "table notes, constraint notes_name_check"),
        ("ALTER TABLE notes DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id) DEFERRABLE", "a", "55000"),
        ("DROP TABLE notes", "a", "is gone"),
        ("ALTER TABLE notes DROP COLUMN name", "a", "is missing columns of public.notes: name"),
    ],
    ids=["trigger", "index", "check", "deferrable", "dropped", "column"],
)
def test_an_error_is_attributed_to_the_table_that_refused_the_rows(
    begin: Begin, destination: Database, prepared: str, name: str, part: str
) -> None:
    replica = begin(ITEMS, NOTES, TAGS)
    destination.run(prepared)
    text = destination.rows(f"SELECT {name}")[0][0] if name == LARGE else name
    error = refused(replica, insert(ITEMS, "1", "i"), insert(NOTES, "1", text), insert(TAGS, "1", "t"))
    assert part in str(error)
    assert BrokenTable(NOTES.id, "the_replica") == error.broken
    assert ([], []) == (rows(destination, "items"), rows(destination, "tags"))
    replica.apply(insert(ITEMS, "1", "i"), insert(TAGS, "1", "t"))
    assert ([("1", "i")], [("1", "t")]) == (rows(destination, "items"), rows(destination, "tags"))


def test_tables_beside_one_whose_statement_fails_are_written_once(
    begin: Begin, destination: Database, outcomes: list[bool]
) -> None:
    kinds = Column(name="id", type="regclass", type_oid=2205, base_oid=2205, not_null=True, number=1)
    classes = TableSchema(id=TableId("public", "classes"), columns=(kinds,), key=("id",), identity=ITEMS.identity)
    replica = begin(ITEMS, classes, NOTES)
    replica.apply(insert(ITEMS, "1", "a"), insert(classes, "pg_class"))
    destination.run(
        "CREATE TABLE seen (number serial, what text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO seen (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NEW; END$$",
        "CREATE TRIGGER noted AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION note()",
        "CREATE TRIGGER noted AFTER INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION note()",
        "ALTER TABLE items ENABLE ALWAYS TRIGGER noted",
        "ALTER TABLE notes ENABLE ALWAYS TRIGGER noted",
    )
    replica.apply(update(ITEMS, "1", "b"), insert(ITEMS, "2", "c"), delete(classes, "pg_class"), insert(NOTES, "1", "n"))
    assert [True, False] == outcomes
    assert [("INSERT items",), ("INSERT notes",), ("UPDATE items",)] == destination.rows("SELECT what FROM seen ORDER BY 1")
    assert [("1", "b"), ("2", "c")] == rows(destination, "items")
    assert [] == rows(destination, "classes")
    assert [("1", "n")] == rows(destination, "notes")


def test_a_message_that_is_canceled_is_not_tried_another_way(
    begin: Begin, destination: Database, outcomes: list[bool]
) -> None:
    replica = begin(ITEMS, NOTES)
    with destination.connect() as blocker, blocker.transaction(), ThreadPoolExecutor(1) as pool:
        blocker.execute("LOCK TABLE notes IN SHARE MODE")
        applied = pool.submit(replica.apply, insert(ITEMS, "1", "a"), insert(NOTES, "1", "n"))
        waiting = "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted"
        eventually(lambda: destination.rows(waiting))
        with pytest.raises(DestinationUnavailable, match="57014"):
            applied.result(30)
    assert [] == outcomes
    replica.apply(insert(ITEMS, "1", "a"), insert(NOTES, "1", "n"))
    assert ([("1", "a")], [("1", "n")]) == (rows(destination, "items"), rows(destination, "notes"))


def test_a_character_that_is_missing_in_the_encoding_is_refused_for_its_table(
    begin: Begin, destination: Database, postgres_server: EmbeddedPostgres
) -> None:
    name = f"{destination.connection.database}_latin"
    destination.run(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    latin = Database(url=postgres_server.url(name))
    replica = begin(NOTES, ITEMS, database=latin)
    replica.apply(insert(NOTES, "1", "ß"), insert(ITEMS, "1", "é"))
    error = refused(replica, insert(NOTES, "2", "n"), insert(ITEMS, "2", "日本"))
    assert BrokenTable(ITEMS.id, "the_replica") == error.broken
    assert ([("1", "é")], [("1", "ß")]) == (rows(latin, "items"), rows(latin, "notes"))
