"""What a destination holds of the stream, which changes wait for it, and the batch that it is being given.

Threads. A `Replica` owns the thread `apply`, from its first batch until `close` returns. That thread does nothing but
`Destination.apply`, one batch at a time, while the next changes are read and folded. A destination is used by one thread at
a time: whatever else is called there comes after `await_batch`.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from rosetta_dagster.cdc.change.batch import Compaction
from rosetta_dagster.cdc.change.event import Change, Counts
from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.copy.concurrent import Latecomers
from rosetta_dagster.cdc.destination.base import Destination, Held
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.table_id import TableId

#: The bytes of a delivery are estimated from about so many of its changes.
_SAMPLE_SIZE = 64


@dataclass(frozen=True, slots=True)
class _Applying:
    """A batch that was handed to the thread."""

    outcome: Future[None]
    watermark: Watermark
    #: The last delivery with changes in the batch.
    taken: int


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="apply")


@dataclass(slots=True)
class Replica:
    """A destination together with what it holds of the stream, and the changes that wait for it."""

    destination: Destination
    held: Held
    #: Tables that broke, and why: their changes are left out.
    left_out: Mapping[TableId, str] = field(default_factory=dict)
    #: Tables that are copied while the stream goes on.
    latecomers: Latecomers | None = None
    #: The last delivery that the destination holds, and the last one that was taken; deliveries are numbered by the run.
    settled: int = 0
    _taken: int = 0
    #: Up to where the stream was taken: every change before it is held, waits here or for a late table, or is left out.
    _passed: Watermark | None = None
    _waiting: Compaction = field(default_factory=Compaction)
    _waiting_bytes: int = 0
    _waiting_since: float = 0.0
    _applying: _Applying | None = None
    _thread: ThreadPoolExecutor = field(default_factory=_one_thread)
    #: Changes of late tables that are applied and not yet told.
    _late_counts: Counts = field(default_factory=Counter)

    @property
    def is_applying(self) -> bool:
        """Whether there is a batch whose outcome was not looked at."""
        return self._applying is not None

    @property
    def outcome(self) -> Future[None] | None:
        """Of the batch that is being applied; None when there is none."""
        return None if self._applying is None else self._applying.outcome

    def lacks(self, delivery: Delivery) -> Sequence[Change]:
        """The delivery's changes that neither the destination holds nor wait for it."""
        if delivery.watermark is None:
            return ()
        held = self.held if self._passed is None else replace(self.held, watermark=self._passed)
        changes = held.missing_changes(delivery.changes, delivery.watermark.engine)
        if not self.left_out:
            return changes
        return [change for change in changes if change.table.id not in self.left_out]

    def copied(self, table: TableId, point: SnapshotPoint) -> None:
        """The copy of this table is complete."""
        self.held = replace(self.held, copied={**self.held.copied, table: point})

    def take(self, delivery: Delivery, number: int) -> Counts:
        """Let the delivery's changes wait for the destination; how many of each table and operation it lacks.

        Those of late tables are counted when they have been applied.
        """
        changes = self.lacks(delivery)
        if changes:
            self._passed = delivery.watermark
        if self.latecomers is not None:
            changes = self.latecomers.divert(changes)
        counts, self._late_counts = self._late_counts, Counter()
        counts.update(self._wait(changes))
        self._taken = number
        self._settle()
        return counts

    def look(self) -> None:
        """Take note of the batch that is being applied if it is durable by now, or if the next one has to go."""
        if self._applying is None:
            return
        if self._is_full():
            # The work that is left on the next batch, so that the destination does not wait for it.
            self._waiting.finish()
            self.await_batch()
        elif self._applying.outcome.done():
            self.await_batch()

    def flush_if_due(self) -> None:
        """Hand over what waits when it is as much, or has waited as long, as the destination wants.

        While a batch is being applied the next one grows: fewer and larger ones cost less.
        """
        has_waited = time.monotonic() - self._waiting_since >= self.destination.flush.seconds
        if self._is_full() or (has_waited and self._applying is None):
            self.flush()

    def flush(self) -> None:
        """Hand over what waits, after the batch before it."""
        self.await_batch()
        if self._waiting.change_count and self._passed is not None:
            batch, self._waiting, self._waiting_bytes = self._waiting.finish(), Compaction(), 0
            outcome = self._thread.submit(self.destination.apply, batch, self._passed)
            self._applying = _Applying(outcome, self._passed, self._taken)

    def await_batch(self) -> None:
        """Wait until the batch that is being applied is durable; raises what became of it otherwise."""
        if self._applying is not None:
            self._applying.outcome.result()
            self.held = replace(self.held, watermark=self._applying.watermark)
            self.settled = self._applying.taken
            self._applying = None
            self._settle()

    def note(self, lsn: Lsn) -> None:
        """Let the destination know that the slot may move up to here."""
        self.await_batch()
        self.destination.note(lsn)

    def apply_late(self, changes: Sequence[Change]) -> None:
        """Apply changes that waited for a late table, with all that waits: the watermark is of both."""
        self._late_counts.update(self._wait(changes))
        self.flush()

    def serve(self) -> bool:
        """Do what the copying of tables waits for; whether there is more of it to do at once."""
        return self.latecomers is not None and self.latecomers.serve()

    def close(self) -> None:
        """Wait until the thread has ended. Not for what waits: that is in the slot."""
        self._thread.shutdown()

    def _wait(self, changes: Sequence[Change]) -> Counts:
        """Fold the changes into what waits; how many there are of each table and operation."""
        if changes and not self._waiting.change_count:
            self._waiting_since = time.monotonic()
        self._waiting_bytes += _estimated_size(changes)
        return self._waiting.add(changes)

    def _is_full(self) -> bool:
        policy = self.destination.flush
        return self._waiting.change_count >= policy.rows or self._waiting_bytes >= policy.bytes

    def _settle(self) -> None:
        """With nothing on its way, the destination holds all that was taken."""
        if self._applying is None and not self._waiting.change_count:
            self.settled = self._taken


def _estimated_size(changes: Sequence[Change]) -> int:
    """Bytes of the changes' values, about."""
    sample = changes[:: len(changes) // _SAMPLE_SIZE + 1]
    size = sum(len(value) for change in sample for value in change.row or () if isinstance(value, bytes))
    return size * len(changes) // max(1, len(sample))
