"""Reads the messages of PostgreSQL's logical replication protocol, version 1. Pure: bytes in, values out.

Formats: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html and, for what is around them,
https://www.postgresql.org/docs/current/protocol-replication.html. Numbers are big-endian, texts end with a zero byte.
"""

import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple, TypeAlias

from rosetta_dagster.cdc.change.event import UNCHANGED, Row, Value

#: First byte of what comes over the connection, and of the message that WAL data holds.
WAL_DATA: Final = b"w"[0]
KEEPALIVE: Final = b"k"[0]
BEGIN, COMMIT, RELATION, TRUNCATE = b"B"[0], b"C"[0], b"R"[0], b"T"[0]
INSERT, UPDATE, DELETE = b"I"[0], b"U"[0], b"D"[0]

#: Where the message begins within WAL data: after the kind, two LSNs and a time.
BODY: Final = 25

#: Where WAL data tells the LSN of a change.
LSN: Final = slice(1, 9)

#: What a message of a row begins with: its kind, the number of the relation, and the kind of the first row.
HEAD: Final = slice(BODY, BODY + 6)
FIRST_ROW: Final = BODY + 6

#: Bytes of a message from which on its values are cut one by one.
LONG: Final = 512

#: The kinds of a row: after the change, and before it, whole or only its key.
NEW_ROW, OLD_ROW, KEY = b"N"[0], b"O"[0], b"K"[0]
_TEXT, _UNSENT = b"t"[0], b"u"[0]

_u16 = struct.Struct(">H").unpack_from
_u32 = struct.Struct(">I").unpack_from
_u64 = struct.Struct(">Q").unpack_from
_begin = struct.Struct(">QqI").unpack_from

#: Looks for the values of a row that begins there.
TextFinder: TypeAlias = "Callable[[bytes, int], re.Match[bytes] | None]"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Begin(NamedTuple):
    """A transaction begins: it is sent once it was committed, so its commit is known."""

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
    #: Whether the column is of the replica identity. All are under REPLICA IDENTITY FULL.
    identifies: bool


class Relation(NamedTuple):
    """A table as it was when the changes that follow were logged."""

    oid: int
    namespace: str
    name: str
    #: `d` default, `i` index, `f` full, `n` nothing.
    identity: str
    columns: tuple[RelationColumn, ...]


def read_keepalive(message: bytes) -> tuple[int, bool]:
    """Up to where everything has been sent, and whether an answer is wanted at once."""
    return _u64(message, 1)[0], bool(message[17])


def read_begin(message: bytes) -> Begin:
    return Begin._make(_begin(message, BODY + 1))


def read_commit(message: bytes) -> int:
    """The end of the commit: what is confirmed once the transaction is durable at the destination."""
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
    # An empty namespace is the catalog's own.
    return Relation(oid, namespace or "pg_catalog", name, identity, tuple(columns))


def relation_of(message: bytes) -> int:
    """The number of the relation that an insert, update or delete is of."""
    oid: int = _u32(message, BODY + 1)[0]
    return oid


def heads_of(oid: int) -> list[bytes]:
    """Whatever a message of a row of that relation may begin with."""
    number = oid.to_bytes(4)
    return [bytes((operation, *number, row)) for operation in (INSERT, UPDATE, DELETE) for row in (NEW_ROW, OLD_ROW, KEY)]


def read_row(message: bytes) -> Row:
    """The only row that an insert, update or delete tells of, whatever its values are."""
    return _row(message, FIRST_ROW)[0]


def read_both_rows(message: bytes) -> tuple[Row, Row]:
    """The row before and the row after an update: it has both when the key changed, or under REPLICA IDENTITY FULL."""
    old_row, at = _row(message, FIRST_ROW)
    return old_row, _row(message, at + 1)[0]


def read_truncate(message: bytes) -> list[int]:
    """The relations that were truncated together."""
    (count,) = _u32(message, BODY + 1)
    return [_u32(message, BODY + 6 + 4 * index)[0] for index in range(count)]


def status_update(lsn: int, at: datetime) -> bytes:
    """What tells the server that everything up to this LSN is durable here."""
    microseconds = (at - _EPOCH) // timedelta(microseconds=1)
    return struct.pack(">cQQQqB", b"r", lsn, lsn, lsn, microseconds, 0)


@cache
def text_finder(column_count: int) -> TextFinder:
    """What finds the values of a row of so many columns that is nothing but texts, and ends with its message.

    Half of the engine's time would go into cutting values one by one. No text holds a zero byte, and the length before a
    text begins with one (below 16 MiB), so one search finds where each value ends. A search that fails looks at every byte:
    it is not worth it in a long row, where values are not what costs.
    """
    return re.compile(re.escape(struct.pack(">H", column_count)) + rb"(?s:t\0...)([^\0]*)" * column_count).fullmatch


def _row(message: bytes, at: int) -> tuple[Row, int]:
    """Any row, and where it ends."""
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
            # One byte for each: as behind the key of a row that was deleted.
            values += [UNCHANGED if kind == _UNSENT else None for kind in message[at:]]
            return tuple(values), len(message)
        else:
            values.append(UNCHANGED if kind == _UNSENT else None)
            at += 1
            left -= 1
    return tuple(values), at


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(0, at)
    return message[at:end].decode(), end + 1


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
