"""Decides how Debezium's values become PostgreSQL's text form, and which types cannot be converted.

Debezium reads most types into Java types and prints those. Where that loses nothing, the text is restored exactly. Where it
does, the column or the value is refused with `ChangeUndecodable`. A few losses cannot be detected: `arrays` and `temporal`
name them.
"""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from rosetta_dagster.cdc.change.event import UNCHANGED, Value
from rosetta_dagster.cdc.change.schema import Column
from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.source.debezium.arrays import array_converter, quoted
from rosetta_dagster.cdc.source.debezium.events import BOOLEAN, INTEGER, JSON, TEXT
from rosetta_dagster.cdc.source.debezium.temporal import (
    date_text,
    interval_text,
    time_text,
    timestamp_text,
    timestamptz_text,
)

#: Converts a value that is not NULL to PostgreSQL's text.
Convert: TypeAlias = Callable[[Any], Value]

CONNECTOR_PROPERTIES: Mapping[str, str] = {
    # By default Debezium replaces a value that it cannot convert by NULL. With this it ends instead.
    "event.converting.failure.handling.mode": "fail",
    "decimal.handling.mode": "string",
    # PostgreSQL's own form of bytea without the prefix. Types that Debezium does not know come in hex, too.
    "binary.handling.mode": "hex",
    "include.unknown.datatypes": "true",
    "time.precision.mode": "microseconds",
    # Keeps months, days and microseconds separate; the other mode adds them up.
    "interval.handling.mode": "string",
    # The other mode fails on a NULL in the value.
    "hstore.handling.mode": "map",
}

_REMEDY: Final = "Set pipelines.engine to PGOUTPUT, or leave the column's table out."

#: OIDs below it are PostgreSQL's own, the same on every server.
_FIRST_USER_OID: Final = 16384

_BOOL, _BYTEA, _NUMERIC, _BIT, _POINT, _BOX = 16, 17, 1700, 1560, 600, 603

#: bigint, smallint, integer, oid.
_INTEGERS: Final = (20, 21, 23, 26)

#: Debezium passes on the text that PostgreSQL printed: "char", name, text, json, xml, cidr, inet, macaddr8, macaddr, char,
#: varchar, uuid, tsvector, jsonb, and the ranges.
_TEXTS: Final = (
    18, 19, 25, 114, 142, 650, 869, 774, 829, 1042, 1043, 2950, 3614, 3802, 3904, 3906, 3908, 3910, 3912, 3926,
)  # fmt: skip

_EXACT_FORMS: Final[Mapping[int, str]] = {
    _BOOL: BOOLEAN, **dict.fromkeys(_INTEGERS, INTEGER), **dict.fromkeys(_TEXTS, TEXT),
}  # fmt: skip

#: Parse each form into the Python value that the converters take.
_PARSERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    INTEGER: int,
    BOOLEAN: {b"t": True, b"f": False}.__getitem__,
    TEXT: bytes.decode,
    JSON: orjson.loads,
}

#: What Debezium loses of these types.
_LOST: Final = {
    1266: "its offset from UTC",
    1562: "its leading zeros",
    22: "its elements",
    30: "its elements",
}

#: Element types whose arrays Debezium omits, fails on, or cuts to milliseconds: xml, name, point, money, time,
#: interval, timetz, bit, varbit, refcursor, int2vector, oidvector.
_LOST_IN_ARRAYS: Final = frozenset({142, 19, 600, 790, 1083, 1186, 1266, 1560, 1562, 1790, 22, 30})

#: The Gregorian calendar begins on 1582-10-15. In arrays, Debezium shifts earlier days or loses their era.
_GREGORIAN_DAY: Final = -141_427
_LAST_DAY: Final = 2_145_042_905

#: Debezium's names of numeric's special values.
_SPECIAL_NUMERICS: Final = {"NAN": b"NaN", "POSITIVE_INFINITY": b"Infinity", "NEGATIVE_INFINITY": b"-Infinity"}

#: From here on Python prints floats with an exponent; PostgreSQL does so earlier.
_PYTHON_EXPONENTIAL: Final = 1e16

_JAVA_DOUBLE: Final = re.compile(r"\d+\.\d+(?:E-?\d+)?", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
_NEGATIVE_SCALE: Final = re.compile(r"numeric\(\d+,-\d+\)(?:\[\])*", re.ASCII)
_LENGTH: Final = re.compile(r"bit\((\d+)\)", re.ASCII)


def reader_for(column: Column, form: str, placeholder: str) -> Callable[[bytes], Value] | None:
    """Return the conversion of the column's values from this form to PostgreSQL's text; None when they need none."""
    if form == _exact_form(column):
        return None
    parse, convert = _PARSERS[form], converter_for(column, placeholder)

    def read(value: bytes) -> Value:
        return convert(parse(value))

    return read


def has_same_form(column: Column, type_oid: int) -> bool:
    """Whether values of the column and of the other type both come as PostgreSQL's text, in the same form."""
    form = _exact_form(column)
    return form is not None and form == _EXACT_FORMS.get(type_oid)


def _exact_form(column: Column) -> str | None:
    """Return the form in which the column's values are PostgreSQL's text; None for types that need a conversion."""
    if column.element_oid or column.base_oid in _LOST:
        return None
    return _EXACT_FORMS.get(column.base_oid)


def converter_for(column: Column, placeholder: str) -> Convert:
    """Return the conversion of the column's values that are not NULL. Raise `ChangeUndecodable` when Debezium loses them.

    The placeholder stands for a value that was not sent again. The bridge has replaced it where it is the whole value.
    """
    if column.base_oid in _LOST:
        raise _refusal(column, f"Debezium loses {_LOST[column.base_oid]}")
    if column.element_oid:
        return _guarded(column, _array(column, placeholder))
    if column.base_oid >= _FIRST_USER_OID:
        return _user_type(column, placeholder)
    return _exact_type(column) or _guarded(column, _builtin_type(column))


def _refusal(column: Column, reason: str) -> ChangeUndecodable:
    return ChangeUndecodable(f"Column {column.name!r} of type {column.type}: {reason}.", _REMEDY)


def _guarded(column: Column, convert: Convert) -> Convert:
    """Return the same conversion, which refuses a value instead of raising `ValueError`."""

    def guarded(value: Any) -> Value:
        try:
            return convert(value)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            # Without the cause, which may quote the value.
            raise _refusal(column, "a value came from Debezium in a form that is not exact") from None

    return guarded


def _exact_type(column: Column) -> Convert | None:
    """Return the conversion of a type whose values are always exact; None for other types."""
    oid = column.base_oid
    if oid in _INTEGERS:
        # A bound method of bytes: no Python frame for each integer.
        return b"%d".__mod__
    if oid == _BOOL:
        return {True: b"t", False: b"f"}.__getitem__
    if oid in _TEXTS:
        return str.encode
    if oid == _NUMERIC:
        return _whole_numeric if _NEGATIVE_SCALE.fullmatch(column.type) else _numeric
    return None


def _numeric(value: str) -> bytes:
    return _SPECIAL_NUMERICS.get(value) or value.encode()


def _whole_numeric(value: str) -> bytes:
    """Debezium reads a negative scale as one of two thousand digits."""
    return _numeric(value.partition(".")[0])


def _builtin_type(column: Column) -> Convert:
    oid = column.base_oid
    if oid == _BIT:
        return _bit(column)
    return _CONVERSIONS.get(oid) or _hex(_GEOMETRIES.get(oid))


def _bytea(value: str) -> bytes:
    return b"\\x" + value.encode()


def _hex(finish: Callable[[bytes], bytes] | None) -> Convert:
    """Return the conversion of a type that Debezium does not know: it sends PostgreSQL's text in hex."""

    def convert(value: str) -> Value:
        text = bytes.fromhex(value)
        return finish(text) if finish else text

    return convert


def _bit(column: Column) -> Convert:
    """Return the conversion of bits. They come without their length, so the type must have it; a domain does not."""
    length = 1 if column.type == "bit" else int(found[1]) if (found := _LENGTH.fullmatch(column.type)) else 0
    if not length:
        raise _refusal(column, "Debezium loses the number of bits")

    def convert(value: Any) -> Value:
        if value is True or value is False:
            return b"1" if value else b"0"
        return f"{int.from_bytes(base64.b64decode(value), 'little'):0{length}b}".encode()

    return convert


def _money(value: str) -> bytes:
    """Print money as lc_monetary C does, with two digits; Debezium has removed the currency and the separators."""
    whole, _, cents = value.lstrip("-").partition(".")
    return f"{'-' if value[0] == '-' else ''}${int(whole):,}.{cents:0<2}".encode()


def _double(value: float | str) -> bytes:
    """Print a number as PostgreSQL does. Halfway between two shortest texts, PostgreSQL prints one digit more."""
    return _float(value, 1e15)


def _real(value: float | str) -> bytes:
    return _float(value, 1e6)


def _float(value: float | str, first_exponential: float) -> bytes:
    if isinstance(value, str):
        return value.encode()
    text = repr(value)
    if first_exponential <= abs(value) < _PYTHON_EXPONENTIAL:
        digits = len(text.lstrip("-").replace(".", "").rstrip("0"))
        return f"{value:.{digits - 1}e}".encode()
    return text.removesuffix(".0").encode()


def _point(value: Mapping[str, Any]) -> bytes:
    return b"(%b,%b)" % (_double(value["x"]), _double(value["y"]))


def _geometry(text: bytes) -> bytes:
    """Print the numbers as PostgreSQL does. Debezium prints them as Java does, such as 1.0E300."""
    return _JAVA_DOUBLE.sub(lambda found: _double(float(found[0])).decode(), text.decode()).encode()


def _array_date(days: int) -> bytes:
    if not _GREGORIAN_DAY <= days <= _LAST_DAY:
        raise ValueError("infinite, BC, or in the Julian calendar")
    return date_text(days)


def _array_timestamp(microseconds: int) -> bytes:
    if microseconds < _GREGORIAN_DAY * 86_400_000_000:
        raise ValueError("infinite, BC, or in the Julian calendar")
    return timestamp_text(microseconds)


def _array_timestamptz(text: str) -> bytes:
    # -infinity comes as a year of nine digits. PostgreSQL's years have at most six, and a plus sign in front of them.
    if text.find("-") > 7 or (text < "1582-10-15" and text[0] != "+"):
        raise ValueError("infinite, BC, or in the Julian calendar")
    return timestamptz_text(text)


_CONVERSIONS: Final[Mapping[int, Convert]] = {
    _BYTEA: _bytea,
    700: _real,
    701: _double,
    790: _money,
    1082: date_text,
    1083: time_text,
    1114: timestamp_text,
    1184: timestamptz_text,
    1186: interval_text,
    _POINT: _point,
}
#: lseg, path, box, polygon, line, circle.
_GEOMETRIES: Final = dict.fromkeys((601, 602, _BOX, 604, 628, 718), _geometry)

_IN_ARRAYS: Final[Mapping[int, Convert]] = {
    1082: _array_date,
    1114: _array_timestamp,
    1184: _array_timestamptz,
}


def _array(column: Column, placeholder: str) -> Convert:
    oid = column.element_oid
    if oid in _LOST_IN_ARRAYS and column.base_oid < _FIRST_USER_OID:
        raise _refusal(column, "Debezium loses arrays of this type")
    delimiter = b";" if oid == _BOX else b","
    return array_converter(_element(column, placeholder), oid, placeholder, delimiter)


def _element(column: Column, placeholder: str) -> Convert:
    oid = column.element_oid
    if oid >= _FIRST_USER_OID:
        return _user_type(column, placeholder)
    if column.base_oid >= _FIRST_USER_OID:
        # Debezium does not resolve a domain of the elements.
        return _hex(None)
    if oid in _IN_ARRAYS:
        return _IN_ARRAYS[oid]
    element = Column(name=column.name, type=column.type, type_oid=oid, base_oid=oid)
    return _exact_type(element) or _builtin_type(element)


def _user_type(column: Column, placeholder: str) -> Convert:
    """Return the conversion of a type that a user or an extension created."""
    name = column.type.rpartition(".")[2].replace('"', "").removesuffix("[]")
    if name == "hstore":
        return _guarded(column, _hstore(placeholder))
    if name in ("citext", "ltree", "isbn"):
        return str.encode
    return _label_or_hex(column)


def _label_or_hex(column: Column) -> Convert:
    """Return the conversion of a type that is an enum, a composite or a range.

    Enums come as their labels, the others in hex. A value that could be either is refused.
    """

    def convert(value: Any) -> Value:
        if not isinstance(value, str):
            raise _refusal(column, "Debezium sends its values in a form of its own")
        if not _HEX.fullmatch(value):
            return value.encode()
        text = bytes.fromhex(value)
        if _is_composite_or_range(text):
            return text
        if _is_printable(text):
            raise _refusal(column, "a value may be a label or a text in hex")
        return value.encode()

    return convert


def _is_composite_or_range(text: bytes) -> bool:
    return text == b"empty" or (text[:1] in (b"(", b"[", b"{") and text[-1:] in (b")", b"]", b"}"))


def _is_printable(text: bytes) -> bool:
    try:
        return text.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _hstore(placeholder: str) -> Convert:
    unchanged = {placeholder: placeholder}

    def convert(value: dict[str, str | None]) -> Value:
        if value == unchanged:
            return UNCHANGED
        # PostgreSQL stores the keys by length, then by bytes.
        items = sorted(((key.encode(), item) for key, item in value.items()), key=lambda pair: (len(pair[0]), pair[0]))
        return b", ".join(
            [quoted(key) + b"=>" + (b"NULL" if item is None else quoted(item.encode())) for key, item in items]
        )

    return convert
