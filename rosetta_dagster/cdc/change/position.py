"""Where a change stands in the source's stream of changes: one total order, the same on every replay."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self


class Lsn(int):
    """A place in the write-ahead log: a 64-bit number that PostgreSQL prints as two hexadecimal halves.

    >>> Lsn.parse("16/B374D848") > Lsn.parse("2/FFFFFFFF")
    True
    >>> str(Lsn(97500059720))
    '16/B374D848'
    """

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read PostgreSQL's form; ValueError when it is not one."""
        high, low = text.split("/")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({self})"


class Position(NamedTuple):
    """The place of one change. Tuples compare field by field, and that is the order of the stream.

    The stream is ordered by commit, not by log position: a transaction that began early and committed late comes late.
    So the transaction comes first, then the change within it.
    """

    #: Orders the transactions. `pgoutput`: the transaction's own commit LSN. `debezium`: that of the transaction
    #: before it, which is as exact, and known when the first change of the transaction arrives.
    transaction_lsn: int
    #: Where the change itself was logged.
    lsn: int
    #: Number of the change among those that share the LSN: the rows of one COPY page do.
    ordinal: int


class Engine(StrEnum):
    """Which capture engine reads the stream; a position can only be compared with one of the same engine."""

    DEBEZIUM = "DEBEZIUM"
    PGOUTPUT = "PGOUTPUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """The last change that a destination holds; stored there in the transaction of the data."""

    engine: Engine
    position: Position
    #: The transaction that the position belongs to (32 bits, as it is in the stream); 0 before the first one.
    xid: int

    def covers(self, position: Position, xid: int, engine: Engine) -> bool:
        """Whether a destination at this watermark holds a change of the stream of that engine.

        Engines share the order within a transaction, and differ in what orders the transactions: `pgoutput` by a
        transaction's own commit, `debezium` by the commit before it. So a pipeline may change its engine at any time.
        """
        if engine is self.engine:
            return position <= self.position
        if xid == self.xid:
            return position[1:] <= self.position[1:]
        if engine is Engine.PGOUTPUT:
            # Committed at the latest with the one before the watermark's transaction.
            return position.transaction_lsn <= self.position.transaction_lsn
        return position.transaction_lsn < self.position.transaction_lsn
