"""The journey of a change: from a delivery of the source to the destinations, and back to the source as a commit."""

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
    while not stopped():
        delivery = stream.next(DELIVERY_WAIT)
        if delivery is None:
            heartbeat.idle()
            continue
        counts: Counter[tuple[TableId, str]] = Counter()
        for replica in replicas:
            batch = compact(replica.lacks(delivery))
            replica.apply(batch, delivery)
            counts |= _counts(batch)
        stream.commit(delivery)
        heartbeat.heard(delivery.lsn)
        _report(reporter, delivery, counts)


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
