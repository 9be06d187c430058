"""Decides how Debezium's JSON arrays become PostgreSQL's array literals, and which arrays cannot be converted.

Debezium reads arrays into Java types, which lose some of PostgreSQL's values. An array with several dimensions becomes
nulls or names of Java classes; both are detected and refused. Dates BC lose their era, and dates of the Julian calendar are
shifted, so all dates before the Gregorian calendar are refused. Two losses cannot be detected: a lower bound other than 1,
and the era of a date before 1582 BC.
"""

import re
import uuid
from collections.abc import Callable
from hashlib import md5
from typing import Any, Final, TypeAlias

from rosetta_dagster.cdc.change.event import UNCHANGED, Value

#: Converts an element that is not NULL to its text; raises `ValueError` when it cannot.
Element: TypeAlias = Callable[[Any], Value]

_NEEDS_QUOTES: Final = re.compile(rb'["\\{}\s]', re.ASCII)
#: How Java prints an array object: `[Ljava.lang.String;@22f0b1d4`.
_JAVA_ARRAY: Final = re.compile(r"\[+[A-Z][\w.$]*;?@[0-9a-f]+", re.ASCII)

_INT4_INT8_DATE: Final = frozenset({23, 20, 1082})
_UUID: Final = 2950


def array_converter(element: Element, element_oid: int, placeholder: str, delimiter: bytes = b",") -> Callable[[Any], Value]:
    """Return the conversion of Debezium's list to an array literal. It raises `ValueError` when the list is not exact."""
    unchanged = _unchanged_form(element_oid, placeholder)

    def convert(value: Any) -> Value:
        if value == unchanged:
            return UNCHANGED
        if value and value.count(None) == len(value):
            raise ValueError("nulls only: it may have had several dimensions")
        return b"{" + delimiter.join([_literal(element, item, delimiter) for item in value]) + b"}"

    return convert


def _unchanged_form(element_oid: int, placeholder: str) -> list[Any]:
    """Return the list that Debezium makes of the placeholder in an array of this type."""
    if element_oid in _INT4_INT8_DATE:
        return list(placeholder.encode())
    if element_oid == _UUID:
        digest = md5(placeholder.encode(), usedforsecurity=False).digest()
        return [str(uuid.UUID(bytes=digest, version=3))]
    return [placeholder]


def _literal(element: Element, item: Any, delimiter: bytes) -> bytes:
    if item is None:
        return b"NULL"
    if item.__class__ is str and item.startswith("[") and _JAVA_ARRAY.fullmatch(item):
        raise ValueError("several dimensions")
    text = element(item)
    assert isinstance(text, bytes), "only a whole array is unchanged"
    if text and delimiter not in text and not _NEEDS_QUOTES.search(text) and text.upper() != b"NULL":
        return text
    return quoted(text)


def quoted(text: bytes) -> bytes:
    """Quote a text as array literals and hstore do."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
