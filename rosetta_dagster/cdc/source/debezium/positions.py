"""Decides which of Debezium's transactions comes before which, and so what a restart may skip.

Debezium tells, in an event's offset, the LSN of the COMMIT before the event's transaction.

The trap: after a start it is not known until a COMMIT has been seen. Read as 0, it would make the first transaction
look older than everything, and it would be lost. With F the slot's `confirmed_flush_lsn` before the start, the first
transaction takes F in its place. That orders it exactly against a watermark in another transaction: if it committed before
that one, F is below the watermark's transaction; if after, F is at or above it. If it is the watermark's own transaction,
told by its xid, it takes the watermark's value.
"""

from collections.abc import Mapping, Sequence

from rosetta_dagster.cdc.change.position import Engine, Lsn, Watermark


class TransactionLsns:
    """Gives the LSNs that order transactions, in the order in which the stream delivers them."""

    def __init__(self, confirmed_flush_lsn: Lsn, watermarks: Sequence[Watermark]) -> None:
        self._confirmed_flush_lsn = confirmed_flush_lsn
        self._watermark_lsns: Mapping[int, int] = {
            watermark.xid: watermark.position.transaction_lsn
            for watermark in watermarks
            if watermark.xid and watermark.engine is Engine.DEBEZIUM
        }

    def begin(self, xid: int, commit_before: int) -> int:
        """The LSN of the transaction that begins. The COMMIT before it is -1 when none has been read since the start."""
        known = self._watermark_lsns.get(xid)
        if known is not None:
            return known
        lsn = int(self._confirmed_flush_lsn) if commit_before < 0 else commit_before
        # The stream is past a watermark's transaction: its xid, of 32 bits only, will mean another one some day.
        self._watermark_lsns = {x: known_lsn for x, known_lsn in self._watermark_lsns.items() if known_lsn >= lsn}
        return lsn
