"""Turns Debezium's events into changes, and decides which transactions are complete.

A transaction is complete once the next one begins, or once a heartbeat reports a COMMIT after the transaction's last change.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from rosetta_dagster.cdc.change.columns import ChangeColumns, Form, Kind
from rosetta_dagster.cdc.change.event import UNCHANGED, Operation, Row, UnreadableTable, Value
from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, ChangeUndecodable, TerminalError
from rosetta_dagster.cdc.source.debezium.decode import Decoder, TableDecoder
from rosetta_dagster.cdc.source.debezium.events import BEAT, Batch, Image, Layout, cut, heads, mark
from rosetta_dagster.cdc.source.debezium.positions import TransactionLsns
from rosetta_dagster.cdc.source.transactions import TransactionReader
from rosetta_dagster.cdc.table_id import TableId

_OPERATIONS: Final = {b"c": Operation.INSERT, b"u": Operation.UPDATE, b"d": Operation.DELETE, b"t": Operation.TRUNCATE}

#: Module globals are cheaper than attributes of `Operation` in the loop over all events.
_DELETE, _INSERT = Operation.DELETE, Operation.INSERT

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: What events that are read the same way have in common: the layout's number, Debezium's letter, and which images exist.
_EventKind: TypeAlias = tuple[int, bytes, int]


class _Plan(NamedTuple):
    """How to read events of one kind that have one image."""

    width: int
    read: Callable[[list[Value]], Row]
    #: The kind of such a change when its row was sent whole, and when it was not.
    kind: Kind
    partial: Kind


class Reader(TransactionReader):
    """Turns events into changes and keeps track of transactions. It has no connection and no thread."""

    engine = Engine.DEBEZIUM

    def __init__(self, decoder: Decoder, transaction_lsns: TransactionLsns, confirmed_flush_lsn: Lsn) -> None:
        super().__init__(confirmed_flush_lsn)
        self._decoder = decoder
        self._transaction_lsns = transaction_lsns
        self._plans: dict[_EventKind, _Plan] = {}
        #: The decoders that the plans were made from.
        self._decoders: dict[TableId, TableDecoder] = {}
        self._kinds: dict[tuple[Operation, Form, int], Kind] = {}
        #: The transaction that is being read. Times are in microseconds since 1970.
        self._xid: int | None = None
        self._transaction_lsn = 0
        self._committed_at = 0
        #: The index of its first change in `changes`.
        self._start = 0
        #: When the last complete transaction was committed.
        self._completed_at: int | None = None

    @property
    def complete_at(self) -> datetime | None:
        return None if self._completed_at is None else _EPOCH + timedelta(microseconds=self._completed_at)

    @property
    def transaction_at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._committed_at)

    def read(self, batch: Batch) -> None:
        """Read a batch's events."""
        if batch.added:
            # A table that was altered within the batch has several layouts.
            self._decoder.look_up(sorted({layout.table for layout in batch.added}))
        self._read_events(batch)
        if self.changes:
            self.byte_count += batch.size

    def _read_events(self, batch: Batch) -> None:  # noqa: C901 - millions of events pass here: one loop with as few calls as possible
        changes, plan_of = self.changes, self._plans.get
        kinds, keep, add_lsn = changes.kinds, changes.kept.append, changes.lsns.append
        values, marks = batch.cut_values(), batch.cut_marks()
        at = marked = 0
        for letter, images, number, xid, lsn, commit_before, committed_at, mark_count in heads(batch.heads):
            if letter == BEAT:
                self._read_beat(commit_before)
                continue
            if xid != self._xid:
                self._begin(xid, commit_before, committed_at)
            if mark_count:
                mark(values, at, marks[marked : marked + mark_count])
                marked += mark_count
            plan = plan_of((number, letter, images))
            if plan is not None:
                width, read, kind, partial = plan
                try:
                    kept: Any = read(values[at : at + width])
                except ChangeUndecodable:
                    plan = None
                else:
                    at += width
                    # An array that was not sent again has no mark: its converter detects it.
                    if UNCHANGED in kept:
                        kind = partial
            if plan is None:
                layout = batch.layouts[number]
                before, after, at = cut(values, at, layout, images)
                kind, kept = self._decoded((number, letter, images), layout, before, after)
            if kinds and kinds[-1].operation is _DELETE and self._join(kind, kept, lsn):
                continue
            kinds.append(kind)
            keep(kept)
            add_lsn(lsn)

    def take_part(self) -> ChangeColumns:
        # The last change stays: it may be the first half of an update that changed the key.
        return self._take(max(0, len(self.changes) - 1))

    def _take(self, count: int) -> ChangeColumns:
        self._start = 0
        return super()._take(count)

    def _read_beat(self, commit_lsn: int) -> None:
        """Take in a heartbeat, which has the LSN of the last COMMIT: maybe that of the transaction before this one."""
        if commit_lsn > self.lsn:
            self.lsn = commit_lsn
            if self._transaction_lsn < commit_lsn:
                self._complete()

    def _begin(self, xid: int, commit_before: int, committed_at: int) -> None:
        self._complete()
        self._decoder.begin()
        self._xid, self._committed_at, self._start = xid, committed_at, len(self.changes)
        self._transaction_lsn = self._transaction_lsns.begin(xid, commit_before)
        self.changes.begin(self._transaction_lsn, xid)

    def _complete(self) -> None:
        """Mark all changes that were read as complete."""
        if self.changes:
            self.complete_count, self._completed_at = len(self.changes), self._committed_at

    def _decoded(self, event_kind: _EventKind, layout: Layout, before: Image, after: Image) -> tuple[Kind, Any]:
        """Return a change's kind and what is kept of it. Make a plan for further events of its kind if it has one image."""
        operation = _OPERATIONS[event_kind[1]]
        if operation is Operation.TRUNCATE:
            return self._kind(operation, self._decoder.schema_before(layout.table), Form.NOTHING), None
        try:
            decoder, old_row, row = self._decoder.rows(layout, before, after)
        except ChangeUndecodable as error:
            return self._kind(operation, self._decoder.unreadable(layout.table, error), Form.NOTHING), None
        except TerminalError as error:
            error.broken = BrokenTable(layout.table)
            raise
        if self._decoders.setdefault(layout.table, decoder) is not decoder:
            # The table was altered, which is rare: all plans are made again.
            self._decoders[layout.table] = decoder
            self._plans.clear()
            self._kinds.clear()
        if old_row is None or row is None:
            self._plans[event_kind] = self._plan(operation, decoder, is_old=row is None)
        if old_row is None:
            assert row is not None, "one of them was sent"
            return self._kind(operation, decoder.schema, Form.PARTIAL if UNCHANGED in row else Form.WHOLE), row
        if row is None:
            return self._kind(operation, decoder.schema, Form.OLD_ROW), old_row
        return self._kind(operation, decoder.schema, Form.BOTH), (old_row, row)

    def _plan(self, operation: Operation, decoder: TableDecoder, *, is_old: bool) -> _Plan:
        width = len(decoder.layout.columns)
        if is_old:
            kind = self._kind(operation, decoder.schema, Form.OLD_ROW)
            return _Plan(width, decoder.old_row, kind, kind)
        whole, partial = (self._kind(operation, decoder.schema, form) for form in (Form.WHOLE, Form.PARTIAL))
        return _Plan(width, decoder.row if decoder.converts else tuple, whole, partial)

    def _kind(self, operation: Operation, table: TableSchema, form: Form) -> Kind:
        return self._kinds.setdefault((operation, form, id(table)), Kind(operation, table, form))

    def _join(self, kind: Kind, kept: Any, lsn: bytes) -> bool:
        """Join this change and the last one, a delete, if both come from one update. Return whether they were joined.

        Debezium splits an update that changed the key into a delete and an insert. Both have the LSN of the update's WAL
        record, which no other statement has.
        """
        changes = self.changes
        deleted = changes.kinds[-1]
        if (
            kind.operation is not _INSERT
            or deleted.table.id != kind.table.id
            or changes.lsns[-1] != lsn
            or len(changes) == self._start
        ):
            return False
        unreadable = [half.table for half in (deleted, kind) if isinstance(half.table, UnreadableTable)]
        if unreadable:
            changes.kinds[-1], changes.kept[-1] = self._kind(Operation.UPDATE, unreadable[0], Form.NOTHING), None
        elif deleted.table is kind.table:
            both = changes.kept[-1], kept
            changes.kinds[-1], changes.kept[-1] = self._kind(Operation.UPDATE, kind.table, Form.BOTH), both
        else:
            return False
        return True
