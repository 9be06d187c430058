"""A value of every type, with the ends of what each type can say."""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import psycopg

from tests.support.servers import named_install, source_version

UNUSUAL_SETTINGS: Final = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "timezone": "Asia/Kolkata",
}


LOSSLESS_SESSION: Final = (
    "SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 1; "
    "SET bytea_output = 'hex'; SET lc_monetary = 'C'"
)


CREATE_TYPES: Final = """
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


#: Types that a server may be without, with their extensions; `xml` needs a library that PostgreSQL is built with.
_EXTENSIONS: Final[Mapping[str, str | None]] = {
    "xml": None, "hstore": "hstore", "citext": "citext", "ltree": "ltree", "geometry": "postgis", "geography": "postgis",
    "vector": "vector", "halfvec": "vector", "sparsevec": "vector",
}  # fmt: skip

#: Those that the embedded server is without: they are tested with the servers of `make test-versions` only.
_NOT_EMBEDDED: Final = frozenset({"xml", "hstore", "citext", "ltree", "geometry", "geography"})

#: They came with version 17.
_HAS_INFINITE_INTERVALS: Final = source_version() >= 17

_Value = TypeVar("_Value")


def _tested_here(types: Mapping[str, _Value]) -> Mapping[str, _Value]:
    """The types that the server of this session is expected to have."""
    return {type_: value for type_, value in types.items() if named_install() or _base(type_) not in _NOT_EMBEDDED}


def _base(type_: str) -> str:
    found = re.match(r"\w*", type_)
    assert found is not None
    return found[0]


#: A type, and expressions whose values arrive exactly.
EXACT: Final[Mapping[str, list[str]]] = _tested_here({
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
})  # fmt: skip


#: A type, and expressions whose values Debezium does not tell.
REFUSED_VALUES: Final[Mapping[str, list[str]]] = _tested_here(
    {
        # Debezium prints infinite intervals as zero, so zero cannot be told from them.
        "interval": ["'0'", *(["'infinity'", "'-infinity'"] if _HAS_INFINITE_INTERVALS else [])],
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
)


#: Types that Debezium leaves out, or of whose values nothing exact is left.
REFUSED_TYPES: Final = tuple(_tested_here(dict.fromkeys((
    "timetz", "bit varying", "bit varying(5)", "int2vector", "oidvector", "flags", "offset_time", "time[]", "timetz[]",
    "interval[]", "money[]", "name[]", "point[]", "bit(3)[]", "bit varying[]", "xml[]", "refcursor[]",
    "geometry", "geography",
))))  # fmt: skip


_LONG: Final = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 400) g)"


_DIGITS: Final = "(SELECT string_agg(g::text, '')::numeric FROM generate_series(1, 9000) g)"


#: A type, and an expression too large to be sent again by an update that leaves it alone.
TOASTED: Final[Mapping[str, str]] = _tested_here(
    {
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
)


def is_missing(connection: "psycopg.Connection[Any]", type_: str) -> bool:
    """Report whether the server is without this type; its extension is made in the database where there is one."""
    name = _base(type_)
    if name not in _EXTENSIONS:
        return False
    extension = _EXTENSIONS[name]
    try:
        connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}" if extension else "SELECT ''::xml")
    except psycopg.errors.FeatureNotSupported:
        return True
    return False


#: What Debezium refuses as a type.
REFUSED_BY_DEBEZIUM: Final[Mapping[str, list[str]]] = _tested_here(
    {
        "timetz": ["'10:00:00.5+05:30'", "'24:00-12'"],
        "bit varying": ["B'101'", "B''"],
        "bit varying(5)": ["B'1'"],
        "int2vector": ["'1 2'"],
        "oidvector": ["'1 2'"],
        "flags": ["B'101'"],
        "offset_time": ["'10:00+02'"],
        "time[]": ["'{10:00,24:00,NULL}'"],
        "timetz[]": ["'{10:00+01}'"],
        "interval[]": ["'{1 mon,-2 days 03:00,infinity}'" if _HAS_INFINITE_INTERVALS else "'{1 mon,-2 days 03:00}'"],
        "money[]": ["'{1.5}'"],
        "name[]": ["'{a,\"b c\"}'"],
        "point[]": ["'{\"(1,2)\"}'"],
        "bit(3)[]": ["'{101}'"],
        "bit varying[]": ["'{1,01}'"],
        "refcursor[]": ["'{a}'"],
        "integer[]": ["'[0:1]={1,2}'"],
        "numeric[]": ["'{NaN,Infinity,1.50}'"],
        "mood[]": ["'{sad,NULL}'"],
        "date": ["'4713-01-01 BC'"],
        # Of the extension PostGIS.
        "geometry": ["'POINT(1 2)'", "'SRID=4326;LINESTRING(0 0,1.5 1e300)'", "'POLYGON EMPTY'"],
        "geometry(Point,4326)": ["'SRID=4326;POINT(-0.1 0.1)'"],
        "geography": ["'POINT(9.99 53.55)'"],
        "geometry[]": ["array['POINT Z (1 2 3)'::geometry, NULL]"],
        # Of the extension pgvector.
        "vector": ["'[1,2.5,-3e-10]'"],
        "vector(2)": ["'[0,1]'"],
        "halfvec(2)": ["'[0.5,1]'"],
        "sparsevec(5)": ["'{1:1.5,5:-2}/5'"],
        "vector[]": ["array['[1,2]'::vector, NULL]"],
    }
)


def expressions_of(connection: "psycopg.Connection[object]") -> dict[str, list[str]]:
    """Every type that the server has, with expressions for its values."""
    found: dict[str, list[str]] = {}
    large = {type_: [expression] for type_, expression in TOASTED.items()}
    for cases in (EXACT, REFUSED_VALUES, REFUSED_BY_DEBEZIUM, large):
        for type_, expressions in cases.items():
            found.setdefault(type_, []).extend(expressions)
    return {type_: values for type_, values in found.items() if not is_missing(connection, type_)}


#: A value that PostgreSQL keeps out of the row, and does not send again with an update that leaves it alone.
BIG = "(SELECT string_agg(md5({0} || n::text), '') FROM generate_series(1, 1000) AS n)"
