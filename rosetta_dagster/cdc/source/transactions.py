"""Decides where an engine's stream is cut into deliveries: behind a transaction, or within one that is too large."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import ClassVar

from rosetta_dagster.cdc.change.columns import ChangeColumns
from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.source.base import Delivery, watermark_of

#: A transaction beyond this many changes or bytes is delivered in parts, which bounds the memory.
CHANGE_LIMIT = 50_000
BYTE_LIMIT = 64 * 1024 * 1024


class TransactionReader(ABC):
    """Changes that were read and are not yet delivered, in the stream's order. An engine's own reader adds them."""

    engine: ClassVar[Engine]

    def __init__(self, confirmed_flush_lsn: Lsn) -> None:
        self.changes = ChangeColumns()
        #: How many of the changes belong to complete transactions. They come first.
        self.complete_count = 0
        #: The size of the changes, approximately.
        self.byte_count = 0
        #: Every transaction that committed before this LSN has been read.
        self.lsn = int(confirmed_flush_lsn)

    @property
    def is_full(self) -> bool:
        """Whether the changes have reached the limit of a delivery."""
        return len(self.changes) >= CHANGE_LIMIT or self.byte_count >= BYTE_LIMIT

    @property
    @abstractmethod
    def complete_at(self) -> datetime | None:
        """When the source committed the last complete transaction."""

    @property
    @abstractmethod
    def transaction_at(self) -> datetime | None:
        """When the source committed the transaction that is being read."""

    def cut(self, receipt: object | None) -> Delivery | None:
        """Take the complete transactions, or a part of one that is too large, as the next delivery.

        Return None when there is nothing to deliver and, without a receipt, nothing to commit.
        """
        is_part = not self.complete_count and self.is_full
        changes = self.take_part() if is_part else self.take_complete()
        if not changes and receipt is None:
            return None
        return Delivery(
            changes=changes,
            watermark=watermark_of(self.engine, changes),
            lsn=Lsn(self.lsn),
            committed_at=(self.transaction_at if is_part else self.complete_at) if changes else None,
            receipt=receipt,
        )

    def take_complete(self) -> ChangeColumns:
        """Take the changes of complete transactions."""
        return self._take(self.complete_count)

    def take_part(self) -> ChangeColumns:
        """Take the changes of a transaction that is too large, as far as they have been read."""
        return self._take(len(self.changes))

    def _take(self, count: int) -> ChangeColumns:
        before = len(self.changes)
        taken = self.changes.take(count)
        self.byte_count = self.byte_count * len(self.changes) // max(1, before)
        # What is left belongs to the transaction that is being read.
        self.complete_count = 0
        return taken
