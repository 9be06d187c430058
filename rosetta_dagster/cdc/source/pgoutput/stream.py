"""Decides how long to wait for the walsender's messages before they are delivered, and which LSN a delivery confirms."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ThreadStuck
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.pgoutput.ahead import ReadAhead
from rosetta_dagster.cdc.source.pgoutput.reader import Reader
from rosetta_dagster.cdc.source.pgoutput.relations import ReadSchema, Relations, TypeName
from rosetta_dagster.cdc.source.pgoutput.walsender import Walsender
from rosetta_dagster.cdc.table_id import TableId

#: Seconds that the connection may take to close. After that only the end of the process closes it.
CLOSE_TIMEOUT = 20.0


class _Receipt(NamedTuple):
    """The slot may move to this LSN once the delivery is durable."""

    lsn: Lsn


class PgoutputStream:
    """The walsender's messages as deliveries. Implements `Stream`."""

    def __init__(self, walsender: Walsender, reader: Reader) -> None:
        self._walsender = walsender
        self._reader = reader
        #: Messages that were received together, and the index of the first one that has not been read.
        self._messages: Sequence[bytes] = ()
        self._at = 0
        #: The LSN of the last receipt; before the first one, the slot's position.
        self._delivered_lsn = reader.lsn

    def next(self, timeout: float) -> Delivery | None:
        deadline = time.monotonic() + timeout
        self._fetch(timeout)
        while self._fetch(0 if self._reader.is_between_transactions else timeout):
            self._at = self._reader.read_some(self._messages, self._at)
            if self._reader.is_full or self._is_idle_since(deadline):
                break
        return self._reader.cut(self._next_receipt())

    def commit(self, delivery: Delivery) -> None:
        if isinstance(delivery.receipt, _Receipt):
            self._walsender.confirm(delivery.receipt.lsn)

    def close(self) -> None:
        if not self._walsender.close(CLOSE_TIMEOUT):
            raise ThreadStuck(
                f"The connection to the walsender did not close within {CLOSE_TIMEOUT:.0f} seconds.",
                "It closes with this process; the run restarts by itself.",
            )

    def _fetch(self, timeout: float) -> bool:
        """Receive messages if all have been read, waiting up to the timeout. Return whether there is one to read."""
        if self._at == len(self._messages):
            self._messages, self._at = self._walsender.receive(timeout) or (), 0
        return self._at < len(self._messages)

    def _is_idle_since(self, deadline: float) -> bool:
        """Whether only changes of other tables have come until the deadline.

        Then `next` returns, so that the slot moves and the run can stop.
        """
        reader = self._reader
        return reader.is_between_transactions and not reader.changes and time.monotonic() > deadline

    def _next_receipt(self) -> _Receipt | None:
        """Return a receipt for the commits that were read since the last one."""
        if self._reader.lsn <= self._delivered_lsn:
            return None
        self._delivered_lsn = self._reader.lsn
        return _Receipt(Lsn(self._delivered_lsn))


@dataclass(frozen=True, slots=True, kw_only=True)
class PgoutputSource:
    """Opens a stream at the slot's position."""

    #: The pipeline's name, for remedies.
    pipeline: str
    connection: PostgresConnection
    slot_name: str
    publication_names: Sequence[str]
    #: The tables as the catalog describes them now.
    schemas: dict[TableId, TableSchema]
    #: The tables as they were when their last change was applied: the stream starts with these columns.
    held_schemas: dict[TableId, TableSchema]
    #: The OID of each table when it was copied, as far as it is known.
    oids: Mapping[TableId, int] = field(default_factory=dict)
    read_schema: ReadSchema
    type_name: TypeName
    #: The slot's `confirmed_flush_lsn`, read before the start.
    confirmed_flush_lsn: Lsn

    def open(self, watermarks: Sequence[Watermark]) -> ReadAhead:  # noqa: ARG002 - positions here are exact without them
        relations = Relations(
            self.schemas, self.held_schemas, self.oids, self.read_schema, self.type_name, pipeline=self.pipeline
        )
        walsender = Walsender(self.connection, self.slot_name, self.publication_names)
        reader = Reader(relations, self.confirmed_flush_lsn, checks_encoding=not walsender.sends_utf8)
        return ReadAhead(PgoutputStream(walsender, reader))
