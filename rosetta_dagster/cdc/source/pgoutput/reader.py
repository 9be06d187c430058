"""Turns the walsender's messages into changes, and decides how many changes a delivery holds.

Positions are exact: BEGIN carries the LSN of the commit. A position adds the change's own LSN, and the change's number
among those with the same LSN, such as the rows of one COPY page.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final, NamedTuple

from rosetta_dagster.cdc.change.columns import ChangeColumns, Form, Kind
from rosetta_dagster.cdc.change.event import UNCHANGED, Operation, UnreadableTable
from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.source import transactions
from rosetta_dagster.cdc.source.encoding import not_utf8
from rosetta_dagster.cdc.source.pgoutput import protocol
from rosetta_dagster.cdc.source.pgoutput.relations import Relations

#: A delivery of complete transactions grows to about this size while more messages are at hand. Larger ones gain nothing:
#: deliveries that wait while an earlier one is applied are applied together.
ENOUGH_CHANGES = 10_000
ENOUGH_BYTES = 16 * 1024 * 1024

_OPERATIONS: Final = {
    protocol.INSERT: Operation.INSERT,
    protocol.UPDATE: Operation.UPDATE,
    protocol.DELETE: Operation.DELETE,
}


class _Plan(NamedTuple):
    """How to read messages with the same head: of one table, one operation and one kind of first row."""

    #: Matches a row of nothing but text values.
    find_texts: protocol.TextFinder
    #: Reads the messages that `find_texts` does not match.
    read: Callable[[bytes], Any]
    #: The kind of such a change when its row was sent whole, and when it was not.
    kind: Kind
    partial: Kind


#: The plan for tables outside of the pipeline: skip the message.
_SKIP: Final = ()

#: Module globals are cheaper than attributes of `protocol` in the loop over all messages.
_BODY, _HEAD, _FIRST_ROW, _LSN, _LONG = protocol.BODY, protocol.HEAD, protocol.FIRST_ROW, protocol.LSN, protocol.LONG


class Reader(transactions.TransactionReader):
    """Turns messages into changes and keeps track of transactions. It has no connection and no thread."""

    engine = Engine.PGOUTPUT

    def __init__(self, relations: Relations, confirmed_flush_lsn: Lsn, *, checks_encoding: bool = False) -> None:
        """`checks_encoding`: the server sends values unchecked, so they may not be UTF-8."""
        super().__init__(confirmed_flush_lsn)
        self._relations = relations
        self._checks_encoding = checks_encoding
        self._plans: dict[bytes, _Plan | tuple[()]] = {}
        #: The kinds that take the place of others where a row could not be read.
        self._unreadable: dict[Kind, Kind] = {}
        #: The transaction that is being read, and the last one that is complete.
        self._transaction: protocol.Begin | None = None
        self._completed: protocol.Begin | None = None
        #: Whether a part of the transaction has been taken.
        self._is_cut = False
        self._set_limits()

    @property
    def is_between_transactions(self) -> bool:
        return self._transaction is None

    @property
    def is_full(self) -> bool:
        return len(self.changes) >= self._change_limit or self.byte_count >= self._byte_limit

    @property
    def complete_at(self) -> datetime | None:
        return None if self._completed is None else self._completed.committed_at

    @property
    def transaction_at(self) -> datetime | None:
        return None if self._transaction is None else self._transaction.committed_at

    def read_some(self, messages: Sequence[bytes], at: int = 0) -> int:
        """Read messages from index `at` until the delivery is full or none is left. Return the index of the next one.

        Millions of messages pass here, so this is one loop with as few calls as possible.
        """
        changes, plan_of = self.changes, self._plans.get
        add_kind, keep, add_lsn = changes.kinds.append, changes.kept.append, changes.lsns.append
        byte_count = self.byte_count
        end, byte_limit = self._room(messages, at)
        while at < end and byte_count < byte_limit:
            message = messages[at]
            plan = plan_of(message[_HEAD])
            if plan is None:
                plan = self._make_plan(message)
            at += 1
            if plan:
                find_texts, read, kind, partial = plan
                size = len(message)
                texts = find_texts(message, _FIRST_ROW) if size < _LONG else None
                if texts is not None:
                    add_kind(kind)
                    keep(texts.groups())
                else:
                    try:
                        kept = read(message)
                    except ChangeUndecodable as error:
                        kept, kind = (), self._unreadable_kind(kind, error)
                    add_kind(partial if UNCHANGED in kept else kind)
                    keep(kept)
                add_lsn(message[_LSN])
                byte_count += size
            else:
                if plan is None:
                    self._read_other(message)
                end, byte_limit = self._room(messages, at)
        self.byte_count = byte_count
        return at

    def take_part(self) -> ChangeColumns:
        self._is_cut = True
        return super().take_part()

    def _take(self, count: int) -> ChangeColumns:
        taken = super()._take(count)
        self._set_limits()
        return taken

    def _room(self, messages: Sequence[bytes], at: int) -> tuple[int, int]:
        """Return the index of the message at which the delivery may be full, and the limit of its bytes."""
        return min(len(messages), at + self._change_limit - len(self.changes.kinds)), self._byte_limit

    def _make_plan(self, message: bytes) -> "_Plan | tuple[()] | None":
        """Make the plan for all messages with this one's head. Return None when it is not about a row."""
        operation = _OPERATIONS.get(message[_BODY]) if message[0] == protocol.WAL_DATA else None
        if operation is None:
            return None
        table = self._relations.find(protocol.relation_of(message))
        plan = _SKIP if table is None else _plan_for(table, operation, message[_FIRST_ROW - 1])
        if plan and self._checks_encoding:
            plan = plan._replace(find_texts=_match_nothing, read=_checked(plan))
        self._plans[message[_HEAD]] = plan
        return plan

    def _unreadable_kind(self, kind: Kind, error: ChangeUndecodable) -> Kind:
        """Return the kind of a change whose row could not be read: always the same one, as batches distinguish objects."""
        if kind not in self._unreadable:
            table = UnreadableTable.because(kind.table.id, error)
            self._unreadable[kind] = Kind(kind.operation, table, Form.NOTHING)
        return self._unreadable[kind]

    def _read_other(self, message: bytes) -> None:
        """Read a message that is not about a row."""
        if message[0] == protocol.KEEPALIVE:
            if self._transaction is None:
                self._move_to(protocol.read_keepalive(message)[0])
            return
        kind = message[_BODY]
        if kind == protocol.BEGIN:
            self._transaction = transaction = protocol.read_begin(message)
            self.changes.begin(transaction.commit_lsn, transaction.xid)
        elif kind == protocol.COMMIT:
            self._commit(protocol.read_commit(message))
        elif kind == protocol.RELATION:
            self._learn(protocol.read_relation(message))
        elif kind == protocol.TRUNCATE:
            self._add_truncates(message)

    def _learn(self, relation: protocol.Relation) -> None:
        self._relations.learn(relation)
        for head in protocol.heads_of(relation.oid):
            self._plans.pop(head, None)

    def _commit(self, commit_end: int) -> None:
        if self._transaction is not None:
            self._completed = self._transaction
        had_enough = self.complete_count or self._is_cut
        self._transaction, self._is_cut = None, False
        self.complete_count = len(self.changes.kinds)
        self._move_to(commit_end)
        # Most commits leave the limits as they are.
        if not had_enough or not self.complete_count:
            self._set_limits()

    def _move_to(self, lsn: int) -> None:
        self.lsn = max(self.lsn, lsn)

    def _set_limits(self) -> None:
        """Allow a delivery to grow beyond what is enough only to keep a transaction whole."""
        self._change_limit, self._byte_limit = transactions.CHANGE_LIMIT, transactions.BYTE_LIMIT
        if self.complete_count or self._is_cut:
            self._change_limit = min(ENOUGH_CHANGES, self._change_limit)
            self._byte_limit = min(ENOUGH_BYTES, self._byte_limit)

    def _add_truncates(self, message: bytes) -> None:
        for oid in protocol.read_truncate(message):
            table = self._relations.find(oid)
            if table is not None:
                self.changes.kinds.append(Kind(Operation.TRUNCATE, table, Form.NOTHING))
                self.changes.kept.append(None)
                self.changes.lsns.append(message[_LSN])


def _plan_for(table: TableSchema, operation: Operation, first_row: int) -> _Plan:
    """Make the plan for messages of this table and operation whose first row is of this kind."""
    if isinstance(table, UnreadableTable):
        kind = Kind(operation, table, Form.NOTHING)
        return _Plan(_match_nothing, _read_nothing, kind, kind)
    find_texts = protocol.text_finder(len(table.columns))
    if first_row == protocol.NEW_ROW:
        whole, partial = Kind(operation, table, Form.WHOLE), Kind(operation, table, Form.PARTIAL)
        return _Plan(find_texts, protocol.read_row, whole, partial)
    if operation is Operation.DELETE:
        kind = Kind(operation, table, Form.OLD_ROW)
        return _Plan(_match_nothing if first_row == protocol.KEY else find_texts, protocol.read_row, kind, kind)
    kind = Kind(operation, table, Form.BOTH)
    return _Plan(_match_nothing, protocol.read_both_rows, kind, kind)


def _checked(plan: _Plan) -> Callable[[bytes], Any]:
    """Return the plan's `read`, which then raises `ChangeUndecodable` when a value is not UTF-8."""

    def read(message: bytes) -> Any:
        kept = plan.read(message)
        try:
            for value in chain(*kept) if plan.kind.form is Form.BOTH else kept:
                if value.__class__ is bytes:
                    value.decode()
        except UnicodeDecodeError:
            # Without the cause, which quotes the value.
            raise not_utf8(plan.kind.table.id) from None
        return kept

    return read


def _match_nothing(_message: bytes, _at: int) -> None:
    """Match no message: a key row has NULLs for the other columns, and an old row may be followed by a new one."""


def _read_nothing(_message: bytes) -> tuple[()]:
    """Read no row: the change belongs to a table that cannot be read."""
    return ()
