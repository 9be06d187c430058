"""Decides which transactions a snapshot contains, so that the stream can skip them."""

from typing import NamedTuple, Self

from rosetta_dagster.cdc.change.position import Lsn

_XID_SPACE = 1 << 32


class XidSnapshot(NamedTuple):
    """PostgreSQL's `pg_snapshot`: the transactions that had ended when a snapshot was taken (64-bit transaction ids)."""

    #: Every transaction before this one had ended.
    xmin: int
    #: This transaction and all later ones had not begun.
    xmax: int
    #: The transactions in between that had not ended.
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form of `pg_current_snapshot()`, such as `750:768:751,760`. Raise `ValueError` for other text."""
        xmin, xmax, in_progress = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in in_progress.split(",") if xid))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.in_progress)))}"

    def holds(self, xid: int) -> bool:
        """Whether the snapshot contains the rows of this committed transaction.

        The stream has only the low 32 bits of a transaction id. PostgreSQL keeps all ids in use within 2^31 of each other,
        so the id nearest to `xmax` is the right one.
        """
        distance = (xid - self.xmax + _XID_SPACE // 2) % _XID_SPACE - _XID_SPACE // 2
        whole = self.xmax + distance
        return whole < self.xmin or (whole < self.xmax and whole not in self.in_progress)


class SnapshotPoint(NamedTuple):
    """The point of the stream that the copy of a table corresponds to."""

    #: Transactions that commit after this LSN are not in the copy.
    lsn: Lsn
    #: Exactly which transactions are in the copy.
    xids: XidSnapshot
