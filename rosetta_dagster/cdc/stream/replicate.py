"""The journey of a change: from a delivery of the source to the destinations, and back to the source as a commit.

A destination may want its changes held back, so that more of them are applied at once (`FlushPolicy`). A delivery is
settled once every destination holds all of it, and only a settled delivery is reported and committed.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from functools import reduce
from operator import or_

from rosetta_dagster.cdc.change.event import Counts
from rosetta_dagster.cdc.report import Applied, Reporter
from rosetta_dagster.cdc.source.base import Delivery, Stream
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.stream.replica import Replica

#: How long to wait for a delivery before looking whether to stop, in seconds.
DELIVERY_WAIT = 0.2

#: The same while a batch is being applied: its end is looked for as often.
APPLYING_WAIT = 0.01

#: While a batch is being applied nobody can use what comes. After a delivery of less than so many changes, more is left to
#: gather until the batch is durable, or so many seconds: a delivery costs as much as many changes.
SMALL_DELIVERY = 2_000
GATHER_WAIT = 0.01

#: How many deliveries are taken then; a stream has no more at hand.
GATHERED_DELIVERIES = 8

#: Seconds between two commits to the source while deliveries come; a pause in the stream is used at once.
COMMIT_INTERVAL = 1.0


def replicate(
    stream: Stream,
    replicas: Sequence[Replica],
    *,
    heartbeat: Heartbeat,
    reporter: Reporter,
    stopped: Callable[[], bool],
    between: Callable[[], None] = lambda: None,
) -> None:
    """Replicate until told to stop. Every commit to the source follows a durable apply at each destination.

    `between` is called between two deliveries.
    """
    commits = _Commits(stream, replicas)
    unsettled = _Unsettled(replicas)
    while not stopped():
        delivery = stream.next(_wait_for_delivery(replicas))
        if delivery is not None:
            unsettled.take(delivery)
            if len(delivery.changes) < SMALL_DELIVERY and _has_waited(replicas):
                delivery = _take_what_came(stream, unsettled) or delivery
        for replica in replicas:
            replica.look()
        # Between two batches nobody waits for what a commit notes at the destination.
        _settle(unsettled, commits, reporter)
        for replica in replicas:
            replica.flush_if_due()
        if delivery is not None:
            heartbeat.heard(delivery.lsn)
        elif not any(replica.is_applying for replica in replicas):
            commits.idle()
            heartbeat.idle()
        between()
    for replica in replicas:
        replica.flush()
    for replica in replicas:
        replica.await_batch()
    _settle(unsettled, commits, reporter)
    commits.make()


def _wait_for_delivery(replicas: Sequence[Replica]) -> float:
    """Serve those who wait for this thread; how long to wait for the next delivery then, in seconds."""
    has_more = [replica.serve() for replica in replicas]
    if any(has_more):
        return 0
    return APPLYING_WAIT if any(replica.is_applying for replica in replicas) else DELIVERY_WAIT


def _has_waited(replicas: Sequence[Replica]) -> bool:
    """Let more come for a moment while every destination is busy; whether that was so."""
    outcomes = [replica.outcome for replica in replicas if replica.outcome is not None]
    if not outcomes or len(outcomes) < len(replicas):
        return False
    wait(outcomes, GATHER_WAIT, FIRST_COMPLETED)
    return True


def _take_what_came(stream: Stream, unsettled: "_Unsettled") -> Delivery | None:
    """Take what is at hand; the last delivery. Left where they are, small ones would each wait for a batch of their own."""
    last = None
    for _ in range(GATHERED_DELIVERIES):
        delivery = stream.next(0)
        if delivery is None:
            break
        unsettled.take(delivery)
        last = delivery
        if len(delivery.changes) >= SMALL_DELIVERY:
            break
    return last


def _settle(unsettled: "_Unsettled", commits: "_Commits", reporter: Reporter) -> None:
    """Tell and commit what every destination holds by now."""
    settled = list(unsettled.settled())
    if settled:
        reporter.applied([Applied(counts, each.lsn, each.committed_at) for each, counts in settled])
    for delivery, _ in settled:
        commits.add(delivery)


class _Unsettled:
    """The deliveries that not every destination holds yet, in order."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._count = 0
        self._deliveries: deque[tuple[int, Delivery, Counts]] = deque()

    def take(self, delivery: Delivery) -> None:
        """Hand the delivery to every destination. A change that several of them lack is counted once."""
        self._count += 1
        counts = reduce(or_, [replica.take(delivery, self._count) for replica in self._replicas])
        # Its changes are at the destinations by now, or fold into what waits for them.
        self._deliveries.append((self._count, replace(delivery, changes=()), counts))

    def settled(self) -> Iterable[tuple[Delivery, Counts]]:
        """The deliveries that every destination holds by now; each is told once."""
        limit = min(replica.settled for replica in self._replicas)
        while self._deliveries and self._deliveries[0][0] <= limit:
            _, delivery, counts = self._deliveries.popleft()
            yield delivery, counts


class _Commits:
    """Commits what is durable, about once a second: the slot need not follow closer, and each commit is noted first.

    The note is what tells a slot that was made anew: such a slot stands further than any run has ever let it move.
    """

    def __init__(self, stream: Stream, replicas: Sequence[Replica]) -> None:
        self._stream = stream
        self._replicas = replicas
        self._pending: Delivery | None = None
        self._made_at = time.monotonic()
        #: A destination that holds changes back is not woken for a commit either.
        self._rest = max(replica.destination.flush.seconds for replica in replicas)

    def add(self, delivery: Delivery) -> None:
        """The delivery and all before it are durable at every destination."""
        if delivery.receipt is not None:
            self._pending = delivery
        if time.monotonic() - self._made_at >= max(COMMIT_INTERVAL, self._rest):
            self.make()

    def idle(self) -> None:
        """Nothing comes at the moment."""
        if time.monotonic() - self._made_at >= self._rest:
            self.make()

    def make(self) -> None:
        if self._pending is None:
            return
        for replica in self._replicas:
            replica.note(self._pending.lsn)
        self._stream.commit(self._pending)
        self._pending, self._made_at = None, time.monotonic()
