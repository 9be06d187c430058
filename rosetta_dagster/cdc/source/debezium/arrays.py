"""Decides how Debezium's JSON arrays become PostgreSQL's array literals, and which of them cannot.

Debezium reads arrays into Java's own types, which keep less than PostgreSQL has. Of an array with several dimensions
only nulls or the names of Java classes are left; both are recognised and refused. Dates BC lose their era, and those of
the Julian calendar are shifted: all dates before the Gregorian calendar are refused. Two losses leave no trace in what
Debezium sends, and so cannot be refused: a lower bound other than 1, and the era of a date before 1582 BC.
"""

import re
import uuid
from collections.abc import Callable
from hashlib import md5
from typing import Any, Final, TypeAlias

from rosetta_dagster.cdc.change.event import UNCHANGED, Value

#: Turns one element that is not NULL into its text; `ValueError` when it cannot.
Element: TypeAlias = Callable[[Any], Value]

_NEEDS_QUOTES: Final = re.compile(rb'["\\{}\s]', re.ASCII)
#: How Java prints an array that nobody expected: `[Ljava.lang.String;@22f0b1d4`.
_JAVA_ARRAY: Final = re.compile(r"\[+[A-Z][\w.$]*;?@[0-9a-f]+", re.ASCII)

_INT4_INT8_DATE: Final = frozenset({23, 20, 1082})
_UUID: Final = 2950


def array_converter(element: Element, element_oid: int, placeholder: str, delimiter: bytes = b",") -> Callable[[Any], Value]:
    """Turns Debezium's list into an array literal. `ValueError` when the list does not tell what the array was."""
    unchanged = _unchanged_form(element_oid, placeholder)

    def convert(value: Any) -> Value:
        if value == unchanged:
            return UNCHANGED
        if value and value.count(None) == len(value):
            raise ValueError("nulls only: it may have had several dimensions")
        return b"{" + delimiter.join([_literal(element, item, delimiter) for item in value]) + b"}"

    return convert


def _unchanged_form(element_oid: int, placeholder: str) -> list[Any]:
    """The form that Debezium gives to the placeholder in an array of this type."""
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
    """In double quotes, as arrays and hstore have it."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
