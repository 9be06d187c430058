"""Tells what stands where in the bytes that Java has written of Debezium's events.

`bridge/rosetta/debezium/BatchWriter.java` writes them. Each value comes in one of four forms, by its column's type in
Debezium. For most types that is PostgreSQL's own text; `values` says how the others become it.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from rosetta_dagster.cdc.change.event import UNCHANGED, Value
from rosetta_dagster.cdc.table_id import TableId

#: The forms of values: decimal digits; `t` and `f`; the text itself; JSON.
INTEGER, BOOLEAN, TEXT, JSON = "ibsj"

#: Of types that users and extensions make, and of `point`.
UNKNOWN_TYPE: Final = -1

#: The values of a row before or after a change, each in its form; None when there is no such row.
Image: TypeAlias = list[Value] | None

#: The heads of events, as tuples: Debezium's letter (c, u, d, t, or h for a heartbeat: everything up to the last COMMIT that
#: has been read came before it), which images there are, the number of the layout, the transaction's id, the change's LSN
#: as bytes, the LSN of the last COMMIT before or -1 when none has been read since the start, when the transaction was
#: committed in microseconds since 1970, how many marks there are.
heads: Final = struct.Struct(">cBiq8sqqi").iter_unpack
BEAT: Final = b"h"
BEFORE, AFTER = 1, 2

_UNSENT: Final = 1 << 30


class Layout(NamedTuple):
    """What a table's rows look like in some events."""

    table: TableId
    columns: tuple[str, ...]
    #: The form of each column's values.
    forms: str
    #: The OID of each column's type, or of the type behind a domain; `UNKNOWN_TYPE` when it is not told.
    types: tuple[int, ...]


class Batch(NamedTuple):
    """Events as bytes."""

    heads: bytes
    values: bytes
    marks: bytes
    #: By the numbers that events refer to; also those of earlier batches.
    layouts: dict[int, Layout]
    #: Those of them that are new: Debezium has read what the table looks like, as it does before the first change of a
    #: table, and again after the table was altered.
    added: tuple[Layout, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.heads) + len(self.values) + len(self.marks)

    def cut_values(self) -> list[Value]:
        """The values of all images, one after the other; empty ones where there is a mark."""
        return list(self.values.split(b"\0"))

    def cut_marks(self) -> Sequence[int]:
        """The marks of all events."""
        return struct.unpack(f">{len(self.marks) // 4}i", self.marks)


def mark(values: list[Value], at: int, marks: Sequence[int]) -> None:
    """Put NULL, or that it was not sent, in the places of an event's values that say so; they begin there."""
    for each in marks:
        if each & _UNSENT:
            values[at + (each ^ _UNSENT)] = UNCHANGED
        else:
            values[at + each] = None


def cut(values: list[Value], at: int, layout: Layout, images: int) -> tuple[Image, Image, int]:
    """The images of an event whose values begin there; and where the next one's do."""
    width = len(layout.columns)
    before = after = None
    if images & BEFORE:
        before = values[at : at + width]
        at += width
    if images & AFTER:
        after = values[at : at + width]
        at += width
    return before, after, at
