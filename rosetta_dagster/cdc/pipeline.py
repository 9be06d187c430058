"""The journey of a change: from a delivery of the source to the destinations, and back to the source as a commit."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rosetta_dagster.cdc.batch import Batch, compact
from rosetta_dagster.cdc.destination.base import Destination, Held
from rosetta_dagster.cdc.event import Change
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.schema import TableId, TableSchema
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

    def lacks(self, delivery: Delivery) -> Sequence[Change]:
        """The delivery's changes that the destination does not hold yet."""
        if delivery.watermark is None:
            return ()
        return self.held.lacks(delivery.changes, delivery.watermark.engine)

    def copied(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """The copies of these tables are complete."""
        self.held = replace(self.held, copied={**self.held.copied, **{table.id: point for table in tables}})

    def apply(self, batch: Batch, delivery: Delivery) -> None:
        """Make the batch durable. Nothing happens for an empty one: what it stands for is held already."""
        if batch.tables and delivery.watermark is not None:
            self.destination.apply(batch, delivery.watermark)
            self.held = replace(self.held, watermark=delivery.watermark)


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
        delivery = stream.next(DELIVERY_WAIT)
        if delivery is None:
            commits.make()
            heartbeat.idle()
            continue
        counts: Counter[tuple[TableId, str]] = Counter()
        for replica in replicas:
            batch = compact(replica.lacks(delivery))
            replica.apply(batch, delivery)
            counts |= _counts(batch)
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


def _counts(batch: Batch) -> Counter[tuple[TableId, str]]:
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
