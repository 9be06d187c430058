"""Every value through Debezium, compared byte by byte with what PostgreSQL itself prints for it.

One server, one engine: each case is a table of its own, all are written in one go, and the tests look at what came. The
server's own settings are chosen so that a value which depended on them would come out wrong.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED, Operation, Value
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.source.debezium.decode import Decoded, Decoder
from rosetta_dagster.cdc.source.debezium.events import Image, Layout
from rosetta_dagster.cdc.source.debezium.stream import DebeziumSource, DebeziumStream
from rosetta_dagster.cdc.source.debezium.values import converter_for
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.postgres import USER, EmbeddedPostgres
from tests.support.every_value import (
    CREATE_TYPES,
    EXACT,
    LOSSLESS_SESSION,
    REFUSED_TYPES,
    REFUSED_VALUES,
    TOASTED,
    UNUSUAL_SETTINGS,
    is_missing,
)
from tests.support.servers import server_for_sources

_COLUMNS: Final = """
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.atttypid, a.atttypid AS oid
          FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, b.attname, b.type, b.atttypid, t.typbasetype
          FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd'
    )
    SELECT b.attname, b.type, b.atttypid::bigint, b.oid::bigint,
           CASE WHEN t.typcategory = 'A' THEN coalesce(nullif(e.typbasetype, 0), e.oid)::bigint ELSE 0 END
      FROM base b JOIN pg_type t ON t.oid = b.oid LEFT JOIN pg_type e ON e.oid = t.typelem
     WHERE t.typtype <> 'd' ORDER BY b.attnum
"""


def columns_of(connection: "psycopg.Connection[Any]", table: str) -> tuple[Column, ...]:
    rows = connection.execute(_COLUMNS, [table]).fetchall()
    return tuple(
        Column(name=name, type=type_, type_oid=oid, base_oid=base_oid, element_oid=element_oid, number=number)
        for number, (name, type_, oid, base_oid, element_oid) in enumerate(rows, 1)
    )


@dataclass
class Captured:
    """What came through Debezium, and what PostgreSQL prints, by table and id."""

    connection: "psycopg.Connection[Any]"
    #: Types that the server lacks.
    lacking: set[str]
    inserted: dict[tuple[str, int], Value] = field(default_factory=dict)
    updated: dict[tuple[str, int], Value] = field(default_factory=dict)
    refused: dict[tuple[str, int], ChangeUndecodable] = field(default_factory=dict)
    printed: dict[tuple[str, int], bytes | None] = field(default_factory=dict)


class _Forgiving(Decoder):
    """Notes the values that are refused and goes on: a stream ends with the first of them."""

    refused: dict[tuple[str, int], ChangeUndecodable]

    def rows(self, layout: Layout, before: Image, after: Image) -> Decoded:
        try:
            return super().rows(layout, before, after)
        except ChangeUndecodable as error:
            assert after is not None, "only rows are refused"
            key, _, *others = after
            assert isinstance(key, bytes), "keys are numbers"
            self.refused[layout.table.name, int(key)] = error
            return super().rows(layout, before, [key, None, *others])


@pytest.fixture(scope="module")
def captured() -> Iterator[Captured]:
    with (
        server_for_sources(UNUSUAL_SETTINGS) as server,
        psycopg.connect(server.url(), autocommit=True) as connection,
    ):
        connection.execute(LOSSLESS_SESSION)
        connection.execute(CREATE_TYPES)
        lacking = {type_ for type_ in (*EXACT, *TOASTED, *REFUSED_TYPES) if is_missing(connection, type_)}
        tables = _create(connection, lacking)
        connection.execute("CREATE PUBLICATION captured FOR ALL TABLES")
        connection.execute("SELECT pg_create_logical_replication_slot('captured', 'pgoutput')")
        stream = _open(server, connection, tables)
        try:
            result = Captured(connection, lacking)
            decoder = stream._reader._decoder
            decoder.__class__ = _Forgiving
            decoder.refused = result.refused  # type: ignore[attr-defined]
            _write(connection, lacking)
            _collect(stream, result)
            _read_back(connection, result)
            yield result
        finally:
            stream.close()


def _skip_if_lacking(captured: Captured, type_: str) -> None:
    if type_ in captured.lacking:
        pytest.skip(f"This server has no {type_}.")


def _create(connection: "psycopg.Connection[Any]", lacking: set[str]) -> list[str]:
    tables = []
    for family, types in (("exact", EXACT), ("refused", REFUSED_VALUES), ("toasted", TOASTED)):
        for number, type_ in enumerate(types):
            if type_ in lacking:
                continue
            tables.append(f"{family}_{number}")
            connection.execute(f"CREATE TABLE {family}_{number} (id integer PRIMARY KEY, v {type_}, touched integer)")
            if family == "toasted":
                connection.execute(f"ALTER TABLE {family}_{number} ALTER v SET STORAGE EXTERNAL")
    for number, type_ in enumerate(REFUSED_TYPES):
        if type_ in lacking:
            continue
        connection.execute(f"CREATE TABLE untold_{number} (id integer PRIMARY KEY, v {type_})")
    connection.execute("CREATE TABLE done (id integer PRIMARY KEY, v integer)")
    return [*tables, "done"]


def _open(server: EmbeddedPostgres, connection: "psycopg.Connection[Any]", tables: list[str]) -> DebeziumStream:
    row = connection.execute("SELECT confirmed_flush_lsn::text FROM pg_replication_slots").fetchone()
    assert row is not None
    schemas = {
        TableId("public", name): TableSchema(
            id=TableId("public", name), columns=columns_of(connection, name), key=("id",), identity=Identity.KEY
        )
        for name in tables
    }
    return DebeziumSource(
        connection=PostgresConnection.model_validate(
            {
                "host": "127.0.0.1",
                "port": server.port,
                "database": "postgres",
                "username": USER,
                "password": server.password,
            }
        ),
        slot_name="captured",
        publication_name="captured",
        schemas=schemas,
        held_schemas={},
        read_schemas=lambda tables: {table: schemas[table] for table in tables},
        confirmed_flush_lsn=Lsn.parse(row[0]),
    ).open([])


def _write(connection: "psycopg.Connection[Any]", lacking: set[str]) -> None:
    for family, types in (("exact", EXACT), ("refused", REFUSED_VALUES)):
        for number, (type_, expressions) in enumerate(types.items()):
            if type_ in lacking:
                continue
            for id_, expression in enumerate(expressions):
                connection.execute(f"INSERT INTO {family}_{number} VALUES ({id_}, ({expression})::{type_})")
            connection.execute(f"INSERT INTO {family}_{number} VALUES (-1, NULL)")
    for number, (type_, expression) in enumerate(TOASTED.items()):
        if type_ in lacking:
            continue
        connection.execute(f"INSERT INTO toasted_{number} VALUES (0, ({expression})::{type_})")
        connection.execute(f"UPDATE toasted_{number} SET touched = 1")
    connection.execute("INSERT INTO done VALUES (0, 0)")


def _collect(stream: DebeziumStream, result: Captured) -> None:
    deadline = time.monotonic() + 120
    while ("done", 0) not in result.inserted:
        assert time.monotonic() < deadline, "not every change came"
        delivery = stream.next(1.0)
        if delivery is None:
            continue
        for change in delivery.changes:
            assert change.row is not None
            target = result.inserted if change.operation is Operation.INSERT else result.updated
            id_ = change.row[0]
            assert isinstance(id_, bytes)
            target[change.table.id.name, int(id_)] = change.row[1]
        stream.commit(delivery)


def _read_back(connection: "psycopg.Connection[Any]", result: Captured) -> None:
    """What PostgreSQL's output functions print, as COPY does; a cast to text would trim char(n) and spell booleans."""
    for name in {name for name, _ in result.inserted}:
        cursor = connection.execute(f"SELECT id, v FROM {name}")
        assert cursor.pgresult is not None
        for row in range(cursor.pgresult.ntuples):
            id_ = cursor.pgresult.get_value(row, 0)
            assert id_ is not None
            result.printed[name, int(id_)] = cursor.pgresult.get_value(row, 1)


@pytest.mark.parametrize(
    ("table", "type_", "expressions"),
    [(f"exact_{number}", type_, expressions) for number, (type_, expressions) in enumerate(EXACT.items())],
    ids=list(EXACT),
)
def test_values_arrive_as_postgres_prints_them(captured: Captured, table: str, type_: str, expressions: list[str]) -> None:
    _skip_if_lacking(captured, type_)
    ids = range(-1, len(expressions))
    got = {id_: captured.inserted[table, id_] for id_ in ids}
    assert got == {id_: captured.printed[table, id_] for id_ in ids}, type_
    assert not [key for key in captured.refused if key[0] == table]


@pytest.mark.parametrize(
    ("table", "type_", "expressions"),
    [(f"refused_{number}", type_, expressions) for number, (type_, expressions) in enumerate(REFUSED_VALUES.items())],
    ids=list(REFUSED_VALUES),
)
def test_values_that_are_lost_are_refused(captured: Captured, table: str, type_: str, expressions: list[str]) -> None:
    _skip_if_lacking(captured, type_)
    for id_, expression in enumerate(expressions):
        error = captured.refused.get((table, id_))
        assert error is not None, f"{expression} came as {captured.inserted[table, id_]!r}"
        assert "'v'" in error.message
        assert "PGOUTPUT" in error.remedy
        assert error.__cause__ is None
    assert captured.inserted[table, -1] is None


@pytest.mark.parametrize(
    ("table", "type_"), [(f"toasted_{number}", type_) for number, type_ in enumerate(TOASTED)], ids=list(TOASTED)
)
def test_values_that_were_not_sent_again_are_unchanged(captured: Captured, table: str, type_: str) -> None:
    _skip_if_lacking(captured, type_)
    assert captured.inserted[table, 0] == captured.printed[table, 0]
    assert captured.updated[table, 0] is UNCHANGED


@pytest.mark.parametrize(
    ("table", "type_"),
    [(f"untold_{number}", type_) for number, type_ in enumerate(REFUSED_TYPES)],
    ids=REFUSED_TYPES,
)
def test_types_that_are_lost_are_refused_before_the_stream_begins(captured: Captured, table: str, type_: str) -> None:
    _skip_if_lacking(captured, type_)
    column = columns_of(captured.connection, table)[1]
    with pytest.raises(ChangeUndecodable) as caught:
        converter_for(column, "placeholder")
    assert "'v'" in caught.value.message
    assert column.type in caught.value.message, type_


def test_a_real_of_few_digits_is_the_same_number(captured: Captured) -> None:
    """Java prints two digits at least, so here the text differs and the value does not."""
    convert = converter_for(Column(name="v", type="real", type_oid=700, base_oid=700), "placeholder")
    text = convert(1.4e-45)
    assert isinstance(text, bytes)
    row = captured.connection.execute("SELECT %s::real = '1e-45'::real", [text.decode()]).fetchone()
    assert row == (True,)
