"""Makes deliveries of Debezium's batches, and decides which heartbeat a delivery commits.

Debezium's batches end anywhere in a transaction. Only heartbeats are committed: the offset of a heartbeat has the LSN of the
last COMMIT that Debezium had read before.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ThreadStuck
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.connections import at_one_host, walsender_options
from rosetta_dagster.cdc.source.debezium.decode import Decoder, ReadSchemas
from rosetta_dagster.cdc.source.debezium.engine import EngineThread, Records
from rosetta_dagster.cdc.source.debezium.positions import TransactionLsns
from rosetta_dagster.cdc.source.debezium.properties import connector_properties
from rosetta_dagster.cdc.source.debezium.reader import Reader
from rosetta_dagster.cdc.table_id import TableId

#: Seconds that an engine may take to end. After that only the end of the process ends it.
CLOSE_TIMEOUT = 20.0


class _Receipt(NamedTuple):
    """The batch whose last heartbeat is committed once the delivery is durable."""

    records: Records


class DebeziumStream:
    """Debezium's events as deliveries. Implements `Stream`."""

    def __init__(self, engine: EngineThread, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._receipt: _Receipt | None = None

    def next(self, timeout: float) -> Delivery | None:
        records = self._engine.receive(timeout)
        while records is not None:
            self._read(records)
            if self._reader.is_full:
                break
            records = self._engine.receive(0)
        receipt, self._receipt = self._receipt, None
        return self._reader.cut(receipt)

    def commit(self, delivery: Delivery) -> None:
        if isinstance(delivery.receipt, _Receipt):
            delivery.receipt.records.commit()

    def close(self) -> None:
        if not self._engine.close(CLOSE_TIMEOUT):
            raise ThreadStuck(
                f"Debezium did not end within {CLOSE_TIMEOUT:.0f} seconds.",
                "Its connection ends with this process; the run restarts by itself.",
            )

    def _read(self, records: Records) -> None:
        before = self._reader.lsn
        self._reader.read(records.batch)
        if self._reader.lsn > before:
            self._receipt = _Receipt(records)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebeziumSource:
    """Opens Debezium at the slot's position."""

    connection: PostgresConnection
    slot_name: str
    publication_name: str
    #: The tables as the catalog describes them now.
    schemas: dict[TableId, TableSchema]
    #: The tables as they were when their last change was applied: the stream starts with these columns.
    held_schemas: dict[TableId, TableSchema]
    read_schemas: ReadSchemas
    #: The slot's `confirmed_flush_lsn`, read before the start.
    confirmed_flush_lsn: Lsn

    def open(self, watermarks: Sequence[Watermark]) -> DebeziumStream:
        # Random, so that no row can contain it: it would be treated as a value that was not sent again.
        placeholder = f"rosetta-unchanged-{secrets.token_hex(16)}"
        connection = at_one_host(self.connection)
        properties = connector_properties(
            connection,
            slot_name=self.slot_name,
            publication_name=self.publication_name,
            tables=tuple(self.schemas),
            placeholder=placeholder,
            options=walsender_options(connection),
        )
        decoder = Decoder(self.schemas, self.held_schemas, self.read_schemas, placeholder)
        reader = Reader(decoder, TransactionLsns(self.confirmed_flush_lsn, watermarks), self.confirmed_flush_lsn)
        return DebeziumStream(EngineThread(properties, placeholder), reader)
