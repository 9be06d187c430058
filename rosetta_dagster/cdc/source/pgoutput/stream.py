"""Decides where the walsender's messages are cut into deliveries: at commits, while more is at hand up to a limit.

Positions are exact here: BEGIN carries the LSN of the commit. With it goes the change's own LSN, and its number among the
changes that share it, as the rows of one COPY page do.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from rosetta_dagster.cdc.config import PostgresConnection
from rosetta_dagster.cdc.errors import StreamStalled
from rosetta_dagster.cdc.event import Change, Operation
from rosetta_dagster.cdc.position import Engine, Lsn, Watermark
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.pgoutput import protocol
from rosetta_dagster.cdc.source.pgoutput.ahead import ReadAhead
from rosetta_dagster.cdc.source.pgoutput.relations import ReadSchema, Relations, TypeName
from rosetta_dagster.cdc.source.pgoutput.walsender import Walsender

#: A transaction beyond this many changes or bytes is cut into parts.
CHANGE_LIMIT = 50_000
BYTE_LIMIT = 64 * 1024 * 1024

#: A delivery grows up to about this much while more is at hand, unless it would cut a transaction: the first one is being
#: applied while the next ones are read, and what waits then is applied together.
ENOUGH_CHANGES = 10_000
ENOUGH_BYTES = 16 * 1024 * 1024

#: How long the connection may take to end, in seconds, before the process has to.
CLOSE_TIMEOUT = 20.0

#: What a message about a row tells.
_OPERATIONS = {
    protocol.INSERT: Operation.INSERT,
    protocol.UPDATE: Operation.UPDATE,
    protocol.DELETE: Operation.DELETE,
}

#: Makes a change from its fields, in order: the generated constructor takes twice as long.
_change = partial(tuple.__new__, Change)


#: What the loop over all messages looks at, nearer at hand.
_WAL_DATA, _BODY, _IMAGE, _NEW_ROW = protocol.WAL_DATA, protocol.BODY, protocol.IMAGE, protocol.NEW_ROW
_head, _images, _operation = protocol.read_head, protocol.read_images, _OPERATIONS.get


@dataclass(frozen=True, slots=True)
class _Receipt:
    """Up to where the slot may move once the delivery is durable."""

    lsn: Lsn


class Reader:
    """Turns messages into changes, and knows which transaction it is in. No connection, no thread."""

    def __init__(self, relations: Relations) -> None:
        self.changes: list[Change] = []
        #: How many of the changes belong to transactions that are complete, and the last of these.
        self.complete_count = 0
        self._completed: protocol.Begin | None = None
        self.byte_count = 0
        #: The end of the last commit, or what a keepalive said between transactions.
        self.lsn = Lsn(0)
        self._relations = relations
        self._transaction: protocol.Begin | None = None
        #: Whether a part of the transaction was delivered.
        self._is_cut = False
        self._lsn = 0
        self._ordinal = 0
        self._change_limit, self._byte_limit = CHANGE_LIMIT, BYTE_LIMIT

    @property
    def is_between_transactions(self) -> bool:
        return self._transaction is None

    @property
    def is_full(self) -> bool:
        """Whether the changes are as many as a delivery is to hold."""
        return len(self.changes) >= self._change_limit or self.byte_count >= self._byte_limit

    @property
    def complete_at(self) -> datetime | None:
        """When the last complete transaction was committed at the source."""
        return None if self._completed is None else self._completed.committed_at

    @property
    def transaction_at(self) -> datetime | None:
        """When the transaction that is being read was committed at the source."""
        return None if self._transaction is None else self._transaction.committed_at

    def read_some(self, messages: Sequence[bytes], at: int = 0) -> int:
        """Read messages from there on until there are none left, or a delivery is full; where it stopped."""
        while at < len(messages) and not self.is_full:
            if self._transaction is not None and _tells_of_a_row(messages[at]):
                at = self._read_rows(messages, at, self._transaction)
            else:
                self._read_other(messages[at])
                at += 1
        return at

    def _read_rows(self, messages: Sequence[bytes], at: int, transaction: protocol.Begin) -> int:
        """Read the changes of rows that come next. Millions pass here: one loop, and no more calls than it takes.

        Rows of other tables count for the loop and not for the limit: it may end before a row although there is room left.
        """
        changes, byte_count, before, ordinal = self.changes, self.byte_count, self._lsn, self._ordinal
        (commit_lsn, _, xid), find, byte_limit = transaction, self._relations.find, self._byte_limit
        end = min(len(messages), at + self._change_limit - len(changes))
        while at < end and byte_count < byte_limit:
            message = messages[at]
            if message[0] != _WAL_DATA or (operation := _operation(message[_BODY])) is None:
                break
            at += 1
            lsn, oid = _head(message)
            found = find(oid)
            if found is not None:
                table, read_row = found
                # What most messages hold, read without a further call.
                is_new = message[_IMAGE] == _NEW_ROW
                old_row, row = (None, read_row(message, _IMAGE + 1)) if is_new else _images(message, read_row)
                # The rows of one COPY page share their LSN.
                ordinal = ordinal + 1 if lsn == before else 0
                before = lsn
                changes.append(_change((commit_lsn, lsn, ordinal, xid, operation, table, row, old_row)))
                byte_count += len(message)
        self.byte_count, self._lsn, self._ordinal = byte_count, before, ordinal
        return at

    def _read_other(self, message: bytes) -> None:
        if message[0] == protocol.KEEPALIVE:
            if self._transaction is None:
                self.lsn = max(self.lsn, protocol.read_keepalive(message)[0])
            return
        kind = message[protocol.BODY]
        if kind == protocol.BEGIN:
            self._transaction = protocol.read_begin(message)
            self._lsn = 0
        elif kind == protocol.COMMIT:
            self._end(protocol.read_commit(message))
        elif kind == protocol.RELATION:
            self._relations.learn(protocol.read_relation(message))
        elif kind == protocol.TRUNCATE:
            for oid in protocol.read_truncate(message):
                found = self._relations.find(oid)
                if found is not None:
                    self._add_truncate(_head(message)[0], found[0])

    def take_complete(self) -> list[Change]:
        """The changes of complete transactions."""
        return self._take(self.complete_count)

    def take_part(self) -> list[Change]:
        """What there is of a transaction that is too large."""
        self._is_cut = True
        return self._take(len(self.changes))

    def _take(self, count: int) -> list[Change]:
        left = len(self.changes) - count
        self.byte_count = self.byte_count * left // max(1, len(self.changes))
        taken, self.changes = self.changes[:count], self.changes[count:]
        self.complete_count = 0
        self._set_limits()
        return taken

    def _end(self, commit_end: Lsn) -> None:
        if self._transaction is not None:
            self._completed = self._transaction
        self._transaction, self._is_cut = None, False
        self.complete_count = len(self.changes)
        self.lsn = max(self.lsn, commit_end)
        self._set_limits()

    def _set_limits(self) -> None:
        """Only a transaction that was not cut is worth a larger delivery."""
        if self.complete_count or self._is_cut:
            self._change_limit, self._byte_limit = min(ENOUGH_CHANGES, CHANGE_LIMIT), min(ENOUGH_BYTES, BYTE_LIMIT)
        else:
            self._change_limit, self._byte_limit = CHANGE_LIMIT, BYTE_LIMIT

    def _add_truncate(self, lsn: int, table: TableSchema) -> None:
        transaction = self._transaction
        assert transaction is not None, "a change stands between BEGIN and COMMIT"
        self._ordinal = self._ordinal + 1 if lsn == self._lsn else 0
        self._lsn = lsn
        self.changes.append(
            Change(transaction.commit_lsn, lsn, self._ordinal, transaction.xid, Operation.TRUNCATE, table, None, None)
        )


def _tells_of_a_row(message: bytes) -> bool:
    return message[0] == _WAL_DATA and message[_BODY] in _OPERATIONS


class PgoutputStream:
    """The walsender's messages as deliveries. Keeps the contract of `Stream`."""

    def __init__(self, walsender: Walsender, reader: Reader, confirmed_flush_lsn: Lsn) -> None:
        self._walsender = walsender
        self._reader = reader
        #: A run of messages, and how many of them are read.
        self._messages: Sequence[bytes] = ()
        self._at = 0
        #: Up to where deliveries were made.
        self._delivered = confirmed_flush_lsn

    def next(self, timeout: float) -> Delivery | None:
        deadline = time.monotonic() + timeout
        self._fetch(timeout)
        while self._fetch(0 if self._reader.is_between_transactions else timeout):
            self._at = self._reader.read_some(self._messages, self._at)
            if self._reader.is_full or self._has_waited(deadline):
                break
        return self._cut()

    def commit(self, delivery: Delivery) -> None:
        if isinstance(delivery.receipt, _Receipt):
            self._walsender.confirm(delivery.receipt.lsn)

    def close(self) -> None:
        if not self._walsender.close(CLOSE_TIMEOUT):
            raise StreamStalled(
                f"The connection to the walsender did not end within {CLOSE_TIMEOUT:.0f} seconds.",
                "It ends with this process; the run restarts by itself.",
            )

    def _fetch(self, timeout: float) -> bool:
        """Whether messages are at hand, waiting for them at most so many seconds."""
        if self._at == len(self._messages):
            self._messages, self._at = self._walsender.receive(timeout) or (), 0
        return self._at < len(self._messages)

    def _has_waited(self, deadline: float) -> bool:
        """Whether nothing but changes of other tables came for long enough: the slot has to move, and the run may stop."""
        reader = self._reader
        return reader.is_between_transactions and not reader.changes and time.monotonic() > deadline

    def _cut(self) -> Delivery | None:
        """The complete transactions; of one that is too large a part. The slot moves by what commits have been read."""
        reader = self._reader
        is_part = not reader.complete_count and reader.is_full
        changes = reader.take_part() if is_part else reader.take_complete()
        committed_at = reader.transaction_at if is_part else reader.complete_at
        if not changes and reader.lsn <= self._delivered:
            return None
        receipt = _Receipt(reader.lsn) if reader.lsn > self._delivered else None
        self._delivered = max(self._delivered, reader.lsn)
        return Delivery(
            changes=changes,
            watermark=_watermark(changes),
            lsn=self._delivered,
            committed_at=committed_at if changes else None,
            receipt=receipt,
        )


def _watermark(changes: list[Change]) -> Watermark | None:
    if not changes:
        return None
    return Watermark(engine=Engine.PGOUTPUT, position=changes[-1].position, xid=changes[-1].xid)


@dataclass(frozen=True, slots=True, kw_only=True)
class PgoutputSource:
    """Opens the walsender at the slot's own position."""

    connection: PostgresConnection
    slot_name: str
    publication_name: str
    schemas: dict[TableId, TableSchema]
    #: What tables looked like when their last change was applied: the stream begins there.
    held_schemas: dict[TableId, TableSchema]
    read_schema: ReadSchema
    type_name: TypeName
    #: The slot's `confirmed_flush_lsn`, read before the start.
    confirmed_flush_lsn: Lsn

    def open(self, watermarks: Sequence[Watermark]) -> ReadAhead:  # noqa: ARG002 - positions here need no help
        reader = Reader(Relations(self.schemas, self.held_schemas, self.read_schema, self.type_name))
        walsender = Walsender(self.connection, self.slot_name, self.publication_name)
        return ReadAhead(PgoutputStream(walsender, reader, self.confirmed_flush_lsn))
