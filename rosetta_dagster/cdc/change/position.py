"""Decides the order of changes in the source's stream: one total order, the same on every replay."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self


class Lsn(int):
    """A place in the write-ahead log: a 64-bit number that PostgreSQL prints in two hexadecimal halves.

    >>> Lsn.parse("16/B374D848") > Lsn.parse("2/FFFFFFFF")
    True
    >>> str(Lsn(97500059720))
    '16/B374D848'
    """

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read PostgreSQL's form. Raise `ValueError` for other text."""
        high, low = text.split("/")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({self})"


class Position(NamedTuple):
    """The place of one change. Positions compare field by field, which is the order of the stream.

    The stream is in the order of commits, not of the log: a transaction that began early and committed late comes late. So
    the transaction is the first field, and the change within it comes after.
    """

    #: Orders the transactions. PGOUTPUT: the transaction's own commit LSN. DEBEZIUM: the commit LSN of the transaction
    #: before it, which is as exact, and known when the first change of the transaction arrives.
    transaction_lsn: int
    #: The LSN of the change itself.
    lsn: int
    #: The number of the change among those with the same LSN, such as the rows of one COPY page.
    ordinal: int


class Engine(StrEnum):
    """The capture engine that reads the stream. Positions can be compared only if they are of the same engine."""

    DEBEZIUM = "DEBEZIUM"
    PGOUTPUT = "PGOUTPUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """The last change that a destination has applied. It is stored there, in the transaction of the data."""

    engine: Engine
    position: Position
    #: The transaction of the position (32 bits, as in the stream); 0 before the first one.
    xid: int

    def covers(self, position: Position, xid: int, engine: Engine) -> bool:
        """Whether a destination at this watermark has applied a change that this engine reports.

        Engines agree on the order within a transaction. They differ in what orders transactions: PGOUTPUT by their own
        commit, DEBEZIUM by the commit before. Both are comparable here, so a pipeline may change its engine at any time.
        """
        if engine is self.engine:
            return position <= self.position
        if xid == self.xid:
            return position[1:] <= self.position[1:]
        if engine is Engine.PGOUTPUT:
            # The change committed no later than the transaction before the watermark's.
            return position.transaction_lsn <= self.position.transaction_lsn
        return position.transaction_lsn < self.position.transaction_lsn
