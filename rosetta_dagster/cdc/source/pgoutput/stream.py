"""Decides where the walsender's messages are cut into deliveries: at commits, while more is at hand up to a limit."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rosetta_dagster.cdc.change.position import Engine, Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import StreamStalled
from rosetta_dagster.cdc.source.base import Delivery, watermark_of
from rosetta_dagster.cdc.source.pgoutput.ahead import ReadAhead
from rosetta_dagster.cdc.source.pgoutput.reader import Reader
from rosetta_dagster.cdc.source.pgoutput.relations import ReadSchema, Relations, TypeName
from rosetta_dagster.cdc.source.pgoutput.walsender import Walsender
from rosetta_dagster.cdc.table_id import TableId

#: How long the connection may take to end, in seconds, before the process has to.
CLOSE_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class _Receipt:
    """Up to where the slot may move once the delivery is durable."""

    lsn: Lsn


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
        lsn = Lsn(reader.lsn)
        receipt = _Receipt(lsn) if lsn > self._delivered else None
        self._delivered = max(self._delivered, lsn)
        return Delivery(
            changes=changes,
            watermark=watermark_of(Engine.PGOUTPUT, changes),
            lsn=self._delivered,
            committed_at=committed_at if changes else None,
            receipt=receipt,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PgoutputSource:
    """Opens the walsender at the slot's own position."""

    connection: PostgresConnection
    slot_name: str
    publication_names: Sequence[str]
    schemas: dict[TableId, TableSchema]
    #: What tables looked like when their last change was applied: the stream begins there.
    held_schemas: dict[TableId, TableSchema]
    read_schema: ReadSchema
    type_name: TypeName
    #: The slot's `confirmed_flush_lsn`, read before the start.
    confirmed_flush_lsn: Lsn

    def open(self, watermarks: Sequence[Watermark]) -> ReadAhead:  # noqa: ARG002 - positions here need no help
        reader = Reader(Relations(self.schemas, self.held_schemas, self.read_schema, self.type_name))
        walsender = Walsender(self.connection, self.slot_name, self.publication_names)
        return ReadAhead(PgoutputStream(walsender, reader, self.confirmed_flush_lsn))
