"""Applies batches in a thread of its own, so that the next changes are read and folded meanwhile.

Threads: an `ApplyThread` owns the thread `apply` of one destination, from its first batch until `close` returns. The thread
only runs `Destination.apply`, one batch at a time. A destination is used by one thread at a time, so any other call of it
comes after `wait_until_applied`.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from rosetta_dagster.cdc.change.batch import Batch
from rosetta_dagster.cdc.change.position import Watermark
from rosetta_dagster.cdc.destination.base import Destination


class ApplyThread:
    """Applies the batches of one destination."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="apply")
        #: The result of the batch that is being applied; None when there is none, or its result was collected.
        self.outcome: Future[None] | None = None
        #: Seconds that the last batch took; written by the thread before its outcome.
        self.apply_seconds = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether there is a batch whose result was not collected yet."""
        return self.outcome is not None

    @property
    def has_finished(self) -> bool:
        """Whether the batch is durable or has failed."""
        return self.outcome is not None and self.outcome.done()

    def start(self, batch: Batch, watermark: Watermark) -> None:
        assert self.outcome is None, "one batch is applied at a time"
        self.outcome = self._executor.submit(self._apply, batch, watermark)

    def wait_until_applied(self) -> None:
        """Wait until the batch is durable. Raise what it failed with; a second call raises it again."""
        if self.outcome is not None:
            self.outcome.result()
            self.outcome = None

    def close(self) -> None:
        """Wait until the thread has ended."""
        self._executor.shutdown()

    def _apply(self, batch: Batch, watermark: Watermark) -> None:
        began_at = time.monotonic()
        self._destination.apply(batch, watermark)
        self.apply_seconds = time.monotonic() - began_at
