"""Decides the position of each of Debezium's events, and so what a restart may skip.

Debezium tells, in an event's offset, the LSN of the COMMIT before the event's transaction, and where the change itself was
logged. Rows of one COPY page share an LSN, so their number among equals is the third part.

The trap: after a start the first part is null until a COMMIT has been seen. Read as 0, it would make the first transaction
look older than everything, and it would be lost. With F the slot's `confirmed_flush_lsn` before the start, the first
transaction takes F in its place. That orders it exactly against a watermark in another transaction: if it committed before
that one, F is below the watermark's transaction; if after, F is at or above it. If it is the watermark's own transaction,
told by its xid, it takes the watermark's value.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from rosetta_dagster.cdc.position import Engine, Lsn, Position, Watermark

#: Makes a position from its fields, in order: the generated constructor takes twice as long.
_position = partial(tuple.__new__, Position)


class PositionCounter:
    """Gives positions to events in the order in which the stream delivers them."""

    def __init__(self, confirmed_flush_lsn: Lsn, watermarks: Sequence[Watermark]) -> None:
        self._confirmed_flush_lsn = confirmed_flush_lsn
        self._watermark_lsns: Mapping[int, int] = {
            watermark.xid: watermark.position.transaction_lsn
            for watermark in watermarks
            if watermark.xid and watermark.engine is Engine.DEBEZIUM
        }
        self._xid = 0
        self._transaction_lsn = 0
        self._lsn = 0
        self._ordinal = 0

    def position(self, xid: int, lsn: int, commit_before: int | None) -> Position:
        """The position of the next event; the last COMMIT before it is None when none has been read since the start."""
        if xid != self._xid:
            self._xid, self._transaction_lsn = xid, self._transaction_lsn_of(xid, commit_before)
            self._lsn, self._ordinal = lsn, 0
        elif lsn == self._lsn:
            self._ordinal += 1
        else:
            self._lsn, self._ordinal = lsn, 0
        return _position((self._transaction_lsn, lsn, self._ordinal))

    def _transaction_lsn_of(self, xid: int, commit_before: int | None) -> int:
        known = self._watermark_lsns.get(xid)
        if known is not None:
            return known
        lsn = int(self._confirmed_flush_lsn) if commit_before is None else commit_before
        # The stream is past a watermark's transaction: its xid, of 32 bits only, will mean another one some day.
        self._watermark_lsns = {x: known_lsn for x, known_lsn in self._watermark_lsns.items() if known_lsn >= lsn}
        return lsn
