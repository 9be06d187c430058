"""Decides the order of Debezium's transactions, and so which changes a restart skips.

An event's offset has the LSN of the COMMIT before the event's transaction.

After a start, Debezium does not have that LSN until it has read a COMMIT. If it were read as 0, the first transaction would
come before every watermark and be lost. So the first transaction gets F, the slot's `confirmed_flush_lsn` before the start.
That orders it exactly against a watermark in another transaction: F is below the watermark's transaction if the first one
committed before that, and at or above it otherwise. The watermark's own transaction, identified by its xid, gets the
watermark's LSN.
"""

from collections.abc import Mapping, Sequence

from rosetta_dagster.cdc.change.position import Engine, Lsn, Watermark


class TransactionLsns:
    """Assigns to each transaction of the stream the LSN that orders it."""

    def __init__(self, confirmed_flush_lsn: Lsn, watermarks: Sequence[Watermark]) -> None:
        self._confirmed_flush_lsn = confirmed_flush_lsn
        self._watermark_lsns: Mapping[int, int] = {
            watermark.xid: watermark.position.transaction_lsn
            for watermark in watermarks
            if watermark.xid and watermark.engine is Engine.DEBEZIUM
        }

    def begin(self, xid: int, commit_before: int) -> int:
        """Return the LSN that orders the next transaction. `commit_before` is -1 if no COMMIT was read since the start."""
        known = self._watermark_lsns.get(xid)
        if known is not None:
            return known
        lsn = int(self._confirmed_flush_lsn) if commit_before < 0 else commit_before
        # Once the stream has passed a watermark's transaction, its xid of 32 bits can be used again by another one.
        self._watermark_lsns = {x: known_lsn for x, known_lsn in self._watermark_lsns.items() if known_lsn >= lsn}
        return lsn
