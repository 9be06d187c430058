"""Decides which transactions a snapshot already holds, so that the stream can leave them out."""

from typing import NamedTuple, Self

from rosetta_dagster.cdc.change.position import Lsn

_XID_SPACE = 1 << 32


class XidSnapshot(NamedTuple):
    """PostgreSQL's `pg_snapshot`: which transactions had ended when a snapshot was taken (64-bit transaction ids)."""

    #: Every transaction below had ended.
    xmin: int
    #: Every transaction from here on had not begun.
    xmax: int
    #: Those in between that had not ended.
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form of `pg_current_snapshot()`, as `750:768:751,760`; ValueError when it is not one."""
        xmin, xmax, in_progress = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in in_progress.split(",") if xid))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.in_progress)))}"

    def holds(self, xid: int) -> bool:
        """Whether the snapshot sees what this committed transaction wrote. The xid is the stream's, of 32 bits.

        The stream knows only the low half of a transaction id. PostgreSQL keeps all living ids within 2^31 of each
        other, so the one nearest to `xmax` is meant.
        """
        distance = (xid - self.xmax + _XID_SPACE // 2) % _XID_SPACE - _XID_SPACE // 2
        whole = self.xmax + distance
        return whole < self.xmin or (whole < self.xmax and whole not in self.in_progress)


class SnapshotPoint(NamedTuple):
    """The point of the stream that the copy of a table stands for."""

    #: Transactions that commit after this LSN are not in the copy.
    lsn: Lsn
    #: Exactly which transactions are in the copy.
    xids: XidSnapshot
