"""Decides where Debezium's endless events are cut into deliveries of whole transactions.

Debezium's batches end anywhere. That a transaction is complete shows when a later one begins, or when a heartbeat says that
a COMMIT behind the transaction's last change has been read. Heartbeats are also what is committed: the offset of each says
up to which COMMIT everything came before it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from rosetta_dagster.cdc.config import PostgresConnection
from rosetta_dagster.cdc.errors import BrokenTable, ChangeUndecodable, StreamStalled, TerminalError
from rosetta_dagster.cdc.event import Change
from rosetta_dagster.cdc.position import Engine, Lsn, Watermark
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.debezium.decode import Decoder, ReadSchemas, joined_key_change
from rosetta_dagster.cdc.source.debezium.engine import EngineThread, Records
from rosetta_dagster.cdc.source.debezium.events import Beat, Event, read
from rosetta_dagster.cdc.source.debezium.positions import PositionCounter
from rosetta_dagster.cdc.source.debezium.properties import connector_properties

#: A delivery grows up to about this many changes or bytes of JSON while more is at hand; a transaction beyond it is cut.
CHANGE_LIMIT = 50_000
BYTE_LIMIT = 64 * 1024 * 1024

#: How long an engine may take to end, in seconds, before the process has to.
CLOSE_TIMEOUT = 20.0


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Receipt(NamedTuple):
    """A batch whose last heartbeat may be committed once everything before it is durable."""

    records: Records


@dataclass(slots=True)
class TransactionBuffer:
    """Changes that were read and not yet delivered; the last transaction may still lack some."""

    changes: list[Change] = field(default_factory=list)
    #: How many of the changes belong to transactions that are complete.
    complete_count: int = 0
    #: When each of their transactions was committed at the source, by xid, in microseconds since 1970.
    commit_times: dict[int, int] = field(default_factory=dict)

    def add(self, change: Change, commit_time: int) -> None:
        if not self.changes:
            self.commit_times[change.xid] = commit_time
        elif self.changes[-1].xid != change.xid:
            self.commit_times[change.xid] = commit_time
            self.complete_count = len(self.changes)
        elif (joined := joined_key_change(self.changes[-1], change)) is not None:
            self.changes[-1] = joined
            return
        self.changes.append(change)

    def committed(self, commit_lsn: Lsn) -> None:
        """The last COMMIT that has been read is at this LSN; before the last transaction's own, it is its predecessor's."""
        if self.changes and self.changes[-1].transaction_lsn < commit_lsn:
            self.complete_count = len(self.changes)

    def take_complete(self) -> list[Change]:
        """The changes of complete transactions."""
        return self._take(self.complete_count)

    def take_part(self) -> list[Change]:
        """Nearly all changes of a transaction that is too large. The last one stays: its other half may be to come."""
        return self._take(len(self.changes) - 1)

    def committed_at(self, change: Change) -> datetime:
        """When the transaction of a change was committed at the source."""
        return _EPOCH + timedelta(microseconds=self.commit_times[change.xid])

    def forget_times(self) -> None:
        """Drop the times of all transactions but the one that changes are still to be delivered of."""
        left = {change.xid for change in self.changes[:1]}
        self.commit_times = {xid: time for xid, time in self.commit_times.items() if xid in left}

    def _take(self, count: int) -> list[Change]:
        taken, self.changes = self.changes[:count], self.changes[count:]
        self.complete_count = 0
        return taken


class DebeziumStream:
    """Debezium's events as deliveries. Keeps the contract of `Stream`."""

    def __init__(self, engine: EngineThread, decoder: Decoder, confirmed_flush_lsn: Lsn) -> None:
        self._engine = engine
        self._decoder = decoder
        self._buffer = TransactionBuffer()
        self._buffered_bytes = 0
        self._receipt: _Receipt | None = None
        self._lsn = confirmed_flush_lsn

    def next(self, timeout: float) -> Delivery | None:
        records = self._engine.receive(timeout)
        while records is not None:
            self._read(records)
            if self._is_full():
                break
            records = self._engine.receive(0)
        return self._cut()

    def commit(self, delivery: Delivery) -> None:
        if isinstance(delivery.receipt, _Receipt):
            delivery.receipt.records.commit()

    def close(self) -> None:
        if not self._engine.close(CLOSE_TIMEOUT):
            raise StreamStalled(
                f"Debezium did not end within {CLOSE_TIMEOUT:.0f} seconds.",
                "Its connection ends with this process; the run restarts by itself.",
            )

    def _read(self, records: Records) -> None:
        if records.batch.added:
            # A table that was altered within the batch has several.
            self._decoder.look_up(sorted({layout.table for layout in records.batch.added}))
        for event in read(records.batch):
            if isinstance(event, Beat):
                self._read_beat(records, event)
            else:
                self._buffer.add(self._decoded(event), event.committed_at)
        if self._buffer.changes:
            self._buffered_bytes += records.batch.size

    def _decoded(self, event: Event) -> Change:
        try:
            return self._decoder.change(event)
        except ChangeUndecodable as error:
            return self._decoder.unreadable(event, error)
        except TerminalError as error:
            error.broken = BrokenTable(event.layout.table)
            raise

    def _read_beat(self, records: Records, beat: Beat) -> None:
        if beat.commit_lsn is None or beat.commit_lsn <= self._lsn:
            return
        self._lsn = Lsn(beat.commit_lsn)
        self._buffer.committed(self._lsn)
        self._receipt = _Receipt(records)

    def _is_full(self) -> bool:
        return len(self._buffer.changes) >= CHANGE_LIMIT or self._buffered_bytes >= BYTE_LIMIT

    def _cut(self) -> Delivery | None:
        if self._buffer.complete_count or not self._is_full():
            changes = self._buffer.take_complete()
        else:
            changes = self._buffer.take_part()
        if not changes and self._receipt is None:
            return None
        receipt, self._receipt = self._receipt, None
        committed_at = self._buffer.committed_at(changes[-1]) if changes else None
        self._buffer.forget_times()
        left = len(self._buffer.changes)
        self._buffered_bytes = self._buffered_bytes * left // max(1, left + len(changes))
        return Delivery(
            changes=changes,
            watermark=_watermark(changes),
            lsn=self._lsn,
            committed_at=committed_at,
            receipt=receipt,
        )


def _watermark(changes: Sequence[Change]) -> Watermark | None:
    if not changes:
        return None
    return Watermark(engine=Engine.DEBEZIUM, position=changes[-1].position, xid=changes[-1].xid)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebeziumSource:
    """Opens Debezium at the slot's own position."""

    connection: PostgresConnection
    slot_name: str
    publication_name: str
    schemas: dict[TableId, TableSchema]
    #: What tables looked like when their last change was applied: the stream begins there.
    held_schemas: dict[TableId, TableSchema]
    read_schemas: ReadSchemas
    #: The slot's `confirmed_flush_lsn`, read before the start.
    confirmed_flush_lsn: Lsn

    def open(self, watermarks: Sequence[Watermark]) -> DebeziumStream:
        # Random, so that no row can hold it and pass for a value that was not sent.
        placeholder = f"rosetta-unchanged-{secrets.token_hex(16)}"
        properties = connector_properties(
            self.connection,
            slot_name=self.slot_name,
            publication_name=self.publication_name,
            tables=tuple(self.schemas),
            placeholder=placeholder,
        )
        positions = PositionCounter(self.confirmed_flush_lsn, watermarks)
        decoder = Decoder(self.schemas, self.held_schemas, self.read_schemas, positions, placeholder)
        return DebeziumStream(EngineThread(properties, placeholder), decoder, self.confirmed_flush_lsn)
