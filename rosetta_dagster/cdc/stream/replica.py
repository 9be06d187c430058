"""Decides which changes one destination still needs, and when they are applied to it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from rosetta_dagster.cdc.change.event import Change, Counts
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.copy.concurrent import ConcurrentCopies
from rosetta_dagster.cdc.destination.base import Destination, Held
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.stream.apply_thread import ApplyThread
from rosetta_dagster.cdc.stream.pending_batch import PendingBatch
from rosetta_dagster.cdc.stream.progress import Progress
from rosetta_dagster.cdc.table_id import TableId


class Replica:
    """One destination in a run: its progress, its pending batch, its apply thread, and the copies beside the stream.

    Used by the thread that replicates. Implements `CopyTarget`.
    """

    def __init__(
        self,
        destination: Destination,
        held: Held,
        *,
        reporter: Reporter,
        copies: ConcurrentCopies | None = None,
        set_aside: Mapping[TableId, str] | None = None,
    ) -> None:
        """`set_aside` holds the tables that are set aside, and why: their changes are dropped."""
        self.destination = destination
        self.copies = ConcurrentCopies() if copies is None else copies
        self.set_aside = set_aside or {}
        self.progress = Progress.starting_at(held.watermark)
        self._reporter = reporter
        self._held = held
        self._pending = PendingBatch()
        self._thread = ApplyThread(destination)
        #: Seconds that the batch that is being applied had waited before.
        self._wait_seconds = 0.0
        #: Changes from spools that were taken into batches and not reported yet.
        self._spooled_counts: Counts = Counter()

    @property
    def held(self) -> Held:
        """What the destination has applied of the stream."""
        return replace(self._held, watermark=self.progress.durable.watermark)

    @property
    def is_applying(self) -> bool:
        """Whether a batch is being applied."""
        return self._thread.is_busy

    @property
    def outcome(self) -> Future[None] | None:
        """The result of the batch that is being applied; None when there is none."""
        return self._thread.outcome

    @property
    def is_full(self) -> bool:
        """Whether the pending batch is as large as the destination wants batches to be."""
        return self._pending.is_full(self.destination.flush)

    def missing_changes(self, delivery: Delivery) -> Sequence[Change]:
        """Return the delivery's changes that the destination does not hold and that were not taken yet."""
        if delivery.watermark is None:
            return ()
        taken = replace(self._held, watermark=self.progress.taken.watermark)
        changes = taken.missing_changes(delivery.changes, delivery.watermark.engine)
        if not self.set_aside:
            return changes
        return [change for change in changes if change.table.id not in self.set_aside]

    def take(self, delivery: Delivery, number: int) -> Counts:
        """Add the delivery's missing changes to the pending batch, or to the spools of tables that are being copied.

        Return how many were added to batches of each table and operation, with those that came from spools meanwhile.
        """
        changes = self.missing_changes(delivery)
        self.progress = self.progress.take(number, delivery.watermark if changes else None)
        changes = self.copies.divert(changes, delivery.lsn, delivery.committed_at)
        counts, self._spooled_counts = self._spooled_counts, Counter()
        counts.update(self._pending.add(changes))
        self._settle()
        return counts

    def collect_applied(self) -> None:
        """Record the batch that was being applied as durable, if it is. Raise what it failed with."""
        if self._thread.has_finished:
            self.wait_until_applied()

    def wait_until_room(self) -> None:
        """Wait until the batch that is being applied is durable, if the pending batch is full."""
        if self.is_applying and self.is_full:
            # Finished while the other is applied, so that the destination does not wait for it.
            self._pending.finish()
            self.wait_until_applied()

    def start_batch_if_due(self) -> None:
        """Start to apply the pending batch if it is full, or if it has waited for long enough and no other is applied.

        While a batch is being applied the next one grows: fewer and larger batches cost less.
        """
        if self.is_full or (not self.is_applying and self._pending.is_due(self.destination.flush)):
            self.start_batch()

    def start_batch(self) -> None:
        """Start to apply the pending batch, if it holds changes. Wait until the batch before it is durable."""
        self.wait_until_applied()
        if not self._pending.is_empty:
            watermark = self.progress.taken.watermark
            assert watermark is not None, "a delivery with changes has a watermark"
            self._wait_seconds = self._pending.age
            batch, self._pending = self._pending.finish(), PendingBatch()
            self._thread.start(batch, watermark)
            self.progress = self.progress.start_batch()

    def wait_until_applied(self) -> None:
        """Wait until the batch that is being applied is durable. Raise what it failed with."""
        if self.is_applying:
            self._thread.wait_until_applied()
            self._reporter.batch_applied(wait_seconds=self._wait_seconds, apply_seconds=self._thread.apply_seconds)
            self.progress = self.progress.finish_batch()
            self._settle()

    def run_copy_work(self) -> None:
        """Do what concurrent copies need of this thread, and report what waits in their spools."""
        if self.copies.is_active:
            self.copies.run_pending(self)
            self._reporter.spooled(self.destination.name, self.copies.spooled())

    def begin_copy(self, tables: Sequence[TableSchema], resumed: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Record at the destination which tables are copied from now on: from scratch, and from where they were."""
        # Changes of these tables that came before the copy belong to the rows that it replaces.
        self.start_batch()
        self.wait_until_applied()
        self.destination.start_copy(tables, point)
        self.destination.resume_copy(resumed, point)
        self.destination.record_fingerprints(resumed)
        for table in (*tables, *resumed):
            self.report(table.id, TableState.SNAPSHOT)

    def has_room(self) -> bool:
        return not self.is_full

    def take_spooled(self, changes: Sequence[Change]) -> None:
        self._spooled_counts.update(self._pending.add(changes))
        if self.is_full and not self.is_applying:
            self.start_batch()

    def complete_copy(self, table: TableSchema, point: SnapshotPoint) -> None:
        """Record that the destination holds the table as of the point, and everything that was taken since."""
        self.start_batch()
        self.wait_until_applied()
        self.destination.finish_copy(table)
        self._held = replace(self._held, copied={**self._held.copied, table.id: point})
        self.report(table.id, TableState.STREAMING)

    def begin_partial_copy(self, tables: Collection[TableId]) -> None:
        self.start_batch()
        self.wait_until_applied()
        for table in tables:
            self.report(table, TableState.SNAPSHOT)

    def complete_partial_copy(self, table: TableSchema) -> None:
        self.start_batch()
        self.wait_until_applied()
        self.destination.finish_copy(table)
        self.destination.record_fingerprints([table])
        self.report(table.id, TableState.STREAMING)

    def report(self, table: TableId, state: TableState, reason: str | None = None) -> None:
        """Report the state of a table at this destination; the reason is why it waits."""
        self._reporter.table(self.destination.name, table, state, reason)

    def close(self) -> None:
        """Wait until the apply thread has ended. The pending batch is dropped: its changes are still in the slot."""
        self._thread.close()

    def _settle(self) -> None:
        if self._pending.is_empty and not self.is_applying:
            self.progress = self.progress.settle()
