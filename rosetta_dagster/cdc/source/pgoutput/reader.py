"""Turns the walsender's messages into changes, and decides how many of them a delivery may hold.

Positions are exact here: BEGIN carries the LSN of the commit. With it goes the change's own LSN, and its number among the
changes that share it, as the rows of one COPY page do.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from rosetta_dagster.cdc.change.columns import ChangeColumns, Form, Kind
from rosetta_dagster.cdc.change.event import UNCHANGED, Operation
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.source.pgoutput import protocol
from rosetta_dagster.cdc.source.pgoutput.relations import Relations

#: A transaction beyond this many changes or bytes is cut into parts.
CHANGE_LIMIT = 50_000
BYTE_LIMIT = 64 * 1024 * 1024

#: A delivery grows up to about this much while more is at hand, unless it would cut a transaction: the first one is being
#: applied while the next ones are read, and what waits then is applied together.
ENOUGH_CHANGES = 10_000
ENOUGH_BYTES = 16 * 1024 * 1024

#: What a message about a row tells.
_OPERATIONS: Final = {
    protocol.INSERT: Operation.INSERT,
    protocol.UPDATE: Operation.UPDATE,
    protocol.DELETE: Operation.DELETE,
}


class _Plan(NamedTuple):
    """What is done with messages that begin alike: that tell of rows of one table, and of one operation."""

    #: Finds the values when they are nothing but texts; reads what it did not find.
    find_texts: protocol.TextFinder
    read: Callable[[bytes], Any]
    #: The kind of such a change, and of one whose row was not sent whole.
    kind: Kind
    partial: Kind


#: For messages of tables that are none of the pipeline's.
_NO_PLAN: Final = ()

#: What the loop over all messages looks at, nearer at hand.
_BODY, _HEAD, _FIRST_ROW, _LSN, _LONG = protocol.BODY, protocol.HEAD, protocol.FIRST_ROW, protocol.LSN, protocol.LONG


class Reader:
    """Turns messages into changes, and knows which transaction it is in. No connection, no thread."""

    def __init__(self, relations: Relations) -> None:
        self.changes = ChangeColumns()
        #: How many of the changes belong to transactions that are complete, and the last of these.
        self.complete_count = 0
        self._completed: protocol.Begin | None = None
        self.byte_count = 0
        #: The end of the last commit, or what a keepalive said between transactions.
        self.lsn = 0
        self._relations = relations
        self._plans: dict[bytes, _Plan | tuple[()]] = {}
        self._transaction: protocol.Begin | None = None
        #: Whether a part of the transaction was delivered.
        self._is_cut = False
        self._change_limit, self._byte_limit = CHANGE_LIMIT, BYTE_LIMIT

    @property
    def is_between_transactions(self) -> bool:
        return self._transaction is None

    @property
    def is_full(self) -> bool:
        """Whether the changes are as many as a delivery is to hold."""
        return len(self.changes) >= self._change_limit or self.byte_count >= self._byte_limit

    @property
    def complete_at(self) -> datetime | None:
        """When the last complete transaction was committed at the source."""
        return None if self._completed is None else self._completed.committed_at

    @property
    def transaction_at(self) -> datetime | None:
        """When the transaction that is being read was committed at the source."""
        return None if self._transaction is None else self._transaction.committed_at

    def read_some(self, messages: Sequence[bytes], at: int = 0) -> int:
        """Read messages from there on until there are none left, or a delivery is full; where it stopped.

        Millions pass here: one loop, and no more calls than it takes.
        """
        changes, plan_of = self.changes, self._plans.get
        add_kind, keep, add_lsn = changes.kinds.append, changes.kept.append, changes.lsns.append
        byte_count = self.byte_count
        end, byte_limit = self._room(messages, at)
        while at < end and byte_count < byte_limit:
            message = messages[at]
            plan = plan_of(message[_HEAD])
            if plan is None:
                plan = self._plan(message)
            at += 1
            if plan:
                find_texts, read, kind, partial = plan
                size = len(message)
                texts = find_texts(message, _FIRST_ROW) if size < _LONG else None
                if texts is not None:
                    add_kind(kind)
                    keep(texts.groups())
                else:
                    kept = read(message)
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

    def _room(self, messages: Sequence[bytes], at: int) -> tuple[int, int]:
        """Up to which message there is room for changes, and for how many bytes."""
        return min(len(messages), at + self._change_limit - len(self.changes.kinds)), self._byte_limit

    def _plan(self, message: bytes) -> "_Plan | tuple[()] | None":
        """What to do with all messages that begin like this one; None when it tells of no row."""
        operation = _OPERATIONS.get(message[_BODY]) if message[0] == protocol.WAL_DATA else None
        if operation is None:
            return None
        table = self._relations.find(protocol.relation_of(message))
        plan = _NO_PLAN if table is None else _plan(table, operation, message[_FIRST_ROW - 1])
        self._plans[message[_HEAD]] = plan
        return plan

    def _read_other(self, message: bytes) -> None:
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
        # Most transactions leave the limits as they are.
        if not had_enough or not self.complete_count:
            self._set_limits()

    def _move_to(self, lsn: int) -> None:
        self.lsn = max(self.lsn, lsn)

    def take_complete(self) -> ChangeColumns:
        """The changes of complete transactions."""
        return self._take(self.complete_count)

    def take_part(self) -> ChangeColumns:
        """What there is of a transaction that is too large."""
        self._is_cut = True
        return self._take(len(self.changes))

    def _take(self, count: int) -> ChangeColumns:
        before = len(self.changes)
        taken = self.changes.take(count)
        self.byte_count = self.byte_count * len(self.changes) // max(1, before)
        self.complete_count = 0
        self._set_limits()
        return taken

    def _set_limits(self) -> None:
        """Only a transaction that was not cut is worth a larger delivery."""
        if self.complete_count or self._is_cut:
            self._change_limit, self._byte_limit = min(ENOUGH_CHANGES, CHANGE_LIMIT), min(ENOUGH_BYTES, BYTE_LIMIT)
        else:
            self._change_limit, self._byte_limit = CHANGE_LIMIT, BYTE_LIMIT

    def _add_truncates(self, message: bytes) -> None:
        for oid in protocol.read_truncate(message):
            table = self._relations.find(oid)
            if table is not None:
                self.changes.kinds.append(Kind(Operation.TRUNCATE, table, Form.NOTHING))
                self.changes.kept.append(None)
                self.changes.lsns.append(message[_LSN])


def _plan(table: TableSchema, operation: Operation, first_row: int) -> _Plan:
    """For messages of such an operation, of which the first row is of such a kind."""
    find_texts = protocol.text_finder(len(table.columns))
    if first_row == protocol.NEW_ROW:
        whole, partial = Kind(operation, table, Form.WHOLE), Kind(operation, table, Form.PARTIAL)
        return _Plan(find_texts, protocol.read_row, whole, partial)
    if operation is Operation.DELETE:
        kind = Kind(operation, table, Form.OLD_ROW)
        return _Plan(_find_nothing if first_row == protocol.KEY else find_texts, protocol.read_row, kind, kind)
    kind = Kind(operation, table, Form.BOTH)
    return _Plan(_find_nothing, protocol.read_both_rows, kind, kind)


def _find_nothing(message: bytes, at: int) -> None:
    """Does not look: where only the key was logged the other values are missing, and another row may follow."""
