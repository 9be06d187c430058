"""Every value through Debezium, compared byte by byte with what PostgreSQL itself prints for it.

One server, one engine: each case is a table of its own, all are written in one go, and the tests look at what came. The
server's own settings are chosen so that a value which depended on them would come out wrong.
"""

import time
from collections.abc import Iterator, Mapping
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

_SERVER_SETTINGS: Final = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "timezone": "Asia/Kolkata",
}
_SESSION: Final = (
    "SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 1; "
    "SET bytea_output = 'hex'; SET lc_monetary = 'C'"
)

_TYPES: Final = """
    CREATE SCHEMA other;
    CREATE TYPE mood AS ENUM ('sad', 'very "happy"', 'ab', '10', 'über', 'deadbeef');
    CREATE TYPE other."Mixed Case" AS ENUM ('x');
    CREATE TYPE pair AS (a integer, b text);
    CREATE TYPE span AS RANGE (subtype = double precision, multirange_type_name = spans);
    CREATE DOMAIN whole AS integer CHECK (value > 0);
    CREATE DOMAIN nested_whole AS whole;
    CREATE DOMAIN label AS text;
    CREATE DOMAIN price AS numeric(10, 2);
    CREATE DOMAIN amount AS numeric;
    CREATE DOMAIN image AS bytea;
    CREATE DOMAIN moment AS timestamptz(3);
    CREATE DOMAIN padded AS character(5);
    CREATE DOMAIN numbers AS integer[];
    CREATE DOMAIN couple AS pair;
    CREATE DOMAIN flags AS bit(3);
    CREATE DOMAIN offset_time AS timetz;
"""

#: Types that a server may lack: of extensions, and of a library that PostgreSQL is built with or without.
_OPTIONAL: Final = ("hstore", "citext", "ltree", "xml")

#: A type, and expressions whose values arrive exactly.
EXACT: Final[Mapping[str, list[str]]] = {
    "smallint": ["-32768", "32767", "0"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "boolean": ["true", "false"],
    "numeric": [
        "'NaN'", "'Infinity'", "'-Infinity'", "1.500", "0", "0.000", "-0.10", "1e-20", "1e30", "1e-16383",
        "123456789012345678901234567890.123456789012345678901234567890", "10::numeric ^ 1000",
    ],
    "numeric(12,2)": ["1.5", "'NaN'", "-9999999999.99", "0"],
    "numeric(5,-2)": ["12345", "-9999900", "0", "'NaN'"],
    "numeric(3,5)": ["0.00123"],
    "numeric(1000,500)": ["1.5"],
    "real": [
        "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0", "1", "-1.5", "0.1", "999999", "1e6", "1234567", "16777216",
        "1e15", "1e16", "1e20", "3.4028235e38", "1.17549435e-38", "0.0001", "0.00001", "1::real/3",
    ],
    "double precision": [
        "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0", "1", "-1.5", "0.1", "0.1::float8 + 0.2", "1e14",
        "123456789012345",
        "1e15", "1234567890123456", "9007199254740993", "1e16", "1e20", "1e-4", "1e-5", "5e-324",
        "1.7976931348623157e308", "2.2250738585072014e-308", "1::float8/3", "-1234567890123456.5",
    ],
    "money": ["'0'", "'0.05'", "'-0.50'", "'-1234567.89'", "'92233720368547758.07'", "'-92233720368547758.08'",
        "'1000'"],
    "character(5)": ["'ab'", "''", "'abcde'"],
    "character varying(5)": ["'a'", "''", "'a b  '"],
    "text": ["''", r"E'x\"\\é\n\t\x01'", "'NULL'", "repeat('ß€😀', 50)", r"'\N'", "'[Ljava.lang.String;@22f0b1d4'"],
    '"char"': ["'c'", "''", r"'\377'"],
    "name": ["'n'"],
    "bytea": [r"'\x00ff'", "''", r"'\xdeadbeef'"],
    "date": [
        "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'4714-11-24 BC'", "'0001-12-31 BC'", "'0001-01-01'",
        "'1500-02-28'",
        "'1970-01-01'", "'2020-02-29'", "'9999-12-31'", "'10000-01-01'", "'5874897-12-31'", "'0005-02-28 BC'",
        "'0400-02-29'",
    ],
    "timestamp": [
        "'infinity'", "'-infinity'", "'0044-03-15 10:00 BC'", "'4714-11-24 00:00 BC'",
        "'0001-12-31 23:59:59.999999 BC'",
        "'0001-01-01'", "'1500-01-01 00:00:00.5'", "'1969-12-31 23:59:59.999999'", "'2020-01-01 00:00:00.000001'",
        "'2020-01-01 00:00:10.120'", "'2020-01-01 00:00:10'", "'9999-12-31 23:59:59.999999'",
        "'10000-01-01 00:00:10.10'",
        "'294246-12-31 23:59:59.999999'", "'2024-03-31 02:30:00'",
    ],
    "timestamp(3)": ["'2020-01-01 00:00:00.123456'"],
    "timestamptz": [
        "'infinity'", "'-infinity'", "'0044-03-15 10:00+00 BC'", "'4714-11-24 00:00+00 BC'",
        "'0001-12-31 23:59:59.9+00 BC'",
        "'0001-01-01 00:00+00'", "'0999-01-01 00:00:00.5+00'", "'1969-12-31 23:59:59.999999+00'",
        "'2020-01-01 00:00:10+02'",
        "'2020-01-01 00:00:00.000001+00'", "'2020-01-01 00:00:00.10+00'", "'9999-12-31 23:59:59.999999+00'",
        "'10000-01-01 00:00:10.10+00'", "'294276-12-31 23:59:59.999999+00'",
    ],
    "timestamptz(3)": ["'2020-01-01 00:00:00.123456+00'", "'2020-01-01+00'"],
    "timestamptz(0)": ["'2020-01-01 00:00:00.6+00'"],
    "time": ["'00:00'", "'24:00:00'", "'23:59:59.999999'", "'12:00:10.10'", "'12:34'"],
    "time(2)": ["'01:02:03.456'"],
    "interval": [
        "'1 mon -1 day 00:00:00.000001'", "'-178000000 years'", "'178000000 years'", "'1 year'", "'2 years 1 mon'",
        "'-1 year -2 mons +3 days -04:05:06.789'", "'36 hours'", "'-0.000001 s'", "'1 day'", "'-1 day'",
        "'-1 day 1 hour'",
        "'1 day -1 hour'", "'1 day 1000000:00:00.1'", "'0.999999 s'", "'-00:00:59.1'", "'2147483647 hours'",
        "'30 days'",
        "'58.97 s'", "'-1.58 s'", "'4.94 s'", "'01:00:01.51123'", "'-1 mon 1 day'", "'14 months'", "'59.999999 s'",
        "'1 mon 24:00:00'", "'10 s'", "'2147483647 days'",
    ],
    "interval day to second(2)": ["'1 day 00:00:01.239'"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
    "json": ["""'{"a" : 1, "a":2.50}'""", "'null'", "'\"x\"'", "' [1 ]'"],
    "jsonb": ["""'{"a" : 123456789012345678901234567890.000, "ü": "\\u20ac\\n"}'""", "'null'", "'[]'"],
    "mood": ["'sad'", "'very \"happy\"'", "'ab'", "'10'", "'über'", "'deadbeef'"],
    'other."Mixed Case"': ["'x'"],
    "citext": ["'AbC'", "'cafe'"],
    "ltree": ["'a.b'"],
    "xml": ["'<a>ü</a>'"],
    "hstore": ["''", "'a=>1, bb=>NULL, c=>\"NULL\"'", r"""hstore(array['q"\', 'é', ''], array['x\"', ' ', ''])"""],
    "pair": ["row(1, 'a\"b')", "row(null, null)", "row(1, 'ü(,)')"],
    "span": ["'[1.5,)'", "'empty'"],
    "spans": ["'{[1.5,2),(3,)}'", "'{}'"],
    "whole": ["5"],
    "nested_whole": ["5"],
    "label": ["'q'", "''"],
    "price": ["1.5"],
    "amount": ["1.50", "'NaN'"],
    "image": [r"'\x00ff'"],
    "moment": ["'2020-01-01 00:00:00.1+00'"],
    "padded": ["'a'"],
    "numbers": ["'{1,2}'"],
    "couple": ["row(1, 'a')"],
    "int4range": ["'[1,5)'", "'empty'", "'(,)'"],
    "int8range": ["'[1,)'"],
    "numrange": ["'[1.50,2.0]'"],
    "tsrange": ["'[2020-01-01,infinity)'"],
    "tstzrange": ["'[2020-01-01 00:00+00,)'"],
    "daterange": ["'[0044-03-15 BC,2020-01-01)'"],
    "int4multirange": ["'{[1,2),[5,6)}'", "'{}'"],
    "tstzmultirange": ["'{[2020-01-01 00:00+00,2020-01-02 00:00+00)}'"],
    "inet": ["'1.2.3.4'", "'1.2.3.4/8'", "'::1/64'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "bit": ["B'1'", "B'0'"],
    "bit(10)": ["B'0000000001'", "B'0000000000'", "B'1000000000'", "B'1111111111'"],
    "bit(40)": ["B'1'::bit(40)", "B'0000000000000000000000000000000100000001'"],
    "tsvector": ["'a:1A b'", r"'''it''''s'':2'"],
    "tsquery": ["'a & !b'"],
    "point": ["'(1.5,-0)'", "'(1e300,NaN)'", "'(Infinity,1e15)'", "'(0.1,1e-5)'"],
    "line": ["'{1,2.5,-3}'"],
    "lseg": ["'[(1,2),(3e20,-4)]'"],
    "box": ["'(1,2),(3,4)'", "'(1e-10,2),(3,1e15)'", "'(Infinity,1),(-Infinity,2)'"],
    "path": ["'[(1,2),(3,4)]'", "'((1,2),(3,4.25))'"],
    "polygon": ["'((1,2),(3,4),(0.1,1e300))'"],
    "circle": ["'<(1,2),3>'", "'<(Infinity,NaN),1e300>'"],
    "pg_lsn": ["'16/B374D848'"],
    "xid8": ["'5'"],
    "txid_snapshot": ["'10:20:10,14,15'"],
    "jsonpath": ["'$.a[*] ? (@ > 1)'"],
    "regclass": ["'pg_class'"],
    "regtype": ["'double precision'"],
    "refcursor": ["'r'"],
    "smallint[]": ["'{1,NULL,-2}'", "'{}'"],
    "integer[]": ["'{1,NULL}'", "'{}'"],
    "bigint[]": ["'{9223372036854775807}'"],
    "oid[]": ["'{4294967295}'"],
    "boolean[]": ["'{t,f,NULL}'"],
    "numeric[]": ["'{1.50,NULL,0.0001,100,1e20}'"],
    "numeric(10,3)[]": ["'{1.5,-0.001}'"],
    "numeric(5,-2)[]": ["'{12345}'"],
    "real[]": ["'{0.1,NaN,Infinity,-0,1e20,1e6}'"],
    "double precision[]": ["'{0.1,NaN,-Infinity,-0,1e20,5e-324}'"],
    "text[]": [r"""array['a','NULL','null',null,'q"\,{} x','',E'\t',';']""", "'{}'", "array['ü']"],
    "character varying(5)[]": ["array['a ']"],
    "character(3)[]": ["array['a']"],
    '"char"[]': ["array['a'::\"char\"]"],
    "uuid[]": ["'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}'"],
    "json[]": ["""array['{"a":1}'::json]"""],
    "jsonb[]": ["""array['{"a":1}'::jsonb, null]"""],
    "bytea[]": [r"array['\x00ff'::bytea, null, '']"],
    "date[]": ["'{2020-01-01,NULL,9999-12-31,1582-10-15,10000-01-01}'"],
    "timestamp[]": ["'{2020-01-01 00:00:00.000001,NULL,infinity}'", "'{2024-03-31 02:30:00}'"],
    "timestamptz[]": ["'{2020-01-01 00:00:00.000001+00,NULL,infinity,10000-01-01 00:00+00}'",
        "'{2024-03-31 02:30:00+00}'"],
    "inet[]": ["'{1.2.3.4,::1/64}'"],
    "cidr[]": ["'{10.0.0.0/8}'"],
    "macaddr[]": ["'{08:00:2b:01:02:03}'"],
    "macaddr8[]": ["'{08:00:2b:01:02:03:04:05}'"],
    "int4range[]": ["array['[1,5)'::int4range, null]"],
    "tstzrange[]": ["array['[2020-01-01 00:00+00,)'::tstzrange]"],
    "int4multirange[]": ["array['{[1,5)}'::int4multirange]"],
    "tsvector[]": ["array['a b'::tsvector]"],
    "tsquery[]": ["array['a & b'::tsquery]"],
    "box[]": ["array['(1,2),(3,4)'::box, '(1,2),(3,4)'::box]"],
    "polygon[]": ["array['((1,2),(3,4.5))'::polygon]"],
    "line[]": ["array['{1,2,3}'::line]"],
    "pg_lsn[]": ["'{16/B374D848}'"],
    "mood[]": ["""'{sad,"very \\"happy\\"",10}'"""],
    "pair[]": ["array[row(1, 'a\"')::pair]"],
    "whole[]": ["'{5,6}'"],
    "label[]": ["array['q','a\"b','']::label[]"],
    "citext[]": ["array['AbC'::citext]"],
    "hstore[]": ["array['a=>1'::hstore]"],
}  # fmt: skip

#: A type, and expressions whose values Debezium does not tell.
REFUSED_VALUES: Final[Mapping[str, list[str]]] = {
    # Debezium prints infinite intervals as zero, so zero cannot be told from them.
    "interval": ["'0'", "'infinity'", "'-infinity'"],
    "timestamp": ["'294276-12-31 23:59:59.999999'", "'294247-01-10 04:00:54.775808'", "'294276-01-01'"],
    "integer[]": ["'{{1,2},{3,4}}'", "'{NULL,NULL}'"],
    "smallint[]": ["'{{1}}'"],
    "bigint[]": ["'{{1}}'"],
    "real[]": ["'{{1}}'"],
    "bytea[]": ["array[[''::bytea]]"],
    "inet[]": ["'{{1.1.1.1}}'"],
    "int4range[]": ["array[['[1,2)'::int4range]]"],
    "character varying[]": ["'{{a}}'"],
    "json[]": ["array[['1'::json]]"],
    "boolean[]": ["'{{t},{f}}'"],
    "double precision[]": ["'{{1},{2}}'"],
    "numeric[]": ["'{{1.5}}'"],
    "text[]": ["'{{a,b},{c,d}}'", "'{{{a}}}'"],
    "uuid[]": ["'{{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}}'"],
    "jsonb[]": ["array[['1'::jsonb]]"],
    "mood[]": ["'{{sad},{ab}}'"],
    "timestamptz[]": ["'{{2020-01-01}}'", "'{0044-03-15 10:00+00 BC}'", "'{1500-01-01}'", "'{-infinity}'"],
    "timestamp[]": ["'{0044-03-15 10:00 BC}'", "'{1500-01-01}'", "'{-infinity}'"],
    "date[]": ["'{0044-03-15 BC}'", "'{1500-01-01}'", "'{infinity}'", "'{-infinity}'", "'{{2020-01-01}}'"],
}

#: Types that Debezium leaves out, or of whose values nothing exact is left.
REFUSED_TYPES: Final = (
    "timetz", "bit varying", "bit varying(5)", "int2vector", "oidvector", "flags", "offset_time", "time[]", "timetz[]",
    "interval[]", "money[]", "name[]", "point[]", "bit(3)[]", "bit varying[]", "xml[]", "refcursor[]",
)  # fmt: skip

_LONG: Final = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 400) g)"
_DIGITS: Final = "(SELECT string_agg(g::text, '')::numeric FROM generate_series(1, 9000) g)"

#: A type, and an expression too large to be sent again by an update that leaves it alone.
TOASTED: Final[Mapping[str, str]] = {
    "text": _LONG,
    "character varying": _LONG,
    "numeric": _DIGITS,
    "json": f"json_build_object('a', {_LONG})",
    "jsonb": f"jsonb_build_object('a', {_LONG})",
    "bytea": f"decode({_LONG}, 'hex')",
    "pair": f"row(1, {_LONG})::pair",
    "label": _LONG,
    "image": f"decode({_LONG}, 'hex')",
    "amount": _DIGITS,
    "citext": _LONG,
    "hstore": f"hstore('k', {_LONG})",
    "numrange": f"numrange({_DIGITS}, null)",
    "tsvector": "(SELECT string_agg(md5(g::text), ' ')::tsvector FROM generate_series(1, 400) g)",
    "path": "(SELECT ('(' || string_agg(format('(%s,%s)', g, g), ',') || ')')::path FROM generate_series(1, 1000) g)",
    "text[]": f"array[{_LONG}]",
    "character varying[]": f"array[{_LONG}]",
    "jsonb[]": f"array[jsonb_build_object('a', {_LONG})]",
    "integer[]": "(SELECT array_agg(g) FROM generate_series(1, 3000) g)",
    "bigint[]": "(SELECT array_agg(g::bigint) FROM generate_series(1, 3000) g)",
    "date[]": "(SELECT array_agg('2020-01-01'::date + g) FROM generate_series(1, 3000) g)",
    "uuid[]": "(SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 3000) g)",
}

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
        EmbeddedPostgres(settings=_SERVER_SETTINGS) as server,
        psycopg.connect(server.url(), autocommit=True) as connection,
    ):
        connection.execute(_SESSION)
        connection.execute(_TYPES)
        lacking = {type_ for type_ in (*EXACT, *TOASTED) if _lacks(connection, type_)}
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


def _lacks(connection: "psycopg.Connection[Any]", type_: str) -> bool:
    name = type_.removesuffix("[]")
    if name not in _OPTIONAL:
        return False
    try:
        if name != "xml":
            connection.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
        connection.execute(f"SELECT ''::{name}")
    except psycopg.errors.FeatureNotSupported:
        return True
    return False


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
