"""The journey of a change: from a delivery of the source to the destinations, and back to the source as a commit."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from rosetta_dagster.cdc.batch import Batch, compact
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
    """A destination together with what it holds of the stream."""

    destination: Destination
    held: Held
    #: Tables that broke, and why: their changes are left out.
    left_out: Mapping[TableId, str] = field(default_factory=dict)
    #: Tables that are copied while the stream goes on.
    latecomers: Latecomers | None = None
    #: Up to where the stream was taken in: every change before it is held, is kept for a late table, or is left out.
    passed: Watermark | None = None

    def lacks(self, delivery: Delivery) -> Sequence[Change]:
        """The delivery's changes that the destination does not hold yet, but for those that have to wait for a copy."""
        if delivery.watermark is None:
            return ()
        if self.held.lacks(delivery.changes[-1:], delivery.watermark.engine):
            self.passed = delivery.watermark
        changes = self.held.lacks(delivery.changes, delivery.watermark.engine)
        if self.left_out:
            changes = [change for change in changes if change.table.id not in self.left_out]
        return changes if self.latecomers is None else self.latecomers.divert(changes)

    def copied(self, table: TableId, point: SnapshotPoint) -> None:
        """The copy of this table is complete."""
        self.held = replace(self.held, copied={**self.held.copied, table: point})

    def apply(self, batch: Batch, watermark: Watermark | None) -> None:
        """Make the batch durable. Nothing happens for an empty one: what it stands for is held already."""
        if batch.tables and watermark is not None:
            self.destination.apply(batch, watermark)
            self.held = replace(self.held, watermark=watermark)

    def apply_late(self, changes: Sequence[Change]) -> None:
        """Make changes durable that were kept for a late table. The watermark covers them from now on."""
        self.apply(compact(changes), self.passed)

    def serve(self) -> bool:
        """Do what the copying of tables waits for; whether there is more of it to do at once."""
        return self.latecomers is not None and self.latecomers.serve()


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
    while not stopped():
        has_more = [replica.serve() for replica in replicas]
        delivery = stream.next(0 if any(has_more) else DELIVERY_WAIT)
        if delivery is None:
            commits.make()
            heartbeat.idle()
            continue
        counts: Counter[tuple[TableId, str]] = Counter()
        for replica in replicas:
            batch = compact(replica.lacks(delivery))
            replica.apply(batch, delivery.watermark)
            counts |= counts_of(batch)
        commits.add(delivery)
        heartbeat.heard(delivery.lsn)
        _report(reporter, delivery, counts)
    commits.make()


class _Commits:
    """Commits what is durable, about once a second: the slot need not follow closer, and each commit is noted first.

    The note is what tells a slot that was made anew: such a slot stands further than any run has ever let it move.
    """

    def __init__(self, stream: Stream, replicas: Sequence[Replica]) -> None:
        self._stream = stream
        self._replicas = replicas
        self._pending: Delivery | None = None
        self._made_at = time.monotonic()

    def add(self, delivery: Delivery) -> None:
        """The delivery and all before it are durable at every destination."""
        if delivery.receipt is not None:
            self._pending = delivery
        if time.monotonic() - self._made_at >= COMMIT_INTERVAL:
            self.make()

    def make(self) -> None:
        if self._pending is None:
            return
        for replica in self._replicas:
            replica.destination.note(self._pending.lsn)
        self._stream.commit(self._pending)
        self._pending, self._made_at = None, time.monotonic()


def counts_of(batch: Batch) -> Counter[tuple[TableId, str]]:
    """How many changes of each kind the batch holds of each table."""
    counts: Counter[tuple[TableId, str]] = Counter()
    # A table stands in a batch once for each schema that it had.
    for table in batch.tables:
        counts.update({(table.table.id, operation.value): count for operation, count in table.counts.items()})
    return counts


def _report(reporter: Reporter, delivery: Delivery, counts: Counter[tuple[TableId, str]]) -> None:
    tables: dict[TableId, Counter[str]] = {}
    for (table, operation), count in counts.items():
        tables.setdefault(table, Counter())[operation] += count
    lag = (datetime.now(UTC) - delivery.committed_at).total_seconds() if delivery.committed_at else None
    reporter.applied(tables, lsn=delivery.lsn, committed_at=delivery.committed_at, lag_seconds=max(0.0, lag) if lag else lag)
