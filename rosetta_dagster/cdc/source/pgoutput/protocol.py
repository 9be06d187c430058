"""Reads the messages of PostgreSQL's logical replication protocol, version 1. Pure: bytes in, values out.

Message formats: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html. What carries them:
https://www.postgresql.org/docs/current/protocol-replication.html. Numbers are big-endian; names end with a zero byte.
"""

import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple, TypeAlias

from rosetta_dagster.cdc.change.event import UNCHANGED, Row, Value

#: The first byte of what the server sends, and the first byte of the message inside WAL data.
WAL_DATA: Final = b"w"[0]
KEEPALIVE: Final = b"k"[0]
BEGIN, COMMIT, RELATION, TRUNCATE = b"B"[0], b"C"[0], b"R"[0], b"T"[0]
INSERT, UPDATE, DELETE = b"I"[0], b"U"[0], b"D"[0]

#: The offset of the message within WAL data: after the kind, two LSNs and a time.
BODY: Final = 25

#: The bytes of WAL data that hold the LSN of a change.
LSN: Final = slice(1, 9)

#: The head of a message about a row: its kind, the OID of the relation, and the kind of the first row.
HEAD: Final = slice(BODY, BODY + 6)
FIRST_ROW: Final = BODY + 6

#: From this size on, a message's values are read one by one; see `text_finder`.
LONG: Final = 512

#: The kinds of a row: the new one; the old one, whole or only its key.
NEW_ROW, OLD_ROW, KEY = b"N"[0], b"O"[0], b"K"[0]
_TEXT, _UNSENT = b"t"[0], b"u"[0]

_u16 = struct.Struct(">H").unpack_from
_u32 = struct.Struct(">I").unpack_from
_u64 = struct.Struct(">Q").unpack_from
_begin = struct.Struct(">QqI").unpack_from

#: Matches a row of text values that begins at an offset of a message.
TextFinder: TypeAlias = "Callable[[bytes, int], re.Match[bytes] | None]"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Begin(NamedTuple):
    """The beginning of a transaction. The server sends it after the commit, so it has the commit's LSN and time."""

    commit_lsn: int
    #: Since 2000-01-01, UTC.
    microseconds: int
    xid: int

    @property
    def committed_at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.microseconds)


class RelationColumn(NamedTuple):
    """A column as a relation message describes it."""

    name: str
    type_oid: int
    type_modifier: int
    #: Whether the column belongs to the replica identity. Under REPLICA IDENTITY FULL all columns do.
    identifies: bool


class Relation(NamedTuple):
    """A table as it was when the changes that follow the message were logged."""

    oid: int
    namespace: str
    name: str
    #: `d` default, `i` index, `f` full, `n` nothing.
    identity: str
    columns: tuple[RelationColumn, ...]


def read_keepalive(message: bytes) -> tuple[int, bool]:
    """Return the LSN up to which the server has sent everything, and whether it wants an answer at once."""
    return _u64(message, 1)[0], bool(message[17])


def read_begin(message: bytes) -> Begin:
    return Begin._make(_begin(message, BODY + 1))


def read_commit(message: bytes) -> int:
    """Return the end LSN of the commit, which confirms the transaction."""
    end: int = _u64(message, BODY + 10)[0]
    return end


def read_relation(message: bytes) -> Relation:
    oid: int = _u32(message, BODY + 1)[0]
    namespace, at = _text(message, BODY + 5)
    name, at = _text(message, at)
    identity, (column_count,) = chr(message[at]), _u16(message, at + 1)
    at += 3
    columns = []
    for _ in range(column_count):
        flags = message[at]
        column, at = _text(message, at + 1)
        columns.append(RelationColumn(column, _u32(message, at)[0], _signed(_u32(message, at + 4)[0]), bool(flags & 1)))
        at += 8
    # An empty namespace stands for pg_catalog.
    return Relation(oid, namespace or "pg_catalog", name, identity, tuple(columns))


def relation_of(message: bytes) -> int:
    """Return the OID of the relation that an insert, update or delete belongs to."""
    oid: int = _u32(message, BODY + 1)[0]
    return oid


def heads_of(oid: int) -> list[bytes]:
    """Return all heads that a message about a row of this relation can have."""
    number = oid.to_bytes(4)
    return [bytes((operation, *number, row)) for operation in (INSERT, UPDATE, DELETE) for row in (NEW_ROW, OLD_ROW, KEY)]


def read_row(message: bytes) -> Row:
    """Return the row of an insert, an update without an old row, or a delete."""
    return _row(message, FIRST_ROW)[0]


def read_both_rows(message: bytes) -> tuple[Row, Row]:
    """Return the old and the new row of an update: of a changed key, or under REPLICA IDENTITY FULL."""
    old_row, at = _row(message, FIRST_ROW)
    return old_row, _row(message, at + 1)[0]


def read_truncate(message: bytes) -> list[int]:
    """Return the OIDs of the relations that one statement truncated."""
    (count,) = _u32(message, BODY + 1)
    return [_u32(message, BODY + 6 + 4 * index)[0] for index in range(count)]


def status_update(lsn: int, at: datetime) -> bytes:
    """Return the message that confirms everything up to this LSN."""
    microseconds = (at - _EPOCH) // timedelta(microseconds=1)
    return struct.pack(">cQQQqB", b"r", lsn, lsn, lsn, microseconds, 0)


@cache
def text_finder(column_count: int) -> TextFinder:
    """Return the matcher for a row of `column_count` text values that ends with its message.

    Reading values one by one would take half of the engine's time. A text has no zero byte, and the length before it starts
    with one (below 16 MiB), so one match finds the end of each value. A match that fails scans every byte, so it is not
    tried on long messages, where the count of values matters less.
    """
    return re.compile(re.escape(struct.pack(">H", column_count)) + rb"(?s:t\0...)([^\0]*)" * column_count).fullmatch


def _row(message: bytes, at: int) -> tuple[Row, int]:
    """Return the row at this offset, and the offset of its end."""
    (left,) = _u16(message, at)
    at += 2
    values: list[Value] = []
    while left:
        kind = message[at]
        if kind == _TEXT:
            start = at + 5
            at = start + _u32(message, at + 1)[0]
            values.append(message[start:at])
            left -= 1
        elif len(message) - at == left:
            # The remaining values take one byte each, as after the key of a deleted row.
            values += [UNCHANGED if kind == _UNSENT else None for kind in message[at:]]
            return tuple(values), len(message)
        else:
            values.append(UNCHANGED if kind == _UNSENT else None)
            at += 1
            left -= 1
    return tuple(values), at


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(0, at)
    # In a database of the encoding SQL_ASCII, a name may be of any bytes.
    return message[at:end].decode(errors="surrogateescape"), end + 1


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
