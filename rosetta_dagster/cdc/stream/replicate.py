"""Decides when changes are read, applied, reported and committed to the source: the journey, in one loop.

A destination may want its changes held back, so that more of them are applied at once (`FlushPolicy`). A delivery is
settled once every destination holds all of it. Only a settled delivery is reported and committed.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import NamedTuple

from rosetta_dagster.cdc.change.event import Counts
from rosetta_dagster.cdc.report import Applied, Reporter
from rosetta_dagster.cdc.source.base import Delivery, Stream
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.stream.replica import Replica

#: Seconds to wait for a delivery before the run checks again whether to stop.
DELIVERY_WAIT = 0.2

#: The same while a batch is being applied, so that its end is noticed as soon.
APPLYING_WAIT = 0.01

#: While every destination applies a batch, no other can start. After a delivery of fewer changes than this, the stream
#: gathers more until a batch is durable, at most this many seconds: a delivery costs as much as many changes.
SMALL_DELIVERY = 2_000
GATHER_WAIT = 0.01

#: How many deliveries are read at once then; a stream holds at most these ready.
GATHERED_DELIVERIES = 8

#: Seconds between two commits to the source. Changes are committed at once when nothing comes after them. Positions that an
#: idle source sends are not: each commit writes to the destinations.
COMMIT_INTERVAL = 1.0


def replicate(
    stream: Stream,
    replicas: Sequence[Replica],
    *,
    heartbeat: Heartbeat,
    reporter: Reporter,
    stopped: Callable[[], bool],
    duties: Sequence[Callable[[], None]] = (),
) -> None:
    """Replicate until the run is stopped. Every commit to the source follows a durable apply at each destination.

    Between two deliveries each of the `duties` is called, by this thread; a duty decides itself how often it acts.
    """
    unsettled = _UnsettledDeliveries(replicas)
    commits = _Commits(stream, replicas)
    while not stopped():
        _run_copy_work(replicas)
        delivery = _read(stream, replicas, unsettled)
        _collect_applied(replicas)
        commits.add(_settle(unsettled, reporter))
        # Between two batches: a commit is noted at the destinations first, which would have to wait for a batch.
        commits.make_if_due(is_idle=delivery is None and not _is_any_applying(replicas))
        _start_due_batches(replicas)
        _beat(heartbeat, delivery, replicas)
        for duty in duties:
            duty()
    _wait_until_all_applied(replicas)
    commits.add(_settle(unsettled, reporter))
    commits.make()


def _run_copy_work(replicas: Sequence[Replica]) -> None:
    for replica in replicas:
        replica.run_copy_work()


def _read(stream: Stream, replicas: Sequence[Replica], unsettled: "_UnsettledDeliveries") -> Delivery | None:
    """Take the next delivery, and those that gather behind a small one. Return the last one; None when none came in time."""
    delivery = stream.next(_read_timeout(replicas))
    if delivery is None:
        return None
    unsettled.take(delivery)
    if len(delivery.changes) < SMALL_DELIVERY and all(replica.is_applying for replica in replicas):
        _wait_until_one_applied(replicas)
        return _take_gathered(stream, unsettled) or delivery
    return delivery


def _read_timeout(replicas: Sequence[Replica]) -> float:
    """Return how many seconds to wait for a delivery."""
    if any(replica.copies.has_spooled_work for replica in replicas):
        return 0
    return APPLYING_WAIT if _is_any_applying(replicas) else DELIVERY_WAIT


def _wait_until_one_applied(replicas: Sequence[Replica]) -> None:
    """Wait until one of the batches that are being applied is durable, at most `GATHER_WAIT`."""
    wait([replica.outcome for replica in replicas if replica.outcome is not None], GATHER_WAIT, FIRST_COMPLETED)


def _take_gathered(stream: Stream, unsettled: "_UnsettledDeliveries") -> Delivery | None:
    """Take the deliveries that are at hand. Return the last one.

    Read one at a time, small deliveries would each wait for a batch of their own.
    """
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


def _collect_applied(replicas: Sequence[Replica]) -> None:
    """Record which batches are durable. Wait for those of destinations whose next batch is full."""
    for replica in replicas:
        replica.wait_until_room()
        replica.collect_applied()


def _settle(unsettled: "_UnsettledDeliveries", reporter: Reporter) -> Sequence["_Unsettled"]:
    """Report the deliveries that every destination holds by now, and return them."""
    settled = unsettled.pop_settled()
    if settled:
        reporter.applied([Applied(each.counts, each.delivery.lsn, each.delivery.committed_at) for each in settled])
    return settled


def _start_due_batches(replicas: Sequence[Replica]) -> None:
    """Start to apply the pending batches that are due."""
    for replica in replicas:
        replica.start_batch_if_due()


def _beat(heartbeat: Heartbeat, delivery: Delivery | None, replicas: Sequence[Replica]) -> None:
    """Report to the heartbeat how far the stream was read, or that it is idle."""
    if delivery is not None:
        heartbeat.heard(delivery.lsn)
    elif not _is_any_applying(replicas):
        heartbeat.idle()


def _wait_until_all_applied(replicas: Sequence[Replica]) -> None:
    """Apply everything that waits."""
    for replica in replicas:
        replica.start_batch()
    for replica in replicas:
        replica.wait_until_applied()


def _is_any_applying(replicas: Sequence[Replica]) -> bool:
    return any(replica.is_applying for replica in replicas)


class _Unsettled(NamedTuple):
    """A delivery that was taken."""

    number: int
    #: Without its changes: they are at the destinations, or folded into what waits for them.
    delivery: Delivery
    #: How many changes were new to at least one destination.
    counts: Counts


class _UnsettledDeliveries:
    """The deliveries that not every destination holds yet, in order."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._count = 0
        self._deliveries: deque[_Unsettled] = deque()

    def take(self, delivery: Delivery) -> None:
        """Give the delivery to every destination. A change that is new to several of them is counted once."""
        self._count += 1
        counts = reduce(or_, [replica.take(delivery, self._count) for replica in self._replicas])
        self._deliveries.append(_Unsettled(self._count, replace(delivery, changes=()), counts))

    def pop_settled(self) -> list[_Unsettled]:
        """Remove and return the deliveries that every destination holds by now."""
        limit = min(replica.progress.durable.delivery for replica in self._replicas)
        settled = []
        while self._deliveries and self._deliveries[0].number <= limit:
            settled.append(self._deliveries.popleft())
        return settled


class _Commits:
    """Commits settled deliveries, about once a second, or once in the longest `flush.seconds` of the destinations.

    Each commit is noted at the destinations first. A slot that stands further than any note was created again, or read by
    somebody else: that is how the next run recognizes it.
    """

    def __init__(self, stream: Stream, replicas: Sequence[Replica]) -> None:
        self._stream = stream
        self._replicas = replicas
        self._pending: Delivery | None = None
        self._has_changes = False
        self._made_at = time.monotonic()
        #: A destination that holds changes back is not woken for a commit either.
        self._idle_interval = max(replica.destination.flush.seconds for replica in replicas)

    def add(self, settled: Sequence[_Unsettled]) -> None:
        """Let the next commit cover these deliveries."""
        for each in settled:
            self._has_changes = self._has_changes or bool(each.counts)
            if each.delivery.receipt is not None:
                self._pending = each.delivery

    def make_if_due(self, *, is_idle: bool) -> None:
        """Commit if the last commit was long enough ago: changes at once while the stream is idle."""
        interval = self._idle_interval if is_idle and self._has_changes else max(COMMIT_INTERVAL, self._idle_interval)
        if self._pending is not None and time.monotonic() - self._made_at >= interval:
            self.make()

    def make(self) -> None:
        """Commit everything that is settled. Wait until the batches that are being applied are durable."""
        if self._pending is None:
            return
        for replica in self._replicas:
            replica.wait_until_applied()
            replica.destination.note(self._pending.lsn)
        self._stream.commit(self._pending)
        self._pending, self._has_changes, self._made_at = None, False, time.monotonic()
