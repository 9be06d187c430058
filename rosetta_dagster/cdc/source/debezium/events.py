"""Reads Debezium's events from the bytes that Java has written, as `bridge/rosetta/debezium/BatchWriter.java` tells.

Each value comes in one of four forms, by its column's type in Debezium. For most types that is PostgreSQL's own text;
`values` says how the others become it.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from rosetta_dagster.cdc.event import UNCHANGED, Value
from rosetta_dagster.cdc.schema import TableId

#: The forms of values: decimal digits; `t` and `f`; the text itself; JSON.
INTEGER, BOOLEAN, TEXT, JSON = "ibsj"

#: Of types that users and extensions make, and of `point`.
UNKNOWN_TYPE: Final = -1

#: The values of a row before or after a change, each in its form; None when there is no such row.
Image: TypeAlias = list[Value] | None


class Layout(NamedTuple):
    """What a table's rows look like in some events."""

    table: TableId
    columns: tuple[str, ...]
    #: The form of each column's values.
    forms: str
    #: The OID of each column's type, or of the type behind a domain; `UNKNOWN_TYPE` when it is not told.
    types: tuple[int, ...]


class Event(NamedTuple):
    """One change as Debezium tells it. A changed key comes as a delete and an insert."""

    #: Debezium's letter: c, u, d or t.
    letter: str
    xid: int
    lsn: int
    #: Where the last COMMIT before the transaction was logged; None when none has been read since the start.
    commit_before: int | None
    #: When the transaction was committed, in microseconds since 1970.
    committed_at: int
    layout: Layout
    before: Image
    after: Image


class Beat(NamedTuple):
    """A heartbeat: everything up to the last COMMIT that has been read came before it."""

    commit_lsn: int | None


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


_heads: Final = struct.Struct(">BBiqqqqi").iter_unpack
_BEAT: Final = ord("h")
_BEFORE, _AFTER = 1, 2
_UNSENT: Final = 1 << 30

#: Makes an event from its fields, in order: the generated constructor takes twice as long.
_event = partial(tuple.__new__, Event)
_LETTERS = {ord(letter): letter for letter in "cudt"}


def read(batch: Batch) -> Iterator[Event | Beat]:
    """The events of a batch, in order."""
    values: list[Value] = list(batch.values.split(b"\0"))
    marks = struct.unpack(f">{len(batch.marks) // 4}i", batch.marks)
    at = mark = 0
    for code, images, number, xid, lsn, before_lsn, committed_at, mark_count in _heads(batch.heads):
        commit_before = None if before_lsn < 0 else before_lsn
        if code == _BEAT:
            yield Beat(commit_before)
            continue
        layout = batch.layouts[number]
        if mark_count:
            _mark(values, at, marks[mark : mark + mark_count])
            mark += mark_count
        before = after = None
        width = len(layout.columns)
        if images & _BEFORE:
            before = values[at : at + width]
            at += width
        if images & _AFTER:
            after = values[at : at + width]
            at += width
        yield _event((_LETTERS[code], xid, lsn, commit_before, committed_at, layout, before, after))


def _mark(values: list[Value], at: int, marks: Sequence[int]) -> None:
    """Put NULL, or that it was not sent, in the places of an event's values that say so."""
    for mark in marks:
        if mark & _UNSENT:
            values[at + (mark ^ _UNSENT)] = UNCHANGED
        else:
            values[at + mark] = None
