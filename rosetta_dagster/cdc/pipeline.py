"""The journey of a change: from a delivery of the source to the destinations, and back to the source as a commit.

A destination may want its changes held back, so that more of them are applied at once (`FlushPolicy`). A delivery is
settled once every destination holds all of it, and only a settled delivery is reported and committed.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from rosetta_dagster.cdc.batch import compact
from rosetta_dagster.cdc.destination.base import Destination, Held
from rosetta_dagster.cdc.event import Change
from rosetta_dagster.cdc.latecomers import Latecomers
from rosetta_dagster.cdc.position import Watermark
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.source.base import Delivery, Stream
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.visibility import SnapshotPoint

#: How long to wait for a delivery before looking whether to stop, in seconds.
DELIVERY_WAIT = 0.2

#: Seconds between two commits to the source while deliveries come; a pause in the stream is used at once.
COMMIT_INTERVAL = 1.0


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
    _waiting: list[Change] = field(default_factory=list)
    _waiting_bytes: int = 0
    _waiting_since: float = 0.0
    #: Changes of late tables that are applied and not yet told.
    _late_counts: Counter[tuple[TableId, str]] = field(default_factory=Counter)

    def lacks(self, delivery: Delivery) -> Sequence[Change]:
        """The delivery's changes that neither the destination holds nor wait for it."""
        if delivery.watermark is None:
            return ()
        held = self.held if self._passed is None else replace(self.held, watermark=self._passed)
        changes = held.lacks(delivery.changes, delivery.watermark.engine)
        if not self.left_out:
            return changes
        return [change for change in changes if change.table.id not in self.left_out]

    def copied(self, table: TableId, point: SnapshotPoint) -> None:
        """The copy of this table is complete."""
        self.held = replace(self.held, copied={**self.held.copied, table: point})

    def take(self, delivery: Delivery, number: int) -> Counter[tuple[TableId, str]]:
        """Let the delivery's changes wait for the destination; how many of each table and kind it lacks.

        Those of late tables are counted when they have been applied.
        """
        changes = self.lacks(delivery)
        if changes:
            self._passed = delivery.watermark
        if self.latecomers is not None:
            changes = self.latecomers.divert(changes)
        self._wait(changes)
        self._taken = number
        if not self._waiting:
            self.settled = number
        counts, self._late_counts = self._late_counts, Counter()
        counts.update(_kinds(changes))
        return counts

    def flush_if_due(self) -> None:
        """Apply what waits when it is as much, or has waited as long, as the destination wants."""
        policy = self.destination.flush
        if self._waiting and (
            time.monotonic() - self._waiting_since >= policy.seconds
            or len(self._waiting) >= policy.rows
            or self._waiting_bytes >= policy.bytes
        ):
            self.flush()

    def flush(self) -> None:
        """Make durable what waits."""
        if self._waiting and self._passed is not None:
            self.destination.apply(compact(self._waiting), self._passed)
            self.held = replace(self.held, watermark=self._passed)
            self._waiting, self._waiting_bytes = [], 0
            self.settled = self._taken

    def apply_late(self, changes: Sequence[Change]) -> None:
        """Make changes durable that waited for a late table, with all that waits: the watermark is of both."""
        self._wait(changes)
        self.flush()
        self._late_counts.update(_kinds(changes))

    def serve(self) -> bool:
        """Do what the copying of tables waits for; whether there is more of it to do at once."""
        return self.latecomers is not None and self.latecomers.serve()

    def _wait(self, changes: Sequence[Change]) -> None:
        if changes and not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting.extend(changes)
        self._waiting_bytes += _size(changes) if self.destination.flush.seconds else 0


def replicate(
    stream: Stream,
    replicas: Sequence[Replica],
    *,
    heartbeat: Heartbeat,
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """Replicate until told to stop. Every commit to the source follows a durable apply at each destination."""
    commits = _Commits(stream, replicas)
    unsettled = _Unsettled(replicas)
    while not stopped():
        has_more = [replica.serve() for replica in replicas]
        delivery = stream.next(0 if any(has_more) else DELIVERY_WAIT)
        if delivery is not None:
            unsettled.take(delivery)
        for replica in replicas:
            replica.flush_if_due()
        _settle(unsettled, commits, reporter)
        if delivery is None:
            commits.idle()
            heartbeat.idle()
        else:
            heartbeat.heard(delivery.lsn)
    for replica in replicas:
        replica.flush()
    _settle(unsettled, commits, reporter)
    commits.make()


def _settle(unsettled: "_Unsettled", commits: "_Commits", reporter: Reporter) -> None:
    for delivery, counts in unsettled.settled():
        commits.add(delivery)
        _report(reporter, delivery, counts)


class _Unsettled:
    """The deliveries that not every destination holds yet, in order."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._count = 0
        self._deliveries: deque[tuple[int, Delivery, Counter[tuple[TableId, str]]]] = deque()

    def take(self, delivery: Delivery) -> None:
        """Hand the delivery to every destination. A change that several of them lack is counted once."""
        self._count += 1
        counts: Counter[tuple[TableId, str]] = Counter()
        for replica in self._replicas:
            counts |= replica.take(delivery, self._count)
        self._deliveries.append((self._count, delivery, counts))

    def settled(self) -> Iterable[tuple[Delivery, Counter[tuple[TableId, str]]]]:
        """The deliveries that every destination holds by now; each is told once."""
        limit = min((replica.settled for replica in self._replicas), default=self._count)
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
        self._rest = max((replica.destination.flush.seconds for replica in replicas), default=0.0)

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
            replica.destination.note(self._pending.lsn)
        self._stream.commit(self._pending)
        self._pending, self._made_at = None, time.monotonic()


def _kinds(changes: Iterable[Change]) -> Iterator[tuple[TableId, str]]:
    return ((change.table.id, change.operation.value) for change in changes)


def _size(changes: Sequence[Change]) -> int:
    """Bytes of the changes' values."""
    return sum(len(value) for change in changes for value in change.row or () if isinstance(value, bytes))


def _report(reporter: Reporter, delivery: Delivery, counts: Counter[tuple[TableId, str]]) -> None:
    tables: dict[TableId, Counter[str]] = {}
    for (table, operation), count in counts.items():
        tables.setdefault(table, Counter())[operation] += count
    lag = (datetime.now(UTC) - delivery.committed_at).total_seconds() if delivery.committed_at else None
    reporter.applied(tables, lsn=delivery.lsn, committed_at=delivery.committed_at, lag_seconds=max(0.0, lag) if lag else lag)
