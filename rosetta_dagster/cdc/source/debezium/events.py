"""Reads the bytes in which the bridge hands over Debezium's events.

`bridge/rosetta/debezium/BatchWriter.java` writes them. Each value has one of four forms, by its column's type in Debezium.
For most types that is PostgreSQL's text; `values` converts the others.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from rosetta_dagster.cdc.change.event import UNCHANGED, Value
from rosetta_dagster.cdc.table_id import TableId

#: The forms of values: decimal digits; `t` and `f`; the text itself; JSON.
INTEGER, BOOLEAN, TEXT, JSON = "ibsj"

#: Stands for the types of users and extensions, and for `point`.
UNKNOWN_TYPE: Final = -1

#: The values of an old or new row, each in its form; None when there is no such row.
Image: TypeAlias = list[Value] | None

#: The heads of events, as tuples: Debezium's letter (c, u, d, t, or h for a heartbeat), which images exist, the layout's
#: number, the transaction's id, the change's LSN as bytes, the LSN of the last COMMIT that was read before the event (-1 if
#: none has been read since the start), the time of the transaction's commit in microseconds since 1970, the count of marks.
heads: Final = struct.Struct(">cBiq8sqqi").iter_unpack
BEAT: Final = b"h"
BEFORE, AFTER = 1, 2

_UNSENT: Final = 1 << 30


class Layout(NamedTuple):
    """The columns of a table's rows in some events."""

    table: TableId
    columns: tuple[str, ...]
    #: The form of each column's values.
    forms: str
    #: The OID of each column's type, for a domain of its base type; `UNKNOWN_TYPE` when Debezium does not report it.
    types: tuple[int, ...]


class Batch(NamedTuple):
    """Events as bytes."""

    heads: bytes
    values: bytes
    marks: bytes
    #: By the numbers that events refer to. Includes layouts of earlier batches.
    layouts: dict[int, Layout]
    #: Those of them that are new. Debezium reads a table's structure before its first change and after each alteration.
    added: tuple[Layout, ...]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.heads) + len(self.values) + len(self.marks)

    def cut_values(self) -> list[Value]:
        """Return the values of all images, one after the other. A value with a mark is empty."""
        return list(self.values.split(b"\0"))

    def cut_marks(self) -> Sequence[int]:
        """Return the marks of all events."""
        return struct.unpack(f">{len(self.marks) // 4}i", self.marks)


def mark(values: list[Value], at: int, marks: Sequence[int]) -> None:
    """Replace the marked values of an event, which begin at this index, by NULL or UNCHANGED."""
    for each in marks:
        if each & _UNSENT:
            values[at + (each ^ _UNSENT)] = UNCHANGED
        else:
            values[at + each] = None


def cut(values: list[Value], at: int, layout: Layout, images: int) -> tuple[Image, Image, int]:
    """Return the images of an event whose values begin at this index, and the index of the next event's values."""
    width = len(layout.columns)
    before = after = None
    if images & BEFORE:
        before = values[at : at + width]
        at += width
    if images & AFTER:
        after = values[at : at + width]
        at += width
    return before, after, at
