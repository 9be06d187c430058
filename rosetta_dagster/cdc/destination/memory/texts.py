"""Reads COPY's text format, and refuses texts that are no value of their column's type."""

import re
from collections.abc import Iterable, Sequence

from rosetta_dagster.cdc.change.event import UNCHANGED, Value
from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.errors import DestinationRejected

_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_STANDS_FOR = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}

#: Types whose values the database verifies, as an example for all of them.
_INTEGERS = ("smallint", "integer", "bigint")
_INTEGER = re.compile(rb"-?\d+")


def parse(blocks: Iterable[bytes]) -> list[tuple[bytes | None, ...]]:
    r"""Return the rows of a text in COPY's format; blocks may end anywhere.

    >>> parse([b"1\ta\\", b"tb\n2\t\\N\n"])
    [(b'1', b'a\tb'), (b'2', None)]
    """
    lines = b"".join(blocks).split(b"\n")[:-1]
    return [tuple(_value(each) for each in line.split(b"\t")) for line in lines]


def verify(schema: TableSchema, columns: Sequence[Column], row: Sequence[Value]) -> None:
    """`DestinationRejected` when a value is not of its column's type, or a value of the key is NULL. It quotes no value."""
    for column, value in zip(columns, row, strict=True):
        if value is None and column.name in schema.key:
            raise _refused("NotNullViolation (23502)", schema, column)
        if value is None or value is UNCHANGED or column.type not in _INTEGERS:
            continue
        if _INTEGER.fullmatch(value) is None:
            raise _refused("InvalidTextRepresentation (22P02)", schema, column)


def _refused(condition: str, schema: TableSchema, column: Column) -> DestinationRejected:
    return DestinationRejected(
        f"The database in memory refuses: {condition} at table {schema.id}, column {column.name}.", "Correct the row."
    )


def _value(text: bytes) -> bytes | None:
    return None if text == rb"\N" else _ESCAPE.sub(lambda found: _STANDS_FOR.get(found[1], found[1]), text)
