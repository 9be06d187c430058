"""Debezium's events one by one: written as Java does, for tests that need no Java, and read from what Java has written."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rosetta_dagster.cdc.change.event import UNCHANGED, Value
from rosetta_dagster.cdc.source.debezium.events import BEAT, JSON, TEXT, UNKNOWN_TYPE, Batch, Image, Layout, cut, heads, mark
from rosetta_dagster.cdc.table_id import TableId

#: What the rows of `items` hold, by the names of their columns; a `str` is a text, a `bytes` is JSON.
Given = Mapping[str, "str | bytes | Value"]

#: By what they are, in the order of their numbers.
_layouts: dict[tuple[TableId, tuple[str, ...], str, tuple[int, ...]], Layout] = {}


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


def event(
    letter: str,
    before: Given | None,
    after: Given | None,
    *,
    xid: int = 7,
    lsn: int = 50,
    commit_before: int | None = 40,
    committed_at: int = 0,
    table: str = "items",
) -> Event:
    given = after or before or {}
    layout = layout_of(table, tuple(given), "".join(map(_form, given.values())))
    return Event(letter, xid, lsn, commit_before, committed_at, layout, _image(before), _image(after))


def layout_of(table: str, columns: tuple[str, ...], forms: str, types: tuple[int, ...] = ()) -> Layout:
    """The layout, of types that Debezium does not know if none are given; equal ones are one object, as Java's are."""
    key = TableId("public", table), columns, forms, types or (UNKNOWN_TYPE,) * len(columns)
    return _layouts.setdefault(key, Layout(*key))


def batch_of(items: Sequence[Event | Beat], *, added: Sequence[Layout] | None = None) -> Batch:
    """The bytes of these events. Their layouts are new, unless it is said which are."""
    numbers = {layout: number for number, layout in enumerate(_layouts.values())}
    layouts = list(dict.fromkeys(item.layout for item in items if isinstance(item, Event)))
    head_bytes, values, marks = b"", b"", b""
    for item in items:
        if isinstance(item, Beat):
            head_bytes += _head(item)
            continue
        images = [image for image in (item.before, item.after) if image is not None]
        marked = [_mark(index, value) for index, value in enumerate(value for image in images for value in image)]
        found = b"".join(marked)
        flags = (item.before is not None) + 2 * (item.after is not None)
        head_bytes += _head(item, numbers[item.layout], flags, len(found) // 4)
        values += b"".join((value if isinstance(value, bytes) else b"") + b"\0" for image in images for value in image)
        marks += found
    by_number = {numbers[layout]: layout for layout in layouts}
    return Batch(head_bytes, values, marks, by_number, tuple(layouts if added is None else added))


def read(batch: Batch) -> Iterator[Event | Beat]:
    """The events of a batch, in order."""
    values, marks = batch.cut_values(), batch.cut_marks()
    at = marked = 0
    for letter, images, number, xid, lsn, before, committed_at, mark_count in heads(batch.heads):
        commit_before = None if before < 0 else before
        if letter == BEAT:
            yield Beat(commit_before)
            continue
        mark(values, at, marks[marked : marked + mark_count])
        marked += mark_count
        layout = batch.layouts[number]
        old, new, at = cut(values, at, layout, images)
        yield Event(letter.decode(), xid, int.from_bytes(lsn), commit_before, committed_at, layout, old, new)


def _head(item: Event | Beat, layout: int = 0, images: int = 0, mark_count: int = 0) -> bytes:
    if isinstance(item, Beat):
        letter, *numbers = "h", -1, -1, item.commit_lsn, -1
    else:
        letter, *numbers = item.letter, item.xid, item.lsn, item.commit_before, item.committed_at
    told = [-1 if number is None else number for number in numbers]
    return struct.pack(">cBiqqqqi", letter.encode(), images, layout, *told, mark_count)


def _mark(index: int, value: Value) -> bytes:
    if isinstance(value, bytes):
        return b""
    return struct.pack(">i", index | (1 << 30 if value is UNCHANGED else 0))


def _form(value: "str | Value") -> str:
    return JSON if isinstance(value, bytes) else TEXT


def _image(given: Given | None) -> Image:
    return None if given is None else [value.encode() if isinstance(value, str) else value for value in given.values()]
