"""Decides where Debezium's endless events are cut into deliveries of whole transactions.

Debezium's batches end anywhere. Heartbeats are what is committed: the offset of each says up to which COMMIT everything
came before it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rosetta_dagster.cdc.change.position import Engine, Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import StreamStalled
from rosetta_dagster.cdc.source.base import Delivery, watermark_of
from rosetta_dagster.cdc.source.connections import walsender_options
from rosetta_dagster.cdc.source.debezium.decode import Decoder, ReadSchemas
from rosetta_dagster.cdc.source.debezium.engine import EngineThread, Records
from rosetta_dagster.cdc.source.debezium.positions import TransactionLsns
from rosetta_dagster.cdc.source.debezium.properties import connector_properties
from rosetta_dagster.cdc.source.debezium.reader import Reader
from rosetta_dagster.cdc.table_id import TableId

#: A delivery grows up to about this many changes or bytes while more is at hand; a transaction beyond it is cut.
CHANGE_LIMIT = 50_000
BYTE_LIMIT = 64 * 1024 * 1024

#: How long an engine may take to end, in seconds, before the process has to.
CLOSE_TIMEOUT = 20.0


class _Receipt(NamedTuple):
    """A batch whose last heartbeat may be committed once everything before it is durable."""

    records: Records


class DebeziumStream:
    """Debezium's events as deliveries. Keeps the contract of `Stream`."""

    def __init__(self, engine: EngineThread, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        #: Of the changes that were read and not yet delivered.
        self._byte_count = 0
        self._receipt: _Receipt | None = None

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
        before = self._reader.lsn
        self._reader.read(records.batch)
        if self._reader.lsn > before:
            self._receipt = _Receipt(records)
        if self._reader.changes:
            self._byte_count += records.batch.size

    def _is_full(self) -> bool:
        return len(self._reader.changes) >= CHANGE_LIMIT or self._byte_count >= BYTE_LIMIT

    def _cut(self) -> Delivery | None:
        """The complete transactions; of one that is too large a part. The slot moves by what heartbeats have told."""
        reader = self._reader
        is_part = not reader.complete_count and self._is_full()
        changes = reader.take_part() if is_part else reader.take_complete()
        committed_at = reader.transaction_at if is_part else reader.complete_at
        if not changes and self._receipt is None:
            return None
        receipt, self._receipt = self._receipt, None
        left = len(reader.changes)
        self._byte_count = self._byte_count * left // max(1, left + len(changes))
        return Delivery(
            changes=changes,
            watermark=watermark_of(Engine.DEBEZIUM, changes),
            lsn=Lsn(reader.lsn),
            committed_at=committed_at if changes else None,
            receipt=receipt,
        )


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
            options=walsender_options(self.connection),
        )
        decoder = Decoder(self.schemas, self.held_schemas, self.read_schemas, placeholder)
        reader = Reader(decoder, TransactionLsns(self.confirmed_flush_lsn, watermarks), self.confirmed_flush_lsn)
        return DebeziumStream(EngineThread(properties, placeholder), reader)
