"""Copies tables while the stream goes on, and keeps their changes in spools until the rows are at the destination.

From the moment a copy starts, the changes of its tables go into spools. Once a table's rows are loaded, the spooled changes
that the copy does not hold are applied, in batches as large as the destination wants them. With the last of them the table
joins the stream. A run that ends before that loses nothing: the copy is not complete, so the next run copies the table
again, as of a later point.

Threads: each copy owns a thread `copy`, from `ConcurrentCopies.start` until `close` returns. It reads the source and loads
rows. Everything that a destination allows to one thread only is done by the thread that replicates, in `run_pending`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.copy.snapshot import CopyObserver
from rosetta_dagster.cdc.copy.spool import Spool
from rosetta_dagster.cdc.errors import ThreadStuck
from rosetta_dagster.cdc.report import Spooled
from rosetta_dagster.cdc.source.slots import SnapshotStopped
from rosetta_dagster.cdc.table_id import TableId

#: Seconds between two checks whether to stop, while a copy waits for the thread that replicates.
_STOP_POLL = 0.2

#: Seconds that copies may take to end when the run ends, before the process has to.
CLOSE_TIMEOUT = 20.0


#: Copies tables: reports to the observer, and raises `SnapshotStopped` soon after the second argument returns true.
Copying: TypeAlias = Callable[[CopyObserver, Callable[[], bool]], None]


class CopyTarget(Protocol):
    """What copies need of the destination's stream. Called by the thread that replicates."""

    def begin_copy(self, tables: Sequence[TableSchema], resumed: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Prepare the destination for rows of these tables, as of this point. Durable on return."""

    def has_room(self) -> bool:
        """Return whether the next batch can take more changes."""

    def take_spooled(self, changes: Sequence[Change]) -> None:
        """Add spooled changes to the next batch. Start to apply it if it is full and no other batch is being applied."""

    def complete_copy(self, table: TableSchema, point: SnapshotPoint) -> None:
        """Wait until everything that was added is durable, and record that the copy of the table is complete."""

    def begin_partial_copy(self, tables: Collection[TableId]) -> None:
        """Wait until everything that was added is durable. Rows of these tables are replaced from now on."""

    def complete_partial_copy(self, table: TableSchema) -> None:
        """Wait until everything that was added is durable, and record what the table's rows stand for now."""

    def wait_until_room(self) -> None:
        """Wait until the next batch can take more changes."""


class _Start(NamedTuple):
    """What a copy begins with."""

    tables: Sequence[TableSchema]
    resumed: Sequence[TableSchema]
    point: SnapshotPoint


class _Copy:
    """One thread `copy`, which copies some tables as of one point. Implements `CopyObserver`."""

    def __init__(self, *, is_partial: bool = False) -> None:
        """`is_partial`: the tables keep the rows that are not copied, so the stream has to be applied up to the point."""
        self.is_partial = is_partial
        #: Set by the thread `copy`, once the point is known.
        self._requested: _Start | None = None
        self._has_begun = threading.Event()
        self._loaded: deque[TableSchema] = deque()
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    @property
    def point(self) -> SnapshotPoint | None:
        """What the copies of its tables stand for; None until the thread knows it."""
        return None if self._requested is None else self._requested.point

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def launch(self, copy: Copying) -> None:
        self._thread = threading.Thread(target=self._run, args=[copy], name="copy", daemon=True)
        self._thread.start()

    def start(self, tables: Sequence[TableSchema], resumed: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Wait until the thread that replicates has prepared the destination. `SnapshotStopped` when the run is stopped."""
        self._requested = _Start(tables, resumed, point)
        while not self._has_begun.wait(_STOP_POLL):
            if self._stopping.is_set():
                raise SnapshotStopped

    def finish(self, table: TableSchema) -> None:
        self._loaded.append(table)

    def waits_to_begin(self, position: Lsn) -> bool:
        """Whether the thread waits for the destination, and the stream has been read far enough."""
        if self._requested is None or self._has_begun.is_set():
            return False
        return not self.is_partial or position >= self._requested.point.lsn

    def begin(self, target: CopyTarget) -> None:
        """Prepare the destination, and let the thread load rows."""
        assert self._requested is not None, "the thread waits"
        if not self.is_partial:
            target.begin_copy(*self._requested)
        self._has_begun.set()

    def raise_error(self) -> None:
        """Raise the error that ended the thread, if one did."""
        if self._error is not None:
            raise self._error

    def take_loaded(self) -> list[TableSchema]:
        """Return the tables whose rows have been loaded since the last call."""
        return [self._loaded.popleft() for _ in range(len(self._loaded))]

    def split(self, changes: Sequence[Change]) -> tuple[list[Change], list[Change]]:
        """Return the changes that the point holds, and the others."""
        assert self.point is not None, "the thread knows it"
        xids = self.point.xids
        return [each for each in changes if xids.holds(each.xid)], [each for each in changes if not xids.holds(each.xid)]

    def missing_changes(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Return the changes that the copy does not hold; all of them until the point is known, or if it is partial."""
        point = self.point
        return (
            changes
            if point is None or self.is_partial
            else [change for change in changes if not point.xids.holds(change.xid)]
        )

    def stop(self) -> None:
        self._stopping.set()

    def wait_until_ended(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self, copy: Copying) -> None:
        try:
            copy(self, self._stopping.is_set)
        except SnapshotStopped:
            return
        except Exception as error:  # noqa: BLE001 - the thread that replicates raises it, whatever it is
            self._error = error


@dataclass(slots=True)
class _CopiedTable:
    """One table that is being copied."""

    schema: TableSchema
    copy: _Copy
    spool: Spool = field(default_factory=Spool)
    #: Whether its rows are at the destination.
    is_loaded: bool = False


class ConcurrentCopies:
    """The tables of one destination that are copied beside the stream. Used by the thread that replicates."""

    def __init__(self) -> None:
        self._copies: list[_Copy] = []
        self._tables: dict[TableId, _CopiedTable] = {}
        #: Up to where the stream was read.
        self._position = Lsn(0)

    @property
    def is_active(self) -> bool:
        """Whether a copy has not ended yet."""
        return bool(self._copies)

    @property
    def has_spooled_work(self) -> bool:
        """Whether a table whose rows are loaded waits for its spooled changes."""
        return any(table.is_loaded for table in self._tables.values())

    @property
    def tables(self) -> Collection[TableId]:
        """The tables that are being copied."""
        return self._tables.keys()

    def spooled(self) -> Mapping[TableId, Spooled]:
        """Return what waits in the spools that are not empty."""
        return {table: copied.spool.size for table, copied in self._tables.items() if not copied.spool.is_empty}

    def start(self, tables: Sequence[TableSchema], copy: Copying, *, is_partial: bool = False) -> None:
        """Start to copy the tables. From now on their changes are spooled.

        `copy` runs in a thread of its own. Tables can be added at any time; one table is copied once at a time. A partial
        copy begins to load once the stream has been applied up to its point, and holds back what comes after that.
        """
        started = _Copy(is_partial=is_partial)
        self._copies.append(started)
        self._tables |= {table.id: _CopiedTable(table, started) for table in tables}
        started.launch(copy)

    def divert(self, changes: Sequence[Change], lsn: Lsn, committed_at: datetime | None) -> Sequence[Change]:
        """Spool the changes of tables that are being copied. Return the others. The stream has been read up to `lsn`."""
        self._position = lsn
        if not self._tables or not any(change.table.id in self._tables for change in changes):
            return changes
        diverted: dict[TableId, list[Change]] = {}
        for change in changes:
            if change.table.id in self._tables:
                diverted.setdefault(change.table.id, []).append(change)
        for table, of_table in diverted.items():
            copied = self._tables[table]
            copied.spool.put(copied.copy.missing_changes(of_table), committed_at)
        return [change for change in changes if change.table.id not in diverted]

    def run_pending(self, target: CopyTarget) -> None:
        """Prepare the destination for copies that wait for it, and apply spooled changes while its batches have room.

        Raise the error that ended a copy.
        """
        for copy in self._copies:
            copy.raise_error()
            if copy.waits_to_begin(self._position):
                if copy.is_partial:
                    self._apply_up_to_point(copy, target)
                copy.begin(target)
            for table in copy.take_loaded():
                self._tables[table.id].schema = table
                self._tables[table.id].is_loaded = True
        for copied in [each for each in self._tables.values() if each.is_loaded]:
            self._drain(copied, target)
        in_use = {id(copied.copy) for copied in self._tables.values()}
        self._copies = [copy for copy in self._copies if id(copy) in in_use or copy.is_running]

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Stop all copies and wait until their threads have ended; `ThreadStuck` when one does not end in time."""
        deadline = time.monotonic() + timeout
        for copy in self._copies:
            copy.stop()
        for copy in self._copies:
            copy.wait_until_ended(max(0.0, deadline - time.monotonic()))
        for copied in self._tables.values():
            copied.spool.close()
        if any(copy.is_running for copy in self._copies):
            raise ThreadStuck(
                f"The copying of tables did not end within {timeout:.0f} seconds.",
                "Its connections end with this process; the run restarts by itself.",
            )

    def _apply_up_to_point(self, copy: _Copy, target: CopyTarget) -> None:
        """Apply the spooled changes that the point holds, and keep the others."""
        tables = {table: copied for table, copied in self._tables.items() if copied.copy is copy}
        for copied in tables.values():
            later = Spool()
            while not copied.spool.is_empty:
                committed_at = copied.spool.size.oldest_commit_at
                held, after = copy.split(copied.spool.take())
                target.wait_until_room()
                target.take_spooled(held)
                later.put(after, committed_at)
            copied.spool.close()
            copied.spool = later
        target.begin_partial_copy(tables.keys())

    def _drain(self, copied: _CopiedTable, target: CopyTarget) -> None:
        """Add all spooled changes to the next batches, as far as there is room. Complete the table once none is left.

        One delivery is spooled between two calls, and a call takes everything that fits: so a spool empties for as long as
        the destination keeps up with the stream.
        """
        while not copied.spool.is_empty:
            if not target.has_room():
                return
            target.take_spooled(copied.copy.missing_changes(copied.spool.take()))
        point = copied.copy.point
        assert point is not None, "rows are loaded as of a point"
        if copied.copy.is_partial:
            target.complete_partial_copy(copied.schema)
        else:
            target.complete_copy(copied.schema, point)
        copied.spool.close()
        del self._tables[copied.schema.id]
