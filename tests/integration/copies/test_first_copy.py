"""How a table's first copy is loaded at PostgreSQL: in binary form where that is safe, with its key built at the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.copy import snapshot
from rosetta_dagster.cdc.copy.parts import Part, copy_statement
from rosetta_dagster.cdc.destination.base import Destination, Held, StreamIdentity
from rosetta_dagster.cdc.destination.postgres.binary import BINARY_TYPES
from rosetta_dagster.cdc.errors import DestinationRejected
from tests.support.changes import column, table
from tests.support.database import Database
from tests.support.destinations import PostgresKind, make
from tests.support.every_value import EXACT
from tests.support.pipelines import pipeline, running, wait_until_equal

ITEMS = table("id", "name")
IDENTITY = StreamIdentity(pipeline="shop", system_identifier="7", slot_name="rosetta_shop")
POINT = SnapshotPoint(Lsn(16), XidSnapshot(100, 100, frozenset()))

KEYS = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'items'::regclass AND contype = 'p'"

#: A type and expressions for its values; what no text form of a session's defaults would bring over exactly is among them.
VALUES = {
    **{
        kind: EXACT[kind]
        for kind in ("numeric", "numeric(12,2)", "real", "double precision", "timestamptz", "jsonb", "bytea")
    },
    "boolean": ["true", "false"],
    "smallint": ["'-32768'", "'32767'"],
    "bigint": ["'-9223372036854775808'", "'9223372036854775807'"],
    "text": ["''", r"E'\\N'", "E'a\\tb\\nc\\r'", "'日本 ✓'"],
    "character varying(4)": ["'ab  '", "''"],
    "character(4)": ["'ab'"],
    "uuid": ["'00000000-0000-0000-0000-00000000000f'"],
    "json": ['\'{"b": 1,  "a": [null], "b": 2}\''],
    "date": ["'infinity'", "'4713-01-01 BC'", "'5874897-12-31'"],
    "time": ["'24:00'", "'00:00:00.000001'"],
    "timestamp": ["'-infinity'", "'294276-12-31 23:59:59.999999'"],
    "integer[]": ["'{}'", "'[0:1]={1,2}'", "'{{1,NULL},{3,4}}'"],
    "text[]": ["array['a,b', '\"', NULL, '']"],
    "numeric(6,1)[]": ["'{NaN,1.5}'"],
}


@pytest.fixture
def is_binary(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """By table, whether it was read in binary form."""
    seen: dict[str, bool] = {}
    statement = copy_statement

    def spy(part: Part, *, binary: bool = False) -> object:
        seen[part.table.id.name] = binary
        return statement(part, binary=binary)

    monkeypatch.setattr(snapshot, "copy_statement", spy)
    return seen


def copied(source: Database, destination: Database, *tables: str) -> None:
    config = pipeline(Engine.PGOUTPUT, source, [destination], *tables)
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)


def test_binary_values_of_every_such_type_arrive(
    source: Database, destination: Database, is_binary: dict[str, bool]
) -> None:
    tables = {f"values_{number}": kind for number, kind in enumerate(VALUES)}
    for name, kind in tables.items():
        rows = ", ".join(f"({number}, {value}::{kind})" for number, value in enumerate([*VALUES[kind], "NULL"]))
        source.run(f"CREATE TABLE {name} (id int PRIMARY KEY, value {kind})", f"INSERT INTO {name} VALUES {rows}")
    copied(source, destination, *tables)
    assert dict.fromkeys(tables, True) == is_binary


def test_other_types_are_read_as_text(source: Database, destination: Database, is_binary: dict[str, bool]) -> None:
    values = {"interval": "'1 mon'", "regclass": "'pg_class'", "mood": "'sad'", "positive": "1", "bit(3)": "B'101'"}
    types = ("CREATE TYPE mood AS ENUM ('sad')", "CREATE DOMAIN positive AS int CHECK (value > 0)")
    destination.run(*types)
    source.run(*types)
    tables = {f"values_{number}": kind for number, kind in enumerate(values)}
    for name, kind in tables.items():
        source.run(
            f"CREATE TABLE {name} (id int PRIMARY KEY, value {kind})", f"INSERT INTO {name} VALUES (1, {values[kind]})"
        )
    copied(source, destination, *tables)
    assert dict.fromkeys(tables, False) == is_binary


def test_a_table_that_somebody_made_with_another_type_is_read_as_text(
    source: Database, destination: Database, is_binary: dict[str, bool]
) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY, size int)", "INSERT INTO items VALUES (1, 2)")
    destination.run("CREATE TABLE items (id bigint PRIMARY KEY, size int)")
    copied(source, destination, "items")
    assert {"items": False} == is_binary


def test_all_built_in_types_that_hold_no_number_of_a_catalog(source: Database) -> None:
    """Types that are added to the list have to be of the server itself: others may have any OID."""
    with source.connect() as connection:
        found = connection.execute("SELECT count(*) FROM pg_type WHERE oid = ANY (%s)", [list(BINARY_TYPES)]).fetchone()
    assert (len(BINARY_TYPES),) == found
    assert max(BINARY_TYPES) < 10_000


@contextmanager
def opened(destination: Database) -> Iterator[tuple[Destination, Held]]:
    made = make(PostgresKind(destination), [ITEMS])
    try:
        held = made.open(IDENTITY)
        made.prepare([ITEMS])
        yield made, held
    finally:
        made.close()


def load(destination: Destination, first_page: int, text: bytes) -> None:
    pages = PageRange(Relation(ITEMS.id, 1), first_page, first_page + 1)
    with destination.loader() as loader:
        loader.load(ITEMS, CopiedRange(pages, 99), [text])


def keys(destination: Database) -> Sequence[tuple[object, ...]]:
    with destination.connect() as connection:
        return connection.execute(KEYS).fetchall()


def test_the_key_is_built_after_the_rows_are_copied(destination: Database) -> None:
    with opened(destination) as (replica, _):
        replica.start_copy([ITEMS], POINT)
        load(replica, 0, b"2\tb\n1\ta\n")
        assert [] == keys(destination)
        for _ in range(2):
            with replica.loader() as loader:
                loader.complete(ITEMS)
            assert [("PRIMARY KEY (id)",)] == keys(destination)


def test_a_copy_that_is_resumed_has_its_key_before_rows_are_replaced(destination: Database) -> None:
    with opened(destination) as (replica, _):
        replica.start_copy([ITEMS], POINT)
        load(replica, 0, b"1\ta\n")
    with opened(destination) as (replica, held):
        assert {ITEMS.id} == held.begun.keys()
        replica.resume_copy([ITEMS], POINT)
        assert [("PRIMARY KEY (id)",)] == keys(destination)


def test_a_copy_that_starts_over_gets_its_key_too(destination: Database) -> None:
    with opened(destination) as (replica, _):
        replica.start_copy([ITEMS], POINT)
        load(replica, 0, b"1\ta\n")
    with opened(destination) as (replica, _):
        replica.start_copy([ITEMS], POINT)
        load(replica, 0, b"1\tA\n")
        with replica.loader() as loader:
            loader.complete(ITEMS)
        assert [("PRIMARY KEY (id)",)] == keys(destination)


def test_rows_that_the_destination_calls_equal_are_reported_as_such(destination: Database) -> None:
    with opened(destination) as (replica, _):
        replica.start_copy([ITEMS], POINT)
        load(replica, 0, b"1\ta\n1\tsecret\n")
        with replica.loader() as loader, pytest.raises(DestinationRejected) as refused:
            loader.complete(ITEMS)
    assert "secret" not in str(refused.value)


def test_a_table_of_somebody_else_without_a_key_is_refused(destination: Database) -> None:
    destination.run("CREATE TABLE items (id text, name text)")
    with opened(destination) as (replica, _), pytest.raises(DestinationRejected, match="no unique index on the key"):
        replica.start_copy([ITEMS], POINT)


def test_another_primary_key_of_ours_is_never_replaced(destination: Database) -> None:
    with opened(destination) as (replica, _):
        replica.start_copy([ITEMS], POINT)
    destination.run("ALTER TABLE items ADD PRIMARY KEY (name)")
    with opened(destination) as (replica, _), pytest.raises(DestinationRejected, match="DROP CONSTRAINT"):
        replica.start_copy([ITEMS], POINT)


def with_column(kind: str, oid: int, *, not_null: bool) -> TableSchema:
    """The table with a second column of this type."""
    return replace(ITEMS, columns=(ITEMS.columns[0], column("name", kind, oid=oid, not_null=not_null, number=2)))


@contextmanager
def started(destination: Database, schema: TableSchema) -> Iterator[Destination]:
    """A destination that is opened for the table as it is at the source by now."""
    made = make(PostgresKind(destination), [schema])
    try:
        made.open(IDENTITY)
        made.prepare([schema])
        yield made
    finally:
        made.close()


def copy_of(destination: Database, schema: TableSchema) -> None:
    with started(destination, schema) as replica:
        replica.start_copy([schema], POINT)
        with replica.loader() as loader:
            loader.complete(schema)
        replica.finish_copy(schema)


def test_a_table_that_lost_its_key_since_it_was_copied_is_refused_at_the_next_start(destination: Database) -> None:
    copy_of(destination, ITEMS)
    destination.run("ALTER TABLE items DROP CONSTRAINT items_pkey")
    with pytest.raises(DestinationRejected, match="no unique index on the key"), started(destination, ITEMS):
        pass


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (with_column("integer", 23, not_null=True), with_column("integer", 23, not_null=False), ("integer", False)),
        (with_column("integer", 23, not_null=False), with_column("bigint", 20, not_null=False), ("bigint", False)),
    ],
    ids=["NULL", "a wider type"],
)
def test_a_copied_table_takes_at_a_start_what_the_source_may_hold_by_now(
    destination: Database, before: TableSchema, now: TableSchema, expected: tuple[str, bool]
) -> None:
    copy_of(destination, before)
    with started(destination, now):
        pass
    query = "SELECT atttypid::regtype::text, attnotnull FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum = 2"
    assert [expected] == destination.rows(query)
