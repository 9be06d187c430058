"""Writes Debezium's events as Java does, for tests that need no Java."""

import struct
from collections.abc import Mapping, Sequence

from rosetta_dagster.cdc.event import UNCHANGED, Value
from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.source.debezium.events import JSON, TEXT, UNKNOWN_TYPE, Batch, Beat, Event, Image, Layout

#: What the rows of `items` hold, by the names of their columns; a `str` is a text, a `bytes` is JSON.
Given = Mapping[str, "str | bytes | Value"]

_layouts: dict[tuple[TableId, tuple[str, ...], str, tuple[int, ...]], Layout] = {}


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


def batch_of(items: Sequence[Event | Beat]) -> Batch:
    """The bytes of these events."""
    layouts = list(dict.fromkeys(item.layout for item in items if isinstance(item, Event)))
    heads, values, marks = b"", b"", b""
    for item in items:
        if isinstance(item, Beat):
            heads += _head(item)
            continue
        images = [image for image in (item.before, item.after) if image is not None]
        marked = [_mark(index, value) for index, value in enumerate(value for image in images for value in image)]
        found = b"".join(marked)
        flags = (item.before is not None) + 2 * (item.after is not None)
        heads += _head(item, layouts.index(item.layout), flags, len(found) // 4)
        values += b"".join((value if isinstance(value, bytes) else b"") + b"\0" for image in images for value in image)
        marks += found
    return Batch(heads, values, marks, dict(enumerate(layouts)), tuple(layouts))


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
