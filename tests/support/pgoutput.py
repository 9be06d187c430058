"""Messages of the protocol of pgoutput, written as the server does, and a walsender that hands them over."""

import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Row, Value
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.pgoutput import protocol
from rosetta_dagster.cdc.source.pgoutput.protocol import RelationColumn, text_finder
from rosetta_dagster.cdc.source.pgoutput.reader import Reader
from rosetta_dagster.cdc.source.pgoutput.relations import Relations
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from rosetta_dagster.cdc.source.pgoutput.walsender import Walsender
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import table

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


COMMITTED_AT = datetime(2024, 2, 29, 12, 34, 56, 789012, tzinfo=UTC)


#: Numbers that tell a wrong sign, a wrong width and a wrong order of bytes.
LARGE_LSN = 0xF6B3_74D8_4801_0203


LARGE_OID = 0xF234_5678


def kind_of(message: bytes) -> int:
    return message[protocol.BODY]


def lsn_of(message: bytes) -> int:
    return int.from_bytes(message[protocol.LSN])


def wal(body: bytes, *, lsn: int = 1) -> bytes:
    """WAL data as the walsender sends it."""
    return struct.pack(">cQQQ", b"w", lsn, 0x0A0A0A0A0A0A0A0A, 0x0B0B0B0B0B0B0B0B) + body


def keepalive(lsn: int, *, wants_answer: bool = False) -> bytes:
    return struct.pack(">cQQB", b"k", lsn, 0x0C0C0C0C0C0C0C0C, wants_answer)


def begin(commit_lsn: int, xid: int, *, committed_at: datetime = COMMITTED_AT, lsn: int = 1) -> bytes:
    return wal(struct.pack(">cQQI", b"B", commit_lsn, microseconds(committed_at), xid), lsn=lsn)


def commit(commit_lsn: int, end_lsn: int) -> bytes:
    return wal(struct.pack(">cBQQQ", b"C", 0, commit_lsn, end_lsn, microseconds(COMMITTED_AT)), lsn=end_lsn)


def relation(oid: int, namespace: str, name: str, identity: str, *columns: RelationColumn) -> bytes:
    head = struct.pack(">cI", b"R", oid) + text(namespace) + text(name) + struct.pack(">cH", identity.encode(), len(columns))
    parts = [
        struct.pack(">B", each.identifies) + text(each.name) + struct.pack(">Ii", each.type_oid, each.type_modifier)
        for each in columns
    ]
    return wal(head + b"".join(parts))


def insert(oid: int, *values: Value, lsn: int = 1) -> bytes:
    return wal(struct.pack(">cIc", b"I", oid, b"N") + tuple_data(values), lsn=lsn)


def update(oid: int, *values: Value, old: Row | None = None, old_kind: bytes = b"K", lsn: int = 1) -> bytes:
    before = b"" if old is None else old_kind + tuple_data(old)
    return wal(struct.pack(">cI", b"U", oid) + before + b"N" + tuple_data(values), lsn=lsn)


def delete(oid: int, *values: Value, kind: bytes = b"K", lsn: int = 1) -> bytes:
    return wal(struct.pack(">cIc", b"D", oid, kind) + tuple_data(values), lsn=lsn)


def truncate(*oids: int, options: int = 0, lsn: int = 1) -> bytes:
    return wal(struct.pack(f">cIB{len(oids)}I", b"T", len(oids), options, *oids), lsn=lsn)


def logical_message(content: bytes = b"", *, lsn: int = 1) -> bytes:
    return wal(struct.pack(">cBQ", b"M", 1, lsn) + text("rosetta.slot") + struct.pack(">I", len(content)) + content, lsn=lsn)


def tuple_data(values: Sequence[Value]) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">I", len(value)) + value)
    return b"".join(parts)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


ITEMS = table("id", "name")


NOTES = table("id", "name", name="notes")


ITEMS_OID, NOTES_OID, OTHER_OID = 16385, 16400, 16500


START = Lsn(100)


def column(name: str, oid: int = 25, *, modifier: int = -1, identifies: bool = False) -> RelationColumn:
    return RelationColumn(name, oid, modifier, identifies)


ID, NAME = column("id", identifies=True), column("name")


ITEMS_MESSAGE = relation(ITEMS_OID, "public", "items", "d", ID, NAME)


NOTES_MESSAGE = relation(NOTES_OID, "public", "notes", "d", ID, NAME)


OTHER_MESSAGE = relation(OTHER_OID, "public", "other", "d", ID)


def never(*parameters: object) -> Any:
    pytest.fail(f"the catalog was asked about {parameters}")


def spelled(oid: int, modifier: int) -> str:
    return f"type {oid} of {modifier}"


def relations_of(
    *tables: TableSchema,
    oids: Mapping[TableId, int] | None = None,
    read_schema: Callable[[TableId], TableSchema | None] = never,
    type_name: Any = never,
) -> Relations:
    return Relations({each.id: each for each in tables}, {}, oids or {}, read_schema, type_name, pipeline="shop")


def schema_of(relations: Relations, oid: int) -> TableSchema | None:
    return relations.find(oid)


def reader_of(*messages: bytes) -> Reader:
    """A reader that knows two tables and has read these messages."""
    reader = Reader(relations_of(ITEMS, NOTES), START)
    for message in (ITEMS_MESSAGE, NOTES_MESSAGE, OTHER_MESSAGE, *messages):
        reader.read_some([message])
    return reader


def transaction(xid: int, commit_lsn: int, *messages: bytes, at: datetime = COMMITTED_AT) -> list[bytes]:
    return [begin(commit_lsn, xid, committed_at=at), *messages, commit(commit_lsn, commit_lsn + 5)]


def inserts(first_lsn: int, count: int) -> list[bytes]:
    return [insert(ITEMS_OID, str(lsn).encode(), b"a", lsn=lsn) for lsn in range(first_lsn, first_lsn + count)]


def places(changes: Sequence[Change]) -> list[tuple[int, int, int]]:
    return [each.position for each in changes]


class FakeWalsender:
    """Hands over lists of messages, one for each call; an empty list stands for a time without any."""

    def __init__(self, *chunks: list[bytes]) -> None:
        self.chunks = deque(chunks)
        self.timeouts: list[float] = []
        self.confirmed: list[int] = []
        self.ends_in_time = True
        self.error: Exception | None = None

    def receive(self, timeout: float) -> list[bytes] | None:
        self.timeouts.append(timeout)
        if not self.chunks:
            if self.error is not None:
                raise self.error
            return None
        return self.chunks.popleft() or None

    def confirm(self, lsn: Lsn) -> None:
        self.confirmed.append(lsn)

    def close(self, timeout: float) -> bool:
        return self.ends_in_time


def stream_of(walsender: Any, *messages: bytes) -> PgoutputStream:
    """A stream whose reader has read these messages."""
    return PgoutputStream(cast(Walsender, walsender), reader_of(*messages))


def deliveries(stream: PgoutputStream) -> list[Delivery]:
    """All deliveries until there is none."""
    return list(iter(lambda: stream.next(0), None))


def images(message: bytes) -> tuple[Row | None, Row | None]:
    """The row before and the row after. Whoever looks for texts finds the same, or nothing."""
    if message[protocol.FIRST_ROW - 1] == protocol.NEW_ROW:
        row = protocol.read_row(message)
        for count in (0, 1, 2, 3, 4, 5, 1600):
            texts = text_finder(count)(message, protocol.FIRST_ROW)
            assert texts is None or row == texts.groups()
        return None, row
    if kind_of(message) == protocol.DELETE:
        return protocol.read_row(message), None
    return protocol.read_both_rows(message)
