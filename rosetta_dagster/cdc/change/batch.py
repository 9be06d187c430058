"""Compacts a run of changes into what a destination has to do: the last state of each key, table by table.

Tables are independent of each other within a batch, since a batch becomes visible as a whole. Within a table the changes
fold into one merge: rows to upsert and keys to delete, each key once. Two things cannot be folded and split a table's
work into steps that are done in order: a TRUNCATE, and a changed key whose row was not sent whole.
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
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True)
class Merge:
    """The net effect of many changes of a table with a key; every key stands in one of the two, once."""

    #: Rows to insert or, where the key exists, to put in its place. A row with UNCHANGED values only updates.
    rows: list[Row]
    deleted: list[Key]
    #: The first so many rows came by an insert, of a key that the batch had not seen: a destination that holds just what
    #: came before the batch has no row of that key. A hint, for one that can insert cheaper than merge.
    new_count: int = field(default=0, compare=False)
    #: Whether it is certain that no row has UNCHANGED values. A hint: to look for them takes a while.
    is_whole: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Move:
    """A row got another key, and some of its values were not sent: only the destination holds them."""

    old_key: Key
    row: Row


@dataclass(frozen=True, slots=True)
class Recount:
    """The net effect on a table without a key, whose rows are told apart by nothing but their values."""

    #: How many of each row to insert.
    inserted: list[tuple[Row, int]]
    #: How many of each row to delete.
    deleted: list[tuple[Row, int]]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Empty the table."""


#: Looking these up in their class for each change would cost as much as folding it.
_INSERT: Final = Operation.INSERT
_TRUNCATE: Final = Operation.TRUNCATE

Step: TypeAlias = Merge | Move | Recount | Truncate


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBatch:
    """What has to be done to one table, in order."""

    table: TableSchema
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What has to be done to each table of a run of changes; a table appears once for each schema it had."""

    tables: tuple[TableBatch, ...]


class Compaction:
    """A batch that is still growing. Changes are folded as they come, in the stream's order; none is looked at twice."""

    def __init__(self) -> None:
        #: How many changes were added.
        self.change_count = 0
        self._current: dict[TableId, _Fold] = {}
        self._finished: list[TableBatch] = []
        #: For the folds that are current.
        self._fillers: dict[Kind, _Filler] = {}

    def add(self, changes: Sequence[Change]) -> Counts:
        """Fold changes that follow those that were added before; how many there were.

        The error of a change that cannot be read is raised.
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
            # Runs are short when many tables change; to make a counter of each would cost as much as folding it.
            for operation in set(operations):
                counts[table.id, operation] += operations.count(operation)
        return counts

    def _has_one_schema_each(self, kinds: Counter[Kind]) -> bool:
        """Whether no table was altered between changes of these kinds."""
        # Of a table that was altered, kinds of one schema have fillers.
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
        # Millions pass here: one loop, and no more calls than it takes.
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
        """The batch; nothing may be added any more. Asked again, it costs nothing."""
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
    """The changes of each table together; those of one whose schema changed, in runs of one schema each.

    Told apart by what costs nothing to hash: by the schema's object.
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
    """How what `ChangeColumns` keep of one kind of change goes into a fold."""

    #: Takes what is kept of a change, and the rest is not looked at. None: a whole row is kept, its key's state from now on.
    take: Callable[[Any], None] | None
    key_of: Callable[[Row], object]
    states: dict[object, Row | None]
    #: Where the key is noted as well when it has no state yet; None unless it is an insert.
    inserted: dict[object, None] | None


@dataclass(slots=True)
class _Fold(ABC):
    """The work on one table so far: finished steps and the step that is still growing."""

    table: TableSchema
    steps: list[Step] = field(default_factory=list)

    def truncate(self) -> None:
        """Whatever was done to the table before is void."""
        self.forget()
        self.steps = [Truncate()]

    def finish(self) -> TableBatch:
        self.flush()
        return TableBatch(table=self.table, steps=tuple(self.steps))

    def filler(self, kind: Kind) -> _Filler:
        """For a kind of change of this table; it holds until the fold is finished."""
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
        """End the step that is still growing, if it holds anything."""


@dataclass(slots=True)
class _KeyedFold(_Fold):
    """Keeps the last known state of each key: its row, or None when it was deleted."""

    #: Emptied and never replaced: whoever fills them holds on to them.
    states: dict[object, Row | None] = field(default_factory=dict)
    #: Keys of which the first change was an insert, in order; the values mean nothing.
    inserted: dict[object, None] = field(default_factory=dict)
    #: Whether every row of the step that is still growing was sent whole.
    is_whole: bool = True
    #: Finds the key in a row. A key of one column is kept as its value, not as a tuple of one: millions are made.
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
        if operation is _INSERT and key not in self.states:
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
        """The row with what was not sent, as far as the state of that key tells it."""
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
            # No loop of Python's for the rest: `filter` leaves the rows of deleted keys out.
            new = list(filter(None, map(states.pop, self.inserted)))
            rows = [*new, *filter(None, states.values())]
            self.steps.append(Merge(rows, deleted, len(new), self.is_whole))
            self.forget()


@dataclass(slots=True)
class _KeylessFold(_Fold):
    """Keeps how many of each row came or went. Which of two equal rows is meant makes no difference."""

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


def _from_old_row(table: TableSchema, row: Row, old_row: Row) -> Row:
    """The new row, with what was not sent taken from the old one as far as the old one was logged.

    REPLICA IDENTITY FULL logs all of it. Otherwise only the key is logged, and a key so large that it was not sent again
    is logged with it.
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
    """The row with each value that was not sent taken from the row before, as far as that is known."""
    if before is None or UNCHANGED not in row:
        return row
    return tuple([old if new is UNCHANGED else new for new, old in zip(row, before, strict=True)])
