"""Decides when the changes that wait for a destination are enough for a batch."""

import time
from collections.abc import Sequence

from rosetta_dagster.cdc.change.batch import Batch, Compaction
from rosetta_dagster.cdc.change.event import Change, Counts
from rosetta_dagster.cdc.destination.base import FlushPolicy

#: The size of a delivery is estimated from about this many of its changes: to measure each would cost as much as folding it.
_SAMPLE_SIZE = 64


class PendingBatch:
    """The next batch of one destination. Changes are folded as they are added, while the batch before is applied."""

    def __init__(self) -> None:
        self._compaction = Compaction()
        self._estimated_bytes = 0
        self._first_added_at = 0.0
        #: When a schedule is due after that, in seconds of the epoch; None before it was asked.
        self._due_at: float | None = None

    @property
    def is_empty(self) -> bool:
        return not self._compaction.change_count

    @property
    def age(self) -> float:
        """Seconds since its first change was added; 0 while it is empty."""
        return 0.0 if self.is_empty else time.monotonic() - self._first_added_at

    def is_full(self, policy: FlushPolicy) -> bool:
        """Return whether the batch has as many rows or bytes as the policy allows."""
        return self._compaction.change_count >= policy.rows or self._estimated_bytes >= policy.bytes

    def is_due(self, policy: FlushPolicy) -> bool:
        """Return whether its first change has waited for as long as the policy allows, or until its schedule is due."""
        if self.is_empty:
            return False
        if policy.schedule is None:
            return self.age >= policy.seconds
        if self._due_at is None:
            self._due_at = policy.schedule.next_after(time.time() - self.age)
        return time.time() >= self._due_at

    def add(self, changes: Sequence[Change]) -> Counts:
        """Fold the changes into the batch. Return how many there are of each table and operation."""
        if changes and self.is_empty:
            self._first_added_at = time.monotonic()
        self._estimated_bytes += _estimated_size(changes)
        return self._compaction.add(changes)

    def finish(self) -> Batch:
        """Return the batch; no change can be added afterwards. A second call costs nothing."""
        return self._compaction.finish()


def _estimated_size(changes: Sequence[Change]) -> int:
    """Return about how many bytes the values of the changes have."""
    sample = changes[:: len(changes) // _SAMPLE_SIZE + 1]
    size = sum(len(value) for change in sample for value in change.row or () if isinstance(value, bytes))
    return size * len(changes) // max(1, len(sample))
