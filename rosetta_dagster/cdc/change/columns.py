"""Stores the changes of a stream as columns: millions are made, and few are ever needed as `Change` objects."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from operator import attrgetter
from typing import Any, NamedTuple, overload

from rosetta_dagster.cdc.change.event import Change, Operation, Row
from rosetta_dagster.cdc.change.schema import TableSchema


class Form(Enum):
    """Which rows of a change are kept."""

    #: The new row, whose values were all sent.
    WHOLE = auto()
    #: The new row, some of whose values were not sent.
    PARTIAL = auto()
    #: The old row of a delete.
    OLD_ROW = auto()
    #: The old and the new row, as a pair.
    BOTH = auto()
    #: No row: of a truncate, or of a change that could not be read.
    NOTHING = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What changes have in common. Kinds are distinguished by their object, which is cheap."""

    operation: Operation
    table: TableSchema
    form: Form

    def rows(self, kept: Any) -> tuple[Row | None, Row | None]:
        """Return the new row and the old row from what is kept."""
        match self.form:
            case Form.WHOLE | Form.PARTIAL:
                return kept, None
            case Form.OLD_ROW:
                return None, kept
            case Form.BOTH:
                old_row, row = kept
                return row, old_row
            case Form.NOTHING:
                return None, None


class _Transaction(NamedTuple):
    """The index of a transaction's first change, and what its changes share."""

    start: int
    lsn: int
    xid: int


class _Place(NamedTuple):
    """The place of a change within its transaction."""

    #: 8 bytes, as received.
    lsn: bytes
    ordinal: int


_start = attrgetter("start")


class ChangeColumns(Sequence[Change]):
    """Changes in the stream's order. Each access makes a new `Change`, so a caller that needs many iterates once.

    A reader calls `begin` for each transaction and appends to each of the three lists for each change. It may replace the
    last change.
    """

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        #: The rows that the change's kind names.
        self.kept: list[Any] = []
        #: The LSN of the change: 8 bytes, as received.
        self.lsns: list[bytes] = []
        self._transactions: list[_Transaction] = []
        #: The place of the change before the first one, if both are of the same transaction.
        self._before: _Place | None = None

    def begin(self, lsn: int, xid: int) -> None:
        """Begin a transaction: further changes belong to it."""
        start = len(self.kinds)
        if self._transactions and self._transactions[-1].start == start:
            # The transaction before has no changes here.
            self._transactions.pop()
        if start == 0:
            self._before = None
        self._transactions.append(_Transaction(start, lsn, xid))

    def take(self, count: int) -> "ChangeColumns":
        """Remove and return the first `count` changes."""
        taken = ChangeColumns()
        if count == 0:
            return taken
        last = self._place(count - 1)
        taken._before, taken._transactions = self._before, [each for each in self._transactions if each.start < count]
        self._transactions = [each._replace(start=each.start - count) for each in self._transactions if each.start >= count]
        self._before = None
        if not self._transactions or self._transactions[0].start > 0:
            # The last transaction that was taken goes on.
            self._transactions.insert(0, taken._transactions[-1]._replace(start=0))
            self._before = last
        taken.kinds, self.kinds = self.kinds[:count], self.kinds[count:]
        taken.kept, self.kept = self.kept[:count], self.kept[count:]
        taken.lsns, self.lsns = self.lsns[:count], self.lsns[count:]
        return taken

    def __len__(self) -> int:
        return len(self.kinds)

    @overload
    def __getitem__(self, index: int) -> Change: ...

    @overload
    def __getitem__(self, index: slice) -> list[Change]: ...

    def __getitem__(self, index: int | slice) -> Change | list[Change]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self._change(index, self._transaction_of(index), self._place(index).ordinal)

    def __iter__(self) -> Iterator[Change]:
        ends = [*(each.start for each in self._transactions[1:]), len(self)]
        before = self._before
        # Before the first `begin` there is no transaction.
        for transaction, end in zip(self._transactions, ends, strict=False):
            for index in range(transaction.start, end):
                lsn = self.lsns[index]
                ordinal = before.ordinal + 1 if before is not None and before.lsn == lsn else 0
                before = _Place(lsn, ordinal)
                yield self._change(index, transaction, ordinal)
            before = None

    def _change(self, index: int, transaction: _Transaction, ordinal: int) -> Change:
        kind = self.kinds[index]
        lsn = int.from_bytes(self.lsns[index])
        return Change(
            transaction.lsn, lsn, ordinal, transaction.xid, kind.operation, kind.table, *kind.rows(self.kept[index])
        )

    def _transaction_of(self, index: int) -> _Transaction:
        return self._transactions[bisect_right(self._transactions, index, key=_start) - 1]

    def _place(self, index: int) -> _Place:
        """Return the change's place: changes with the same LSN, such as the rows of one COPY page, are numbered."""
        lsn, start, first = self.lsns[index], self._transaction_of(index).start, index
        while first > start and self.lsns[first - 1] == lsn:
            first -= 1
        ordinal = index - first
        if first == 0 and self._before is not None and self._before.lsn == lsn:
            ordinal += self._before.ordinal + 1
        return _Place(lsn, ordinal)
