"""Decides what a destination has to do for a run of changes: the last state of each key, table by table.

Tables are independent of each other within a batch, because a batch becomes visible as a whole. Within a table the changes
fold into one merge: rows to upsert and keys to delete, each key once. Two kinds of change cannot be folded and split the
table's work into steps in order: a TRUNCATE, and a changed key whose row was not sent whole.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias, cast

from rosetta_dagster.cdc.change.columns import ChangeColumns, Form, Kind
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Counts, Key, Operation, Row, UnreadableTable
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, ColumnValuesUnknown
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True)
class Merge:
    """The net effect of many changes of a table with a key. Each key is in one of the two lists, once."""

    #: Rows to upsert. A row with UNCHANGED values only updates.
    rows: list[Row]
    deleted: list[Key]
    #: How many of the first rows were inserted, with a key that the batch had not seen before. A destination that has
    #: applied exactly the changes before the batch has no row with that key: a hint for one that inserts more cheaply than
    #: it merges.
    new_count: int = field(default=0, compare=False)
    #: Whether certainly no row has UNCHANGED values. A hint: searching for them takes time.
    is_whole: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Move:
    """A row got another key, and some of its values were not sent: only the destination has them."""

    old_key: Key
    row: Row


@dataclass(frozen=True, slots=True)
class Recount:
    """The net effect on a table without a key, whose rows are distinguished only by their values."""

    #: How many of each row to insert.
    inserted: list[tuple[Row, int]]
    #: How many of each row to delete.
    deleted: list[tuple[Row, int]]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Empty the table."""


#: Looking these up in their class for each change would cost as much as folding the change.
_INSERT: Final = Operation.INSERT
_TRUNCATE: Final = Operation.TRUNCATE

Step: TypeAlias = Merge | Move | Recount | Truncate


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBatch:
    """The steps to apply to one table, in order."""

    table: TableSchema
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The work on each table of a run of changes. A table appears once for each schema that it had."""

    tables: tuple[TableBatch, ...]


class Compaction:
    """A batch that is still growing. Changes are folded once, as they come, in the stream's order."""

    def __init__(self) -> None:
        #: How many changes were added.
        self.change_count = 0
        self._current: dict[TableId, _Fold] = {}
        self._finished: list[TableBatch] = []
        #: For the current folds.
        self._fillers: dict[Kind, _Filler] = {}

    def add(self, changes: Sequence[Change]) -> Counts:
        """Fold changes that follow those added before. Return their counts.

        Raise the error of a change that cannot be read.
        """
        self.change_count += len(changes)
        if isinstance(changes, ChangeColumns):
            kinds = Counter(changes.kinds)
            if self._has_one_schema_each(kinds):
                return self._add_columns(changes, kinds)
        counts: Counts = Counter()
        for run in _by_table(changes):
            table = run[0].table
            self._fold_of(table).fold(run)
            operations = [change.operation for change in run]
            # Runs are short when many tables change: a `Counter` for each would cost as much as folding it.
            for operation in set(operations):
                counts[table.id, operation] += operations.count(operation)
        return counts

    def _has_one_schema_each(self, kinds: Counter[Kind]) -> bool:
        """Whether each table has one schema in changes of these kinds."""
        # Only kinds of a table's current schema have fillers.
        if kinds.keys() <= self._fillers.keys():
            return True
        tables = {id(kind.table): kind.table.id for kind in kinds}
        return len(set(tables.values())) == len(tables)

    def _add_columns(self, changes: ChangeColumns, kinds: Counter[Kind]) -> Counts:
        counts: Counts = Counter()
        fillers = self._fillers
        for kind, count in kinds.items():
            if kind not in fillers:
                fillers[kind] = self._fold_of(kind.table).filler(kind)
            counts[kind.table.id, kind.operation] += count
        # Millions of changes pass here: one loop with as few calls as possible.
        for kind, kept in zip(changes.kinds, changes.kept, strict=True):
            take, key_of, states, inserted = fillers[kind]
            if take is not None:
                take(kept)
                continue
            key = key_of(kept)
            if inserted is not None and key not in states:
                inserted[key] = None
            states[key] = kept
        return counts

    def finish(self) -> Batch:
        """Return the batch. Nothing may be added after that. A second call costs nothing."""
        return Batch((*self._finished, *(fold.finish() for fold in self._current.values())))

    def _fold_of(self, table: TableSchema) -> "_Fold":
        fold = self._current.get(table.id)
        if fold is not None and fold.table is table:
            return fold
        if isinstance(table, UnreadableTable):
            raise table.error
        # A changed schema begins a new fold: rows of different columns cannot share a staging table.
        if fold is not None:
            self._finished.append(fold.finish())
            for kind in [kind for kind in self._fillers if kind.table is fold.table]:
                del self._fillers[kind]
        fold = self._current[table.id] = _fold_for(table)
        return fold


def compact(changes: Sequence[Change]) -> Batch:
    """Fold changes, in the stream's order, into a batch."""
    compaction = Compaction()
    compaction.add(changes)
    return compaction.finish()


def _by_table(changes: Sequence[Change]) -> Iterable[Sequence[Change]]:
    """Group the changes by table. If a table's schema changed, return runs of one schema each, in the stream's order.

    Schemas are distinguished by their object, which is cheap to hash.
    """
    runs: dict[int, list[Change]] = {}
    for change in changes:
        schema = id(change.table)
        if schema in runs:
            runs[schema].append(change)
        else:
            runs[schema] = [change]
    if len({run[0].table.id for run in runs.values()}) == len(runs):
        return runs.values()
    return [list(run) for _, run in groupby(changes, key=lambda change: id(change.table))]


def _fold_for(table: TableSchema) -> "_Fold":
    return _KeyedFold(table) if table.key else _KeylessFold(table)


class _Filler(NamedTuple):
    """How the changes of one kind in `ChangeColumns` go into a fold."""

    #: Takes in what is kept of a change. None: a whole row is kept and becomes the state of its key, by the other fields.
    take: Callable[[Any], None] | None
    key_of: Callable[[Row], object]
    states: dict[object, Row | None]
    #: For inserts, gets the key if it has no state yet; None for other operations.
    inserted: dict[object, None] | None


@dataclass(slots=True)
class _Fold(ABC):
    """The work on one table so far: finished steps, and the step that is still growing."""

    table: TableSchema
    steps: list[Step] = field(default_factory=list)

    def truncate(self) -> None:
        """Discard all earlier work on the table, and empty it."""
        self.forget()
        self.steps = [Truncate()]

    def finish(self) -> TableBatch:
        self.flush()
        return TableBatch(table=self.table, steps=tuple(self.steps))

    def filler(self, kind: Kind) -> _Filler:
        """Return the filler for a kind of change of this table. It is valid until the fold is finished."""
        return _Filler(lambda kept: self.take(kind.operation, *kind.rows(kept)), tuple, {}, None)

    def fold(self, changes: Iterable[Change]) -> None:
        """Take in changes."""
        for change in changes:
            self.take(change.operation, change.row, change.old_row)

    @abstractmethod
    def take(self, operation: Operation, row: Row | None, old_row: Row | None) -> None:
        """Take in one change."""

    @abstractmethod
    def forget(self) -> None:
        """Drop the step that is still growing."""

    @abstractmethod
    def flush(self) -> None:
        """Finish the step that is still growing, unless it is empty."""


@dataclass(slots=True)
class _KeyedFold(_Fold):
    """Keeps the last known state of each key: its row, or None when it was deleted."""

    #: Cleared and never replaced: fillers keep a reference.
    states: dict[object, Row | None] = field(default_factory=dict)
    #: Keys whose first change was an insert, in order; the values are unused.
    inserted: dict[object, None] = field(default_factory=dict)
    #: Whether every row of the step that is still growing was sent whole.
    is_whole: bool = True
    #: Returns a row's key. A key of one column is a value, not a tuple: millions are made.
    key_of: Callable[[Row], object] = field(init=False)

    def __post_init__(self) -> None:
        self.key_of = itemgetter(*self.table.key_indexes)

    def filler(self, kind: Kind) -> _Filler:
        if kind.form is Form.WHOLE:
            return _Filler(None, self.key_of, self.states, self.inserted if kind.operation is _INSERT else None)
        return _Fold.filler(self, kind)

    def take(self, operation: Operation, row: Row | None, old_row: Row | None) -> None:
        if row is not None and old_row is None:
            self._put(operation, row)
        elif operation is _TRUNCATE:
            self.truncate()
        else:
            assert old_row is not None, "a delete carries the key"
            self._replace(old_row, row)

    def _put(self, operation: Operation, row: Row) -> None:
        key = self.key_of(row)
        if operation is _INSERT:
            if UNCHANGED in row:
                raise _unsent(self.table)
            if key not in self.states:
                self.inserted[key] = None
        self.states[key] = self._completed(row, key)

    def _replace(self, old_row: Row, row: Row | None) -> None:
        old_key = self.key_of(old_row)
        if row is None:
            self.states[old_key] = None
            return
        row = _from_old_row(self.table, row, old_row)
        key = self.key_of(row)
        row = self._completed(row, old_key)
        if old_key == key:
            self.states[key] = row
        else:
            self._rekey(old_key, key, row)

    def _completed(self, row: Row, key: object) -> Row:
        """Return the row with unsent values taken from the key's state, as far as that has them."""
        if UNCHANGED not in row:
            return row
        self.is_whole = False
        return complete(row, self.states.get(key))

    def _rekey(self, old_key: object, key: object, row: Row) -> None:
        if UNCHANGED in row:
            self.flush()
            self.steps.append(Move(self._whole_key(old_key), row))
        else:
            self.states[old_key] = None
            self.states[key] = row

    def _whole_key(self, key: object) -> Key:
        return cast(Key, key if len(self.table.key) > 1 else (key,))

    def forget(self) -> None:
        self.states.clear()
        self.inserted.clear()
        self.is_whole = True

    def flush(self) -> None:
        states = self.states
        if states:
            deleted = [self._whole_key(key) for key, row in states.items() if row is None]
            # `filter` removes deleted keys without a Python loop.
            new = list(filter(None, map(states.pop, self.inserted)))
            rows = [*new, *filter(None, states.values())]
            self.steps.append(Merge(rows, deleted, len(new), self.is_whole))
            self.forget()


@dataclass(slots=True)
class _KeylessFold(_Fold):
    """Counts how many of each row were inserted or deleted. Equal rows are interchangeable."""

    surplus: Counter[Row] = field(default_factory=Counter)

    def take(self, operation: Operation, row: Row | None, old_row: Row | None) -> None:
        if operation is _TRUNCATE:
            self.truncate()
        if old_row is not None:
            self.surplus[old_row] -= 1
        if row is not None:
            self.surplus[row if old_row is None else _from_old_row(self.table, row, old_row)] += 1

    def forget(self) -> None:
        self.surplus = Counter()

    def flush(self) -> None:
        inserted = [(row, count) for row, count in self.surplus.items() if count > 0]
        deleted = [(row, -count) for row, count in self.surplus.items() if count < 0]
        if inserted or deleted:
            self.steps.append(Recount(inserted, deleted))
        self.surplus = Counter()


def _unsent(table: TableSchema) -> ColumnValuesUnknown:
    """Return the error for an update that the server sends as an insert, since it moved the row into the row filter."""
    error = ColumnValuesUnknown(
        f"A row of table {table.id} came into the row filter by an update of its key, and large values that the update left "
        "unchanged are not in the stream.",
        "Resync the table. With REPLICA IDENTITY FULL the source logs such values.",
    )
    error.broken = BrokenTable(table.id)
    return error


def _from_old_row(table: TableSchema, row: Row, old_row: Row) -> Row:
    """Return the new row with unsent values taken from the old row, as far as that was logged.

    REPLICA IDENTITY FULL logs the whole old row. Otherwise only the key is logged, including large key values that are not
    sent again in the new row.
    """
    if UNCHANGED not in row:
        return row
    if table.identity is Identity.FULL:
        return complete(row, old_row)
    values = list(row)
    for index in table.key_indexes:
        if values[index] is UNCHANGED:
            values[index] = old_row[index]
    return tuple(values)


def complete(row: Row, before: Row | None) -> Row:
    """Return the row with each unsent value taken from the row before, as far as that is known."""
    if before is None or UNCHANGED not in row:
        return row
    return tuple([old if new is UNCHANGED else new for new, old in zip(row, before, strict=True)])
