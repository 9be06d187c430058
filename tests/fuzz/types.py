"""Which types there are, how their values are drawn, and which of both Debezium is known to refuse (LIMITATIONS.md)."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from . import values as v
from .values import Texts

#: Types of the user. Rosetta makes no types, so they are made at both ends.
TYPES = """
    CREATE SCHEMA types;
    CREATE TYPE types.mood AS ENUM ('sad', 'very "happy"', 'ab', '10', 'über', '{,}');
    CREATE TYPE types."Mixed Case" AS ENUM ('x', 'Y z');
    CREATE TYPE types.pair AS (a integer, "B b" text);
    CREATE TYPE types.nested AS (p types.pair, n numeric[]);
    CREATE TYPE types.span AS RANGE (subtype = double precision, multirange_type_name = types.spans);
    CREATE DOMAIN types.whole AS integer CHECK (value <> 17);
    CREATE DOMAIN types.nested_whole AS types.whole;
    CREATE DOMAIN types."Label" AS text;
    CREATE DOMAIN types.price AS numeric(10, 2);
    CREATE DOMAIN types.image AS bytea;
    CREATE DOMAIN types.padded AS character(5);
    CREATE DOMAIN types.moment AS timestamptz(3);
    CREATE DOMAIN types.numbers AS integer[];
    CREATE DOMAIN types.couple AS types.pair;
    CREATE EXTENSION vector SCHEMA types;
"""

#: A domain over an enum anywhere in the database keeps Debezium from starting: only where it never runs.
PGOUTPUT_TYPES = "CREATE DOMAIN types.feeling AS types.mood; CREATE DOMAIN types.flags AS bit(3);"


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """A type as SQL spells it, with its values."""

    sql: str
    texts: Texts
    #: The values that Debezium tells; None: it refuses the type.
    debezium_texts: Texts | None
    #: Whether it serves as a key: it has a B-tree and many values.
    is_key: bool = False
    has_hash: bool = False
    #: Makes a value that is stored out of line, of any number.
    large: Callable[[int], str] | None = None


_ALL: list[Type] = []


def _add(sql: str, texts: Texts, debezium: Texts | None, **more: bool | Callable[[int], str]) -> None:
    _ALL.append(Type(sql=sql, texts=texts, debezium_texts=debezium, **more))  # type: ignore[arg-type]


def _same(sql: str, texts: Texts, **more: bool | Callable[[int], str]) -> None:
    _add(sql, texts, texts, **more)


def _only_pgoutput(sql: str, texts: Texts, **more: bool | Callable[[int], str]) -> None:
    _add(sql, texts, None, **more)


def _array(
    sql: str,
    element: Texts,
    *,
    debezium: Texts | None = None,
    nulls: bool = True,
    delimiter: str = ",",
    is_known: bool = True,
) -> None:
    """An array; for Debezium of one dimension, perhaps of fewer elements, perhaps without NULL. Not known: it refuses it."""
    plain = (
        v.array_of(element if debezium is None else debezium, nulls=nulls, is_plain=True, delimiter=delimiter)
        if is_known
        else None
    )
    _add(f"{sql}[]", v.array_of(element, delimiter=delimiter), plain)


def _hex(hint: int) -> str:
    return f"\\x{v.large(hint)}"


def _label() -> Texts:
    return v.sampled("sad", 'very "happy"', "ab", "10", "über", "{,}")


def _pair() -> Texts:
    return v.composite(v.whole(-(2**31), 2**31 - 1), v.text(10))


_INT4, _INT8 = v.whole(-(2**31), 2**31 - 1), v.whole(-(2**63), 2**63 - 1)
_BOUND = st.integers(-1000, 1000)
_DATES = ("2020-01-01", "2021-05-05")
_IP = st.ip_addresses().map(str)
_MACS = st.binary(min_size=8, max_size=8).map(lambda data: data.hex(":"))
_WORDS = v.sampled("'a':1A 'b'", "'it''s':2 'x'", "'ü':3B", "")
_POINTS = v.floats_joined("({},{})", 2)
_FLAT_TIMES = v.plain_timestamp() | v.sampled("infinity")

_same("smallint", v.whole(-(2**15), 2**15 - 1), is_key=True, has_hash=True)
_same("integer", _INT4, is_key=True, has_hash=True)
_same("bigint", _INT8, is_key=True, has_hash=True)
_same("oid", v.whole(0, 2**32 - 1), is_key=True, has_hash=True)
_same("boolean", v.sampled("t", "f"))
_same("numeric", v.numeric() | v.sampled("NaN", "Infinity", "-Infinity"), is_key=True, has_hash=True)
_same("numeric(12,2)", v.decimal(12, 2) | v.sampled("NaN"), is_key=True, has_hash=True)
_same("numeric(5,-2)", v.whole(-9999900, 9999900))
_same("numeric(1000,500)", v.numeric().filter(lambda found: "e" not in found), is_key=True)
_same("real", v.floating(32), is_key=True, has_hash=True)
_same("double precision", v.floating(64), is_key=True, has_hash=True)
_same("money", v.money(), is_key=True)
_same("character(5)", v.text(5), is_key=True, has_hash=True)
_same("character varying(8)", v.text(8), is_key=True, has_hash=True)
_same("text", v.text(), is_key=True, has_hash=True, large=v.large)
_same("character varying", v.text(), is_key=True, large=v.large)
_same('"char"', v.sampled("c", "", r"\377", "'"))
_same("name", v.text(15), is_key=True)
_same("bytea", v.raw(), is_key=True, has_hash=True, large=_hex)
_same("date", v.date(), is_key=True, has_hash=True)
_same("timestamp", v.timestamp(), is_key=True, has_hash=True)
_same("timestamp(3)", v.plain_timestamp())
_same("timestamptz", v.timestamp("+05:30"), is_key=True, has_hash=True)
_same("timestamptz(0)", v.plain_timestamp("-03"))
_same("time", v.time(), is_key=True)
_same("time(2)", v.time())
_only_pgoutput("timetz", v.timetz(), is_key=True)
_add("interval", v.interval() | v.sampled("0", "infinity", "-infinity"), v.interval(), is_key=True)
_same("uuid", v.uuid(), is_key=True, has_hash=True)
_same("json", v.json_text(), large=lambda hint: f'{{"a" : "{v.large(hint)}"}}')
_same("jsonb", v.json_text(), is_key=True, large=lambda hint: f'{{"a":"{v.large(hint)}"}}')
_same("inet", _IP | v.sampled("1.2.3.4/8", "::1/64"), is_key=True)
_same("cidr", v.sampled("10.0.0.0/8", "::/0", "1.2.3.4/32"))
_same("macaddr", v.sampled("08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"))
_same("macaddr8", _MACS, is_key=True)
_same("bit", v.bits(1, 1))
_same("bit(10)", v.bits(10, 10), is_key=True)
_only_pgoutput("bit varying", v.bits(0, 12), is_key=True)
_only_pgoutput("bit varying(5)", v.bits(0, 5))
_same("tsvector", _WORDS)
_same("tsquery", v.sampled("'a' & !'b'", "'a' <-> 'b'", ""))
_same("point", _POINTS)
_same("line", v.sampled("{1,2.5,-3}", "{0,1,-0}"))
_same("lseg", v.floats_joined("[({},{}),({},{})]", 4))
_same("box", v.floats_joined("({},{}),({},{})", 4))
_same("path", v.floats_joined("[({},{}),({},{})]", 4) | v.floats_joined("(({},{}),({},{}))", 4))
_same("polygon", v.floats_joined("(({},{}),({},{}),({},{}))", 6))
_same("circle", v.floats_joined("<({},{}),2.5>", 2))
_same("pg_lsn", v.sampled("16/B374D848", "0/0", "FFFFFFFF/FFFFFFFF"))
_same("jsonpath", v.sampled("$.a[*] ? (@ > 1)", 'strict $."ü"'))
_same("xid8", v.whole(0, 2**64 - 1))
_same("txid_snapshot", v.sampled("10:20:10,14,15", "1:1:"))
_same("regtype", v.sampled("double precision", "integer[]"))
_only_pgoutput("int2vector", v.sampled("1 2", ""))
_only_pgoutput("types.vector(3)", v.sampled("[1,2,3]", "[0.1,-0,1e10]"))
_same("int4range", v.interval_of(_BOUND), is_key=True)
_same("numrange", v.interval_of(_BOUND, ("{}.50", "{}.500")))
_same("tsrange", v.sampled("[2020-01-01,infinity)", "empty", "(,2020-01-01 00:00:00.000001]"))
_same("tstzrange", v.sampled("[2020-01-01 00:00+00,)", "(-infinity,2020-01-01 00:00+05:30]"))
_same("daterange", v.sampled("[0044-03-15 BC,2020-01-01)", "(,)"))
_same("int8multirange", v.multirange_of(v.interval_of(_BOUND)))
_same("types.span", v.interval_of(_BOUND, ("{}.5", "{}.75")))
_same("types.spans", v.multirange_of(v.interval_of(_BOUND, ("{}.5", "{}.75"))))
_same("types.mood", _label())
_same('types."Mixed Case"', v.sampled("x", "Y z"))
_same("types.pair", _pair(), large=lambda hint: f"(1,{v.large(hint)})")
_same("types.nested", v.composite(_pair(), v.array_of(v.decimal(5, 2))))
_same("types.whole", v.whole(18, 2**31 - 1), is_key=True, has_hash=True)
_same("types.nested_whole", v.whole(18, 1000))
_same('types."Label"', v.text(), is_key=True, large=v.large)
_same("types.price", v.decimal(10, 2), is_key=True)
_same("types.image", v.raw(), large=_hex)
_same("types.padded", v.text(5))
_same("types.moment", v.plain_timestamp("+00"))
_add("types.numbers", v.array_of(_INT4), v.array_of(_INT4, is_plain=True))
_same("types.couple", _pair())

_array("smallint", v.whole(-(2**15), 2**15 - 1))
_array("integer", _INT4)
_array("bigint", _INT8)
_array("boolean", v.sampled("t", "f"))
_array("numeric", v.numeric() | v.sampled("NaN", "Infinity"), debezium=v.numeric())
_array("numeric(10,3)", v.decimal(10, 3))
_array("real", v.floating(32))
_array("double precision", v.floating(64))
_add("text[]", v.array_of(v.text()), v.array_of(v.text(), is_plain=True), large=lambda hint: f"{{{v.large(hint)},NULL}}")
_array("character varying(5)", v.text(5))
_array("character(3)", v.text(3))
_array("uuid", v.uuid())
_array("json", v.json_text())
_array("jsonb", v.json_text())
_array("bytea", v.raw())
_array("date", v.date(), debezium=v.plain_date())
_array("timestamp", v.timestamp(), debezium=_FLAT_TIMES)
_array("timestamptz", v.timestamp("+00"), debezium=v.plain_timestamp("+00") | v.sampled("infinity"))
_array("inet", _IP)
_array("int4range", v.interval_of(_BOUND))
_array("int4multirange", v.multirange_of(v.interval_of(_BOUND)), nulls=False)
_array("tsvector", _WORDS, nulls=False)
_array("box", v.floats_joined("({},{}),({},{})", 4), nulls=False, delimiter=";")
_array("types.mood", _label(), nulls=False)
_array("types.pair", _pair(), nulls=False)
_array("types.whole", v.whole(18, 1000), nulls=False)
_array('types."Label"', v.text(), nulls=False)
# Debezium leaves these arrays out, fails on them, or cuts their values.
_array("time", v.time(), is_known=False)
_array("timetz", v.timetz(), is_known=False)
_array("interval", v.interval(), is_known=False)
_array("money", v.money(), is_known=False)
_array("name", v.text(10), is_known=False)
_array("point", _POINTS, is_known=False)
_array("bit(3)", v.bits(3, 3), is_known=False)
_array("bit varying", v.bits(0, 5), is_known=False)
_array("types.vector(2)", v.sampled("[1,2]"), is_known=False)
_array("types.spans", v.multirange_of(v.interval_of(_BOUND)), is_known=False)

#: What only a database knows on which Debezium never runs.
_PGOUTPUT_DATABASE = (
    Type(sql="types.feeling", texts=_label(), debezium_texts=None),
    Type(sql="types.flags", texts=v.bits(3, 3), debezium_texts=None),
    Type(sql="types.feeling[]", texts=v.array_of(_label()), debezium_texts=None),
)


def types(*, for_debezium: bool) -> tuple[Type, ...]:
    """The types, with the values that the engines of a workload can tell."""
    if not for_debezium:
        return (*_ALL, *_PGOUTPUT_DATABASE)
    return tuple(
        Type(
            sql=each.sql,
            texts=each.debezium_texts,
            debezium_texts=each.debezium_texts,
            is_key=each.is_key,
            has_hash=each.has_hash,
            large=each.large,
        )
        for each in _ALL
        if each.debezium_texts is not None
    )
