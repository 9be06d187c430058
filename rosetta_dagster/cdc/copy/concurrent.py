"""Copies tables while the stream goes on, and holds their changes back until the copy is complete.

From the moment a table is to be copied, its changes go into a spool. When its rows are there, the spooled changes that the
copy does not hold are applied, a run at a time between two deliveries, and with the last of them the table joins the others.
A run that ends before that loses nothing: the copy is not complete, so the next run begins it anew, at a later point.

Threads: `start` starts the thread `copy`, `close` ends it and waits for it. It reads the source and loads rows; whatever
the destination allows to one thread only, it asks of the thread that replicates, which does it in `serve`.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.copy.snapshot import Ledger
from rosetta_dagster.cdc.copy.spool import Spool
from rosetta_dagster.cdc.source.slots import SnapshotStopped
from rosetta_dagster.cdc.table_id import TableId

#: How often the copying thread looks whether it is to stop while it waits, in seconds.
_POLL = 0.2


@dataclass(slots=True)
class _Late:
    """One table that is being copied."""

    schema: TableSchema
    spool: Spool = field(default_factory=Spool)
    #: Whether its rows are at the destination.
    is_copied: bool = False


class Latecomers:
    """The tables of one destination that are copied beside the stream. Keeps the contract of `Ledger`."""

    def __init__(
        self,
        tables: Sequence[TableSchema],
        *,
        begin: Callable[[Sequence[TableSchema], Sequence[TableSchema], SnapshotPoint], None],
        apply: Callable[[Sequence[Change]], None],
        complete: Callable[[TableSchema, SnapshotPoint], None],
    ) -> None:
        """`begin`, `apply` and `complete` are called by the thread that replicates: with the point before the first row,
        with spooled changes that the copy does not hold, and when nothing is left.
        """
        self._tables: dict[TableId, _Late] = {table.id: _Late(table) for table in tables}
        self._begin = begin
        self._apply = apply
        self._complete = complete
        #: What `start` was told.
        self._beginning: tuple[Sequence[TableSchema], Sequence[TableSchema], SnapshotPoint] | None = None
        self._has_begun = threading.Event()
        self._copied: deque[TableSchema] = deque()
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def launch(self, copy: Callable[[Ledger], None]) -> None:
        """Begin copying; `copy` copies the tables and tells this ledger."""
        self._thread = threading.Thread(target=self._run, args=[copy], name="copy", daemon=True)
        self._thread.start()

    def is_stopping(self) -> bool:
        """Whether the copying thread is to end."""
        return self._stopping.is_set()

    def start(self, tables: Sequence[TableSchema], resumed: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self._beginning = (tables, resumed, point)
        while not self._has_begun.wait(_POLL):
            if self._stopping.is_set():
                raise SnapshotStopped

    def finish(self, table: TableSchema) -> None:
        self._copied.append(table)

    def divert(self, changes: Sequence[Change]) -> Sequence[Change]:
        """The changes of other tables; those of these go into the spool."""
        if not self._tables or not any(change.table.id in self._tables for change in changes):
            return changes
        late: dict[TableId, list[Change]] = {}
        for change in changes:
            if change.table.id in self._tables:
                late.setdefault(change.table.id, []).append(change)
        for table, run in late.items():
            self._tables[table].spool.put(self._lacking(run))
        return [change for change in changes if change.table.id not in late]

    def serve(self) -> bool:
        """Do what the copying thread waits for, at most one run of spooled changes; whether there are more.

        Raises what ended the copying.
        """
        if self._error is not None:
            raise self._error
        if self._beginning is not None and not self._has_begun.is_set():
            self._begin(*self._beginning)
            self._has_begun.set()
        while self._copied:
            self._tables[self._copied.popleft().id].is_copied = True
        waiting = [late for late in self._tables.values() if late.is_copied]
        if waiting:
            self._drain(waiting[0])
        return bool(waiting)

    def close(self, timeout: float) -> bool:
        """End the copying thread; whether it has ended within so many seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)
        for late in self._tables.values():
            late.spool.close()
        return self._thread is None or not self._thread.is_alive()

    def _lacking(self, changes: Sequence[Change]) -> Sequence[Change]:
        """The changes that the copy does not hold, as far as that is known yet."""
        if self._beginning is None:
            return changes
        xids = self._beginning[2].xids
        return [change for change in changes if not xids.holds(change.xid)]

    def _drain(self, late: _Late) -> None:
        assert self._beginning is not None, "nothing is copied before it has begun"
        changes = late.spool.take()
        if changes:
            self._apply(self._lacking(changes))
            return
        self._complete(late.schema, self._beginning[2])
        late.spool.close()
        del self._tables[late.schema.id]

    def _run(self, copy: Callable[[Ledger], None]) -> None:
        try:
            copy(self)
        except SnapshotStopped:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread that replicates raises it
            self._error = error
