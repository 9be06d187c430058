"""Tables that are copied beside the stream: their changes wait in spools, which empty while the source goes on writing."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from rosetta_dagster.cdc.change.batch import Batch, Merge
from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.copy.concurrent import ConcurrentCopies
from rosetta_dagster.cdc.copy.snapshot import CopyObserver
from rosetta_dagster.cdc.destination.base import Destination, FlushPolicy, Held
from rosetta_dagster.cdc.errors import SourceUnavailable, ThreadStuck
from rosetta_dagster.cdc.report import Applied, Reporter
from rosetta_dagster.cdc.run.supervision import progress_since
from rosetta_dagster.cdc.source.base import Delivery, Stream
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.stream.copies import missing_tables, temporary_slot_name
from rosetta_dagster.cdc.stream.replica import Replica
from rosetta_dagster.cdc.stream.replicate import replicate
from tests.support.changes import insert, table

LATE, ORDERS = table("id", "n", name="late"), table("id", "n", name="orders")
#: A copy as of before every change of these tests.
POINT = SnapshotPoint(Lsn(1), XidSnapshot.parse("1:1:"))
TIMEOUT = 20.0


@dataclass
class SlowDestination:
    """Takes a while for each batch, however large it is."""

    seconds: float = 0.0
    flush: FlushPolicy = field(default_factory=lambda: FlushPolicy(seconds=3600.0))
    name: str = "replica"
    batches: list[Batch] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        time.sleep(self.seconds)
        self.batches.append(batch)
        self.calls.append("apply")

    def note(self, lsn: Lsn) -> None:
        """Nothing is kept of it."""

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self.calls.append(f"start {', '.join(each.id.name for each in tables)}")

    def resume_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Nothing is resumed here."""

    def finish_copy(self, table: TableSchema) -> None:
        self.calls.append(f"finish {table.id.name}")

    def record_fingerprints(self, tables: Sequence[TableSchema]) -> None:
        """Nothing is compared here."""

    def rows(self) -> list[int]:
        """The keys of the rows of each batch, in the order in which they were applied."""
        steps = [step for batch in self.batches for each in batch.tables for step in each.steps]
        return [int(cast(bytes, row[0])) for step in steps if isinstance(step, Merge) for row in step.rows]


@dataclass
class BusyStream:
    """Has the next delivery at once, always: a change of the table that is copied and one of another."""

    loaded: threading.Event
    limit: int
    count: int = 0

    def next(self, timeout: float) -> Delivery | None:
        if self.count == self.limit:
            return None
        self.count += 1
        if self.count == 50:
            self.loaded.set()
        return delivery_of(self.count)

    def commit(self, delivery: Delivery) -> None:
        """Nothing waits for it."""


class NoHeartbeat:
    def heard(self, lsn: Lsn) -> None:
        """It is not needed."""

    def idle(self) -> None:
        """It is not needed."""


def delivery_of(number: int, committed_at: datetime | None = None) -> Delivery:
    at = Position(number * 10, number * 10 + 1, 0)
    changes = [insert(LATE, str(number), "x", at=at, xid=5), insert(ORDERS, str(number), "x", at=at, xid=5)]
    return Delivery(
        changes=changes,
        watermark=Watermark(engine=Engine.PGOUTPUT, position=at, xid=5),
        lsn=Lsn(number * 10),
        committed_at=committed_at,
        receipt=number,
    )


def copying(copies: ConcurrentCopies, loaded: threading.Event, *tables: TableSchema) -> None:
    """Start to copy tables whose rows are loaded once the event is set."""

    def copy(observer: CopyObserver, stopped: Callable[[], bool]) -> None:
        observer.start(tables, [], POINT)
        while not loaded.wait(0.01):
            if stopped():
                return
        for each in tables:
            observer.finish(each)

    copies.start(tables, copy)


def replica_at(destination: SlowDestination, reporter: Reporter | None = None) -> Replica:
    return Replica(cast(Destination, destination), Held(), reporter=reporter or Reporter(), copies=ConcurrentCopies())


def run_copy_work_until(replica: Replica, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        replica.run_copy_work()
        time.sleep(0.001)


def test_a_table_joins_a_stream_without_pauses_at_a_destination_slow_per_batch() -> None:
    loaded = threading.Event()
    reporter, destination = Reporter(), SlowDestination(seconds=0.02)
    replica, stream = replica_at(destination, reporter), BusyStream(loaded, limit=2_000)
    copying(replica.copies, loaded, LATE)
    try:
        replicate(
            cast(Stream, stream),
            [replica],
            heartbeat=cast(Heartbeat, NoHeartbeat()),
            reporter=reporter,
            stopped=lambda: (LATE.id in replica.held.copied and stream.count > 100) or stream.count == stream.limit,
        )
    finally:
        replica.copies.close()
        replica.close()
    assert (TableState.STREAMING, None) == reporter.read().states[LATE.id]
    assert stream.count < stream.limit
    assert sorted([*range(1, stream.count + 1)] * 2) == sorted(destination.rows())
    assert {} == reporter.read().spooled


def test_spooled_changes_are_folded_into_batches_as_large_as_the_destination_wants() -> None:
    loaded = threading.Event()
    destination = SlowDestination(flush=FlushPolicy(seconds=3600.0, rows=4))
    replica = replica_at(destination)
    copying(replica.copies, loaded, LATE)
    for number in range(1, 11):
        replica.take(delivery_of(number), number)
        replica.start_batch()
    before = len(destination.batches)
    loaded.set()

    def is_copied() -> bool:
        replica.wait_until_room()
        replica.start_batch_if_due()
        return LATE.id in replica.held.copied

    run_copy_work_until(replica, is_copied)
    late = [batch for batch in destination.batches[before:] if batch.tables[0].table is LATE]
    assert [4, 4, 2] == [len(cast(Merge, batch.tables[0].steps[0]).rows) for batch in late]
    assert "finish late" == destination.calls[-1]
    replica.copies.close()


def test_spooled_changes_stay_while_the_next_batch_is_full_and_one_is_being_applied() -> None:
    loaded = threading.Event()
    loaded.set()
    destination = SlowDestination(seconds=0.2, flush=FlushPolicy(seconds=3600.0, rows=2))
    replica = replica_at(destination)
    copying(replica.copies, loaded, LATE)
    for number in range(1, 11):
        replica.take(delivery_of(number), number)
    run_copy_work_until(replica, lambda: replica.copies.has_spooled_work)
    began = time.monotonic()
    replica.run_copy_work()
    assert time.monotonic() - began < 0.1, "it waited for a batch"
    assert replica.copies.has_spooled_work
    replica.copies.close()
    replica.close()


def test_what_waits_in_spools_counts_in_the_lag_and_in_the_age_of_the_last_success() -> None:
    loaded = threading.Event()
    reporter, an_hour_ago = Reporter(), datetime.now(UTC) - timedelta(hours=1)
    replica = replica_at(SlowDestination(), reporter)
    copying(replica.copies, loaded, LATE)
    replica.take(delivery_of(1, committed_at=an_hour_ago), 1)
    replica.take(delivery_of(2, committed_at=datetime.now(UTC)), 2)
    reporter.applied([Applied(Counter(), Lsn(10), None)])
    replica.run_copy_work()
    report = reporter.read()
    size = report.spooled["replica", LATE.id]
    assert (2, an_hour_ago) == (size.changes, size.oldest_commit_at)
    assert 0 < size.bytes
    assert pytest.approx(3600, abs=60) == report.lag_seconds
    assert pytest.approx(3600, abs=60) == progress_since(report, report, "run").success_age
    loaded.set()
    run_copy_work_until(replica, lambda: LATE.id in replica.held.copied)
    assert {} == reporter.read().spooled
    assert reporter.read().lag_seconds is None
    replica.copies.close()


def test_what_was_taken_before_a_copy_begins_is_applied_before_it() -> None:
    loaded = threading.Event()
    destination = SlowDestination()
    replica = replica_at(destination)
    replica.take(delivery_of(1), 1)
    copying(replica.copies, loaded, LATE)
    run_copy_work_until(replica, lambda: "start late" in destination.calls)
    assert ["apply", "start late"] == destination.calls
    replica.copies.close()


def test_changes_that_the_copy_holds_are_not_applied() -> None:
    loaded = threading.Event()
    destination = SlowDestination()
    replica = replica_at(destination)

    def copy(observer: CopyObserver, stopped: Callable[[], bool]) -> None:
        assert loaded.wait(TIMEOUT)
        observer.start([LATE], [], SnapshotPoint(Lsn(100), XidSnapshot.parse("6:6:")))
        observer.finish(LATE)

    replica.copies.start([LATE], copy)
    # Spooled before the point is known.
    replica.take(delivery_of(1), 1)
    loaded.set()
    run_copy_work_until(replica, lambda: LATE.id in replica.held.copied)
    assert [ORDERS.id] == [each.table.id for batch in destination.batches for each in batch.tables]
    replica.copies.close()


def test_tables_can_be_copied_while_others_are() -> None:
    first, second = threading.Event(), threading.Event()
    replica = replica_at(SlowDestination())
    copying(replica.copies, first, LATE)
    assert [ORDERS] == missing_tables({each.id: each for each in (LATE, ORDERS)}, replica)
    copying(replica.copies, second, ORDERS)
    replica.take(delivery_of(1), 1)
    second.set()
    run_copy_work_until(replica, lambda: ORDERS.id in replica.held.copied)
    assert {LATE.id} == set(replica.copies.tables)
    first.set()
    run_copy_work_until(replica, lambda: not replica.copies.is_active)
    assert {LATE.id, ORDERS.id} == replica.held.copied.keys()


def test_what_ends_a_copy_is_raised_by_the_thread_that_replicates() -> None:
    replica = replica_at(SlowDestination())

    def copy(observer: CopyObserver, stopped: Callable[[], bool]) -> None:
        raise SourceUnavailable("It is gone.", "")

    replica.copies.start([LATE], copy)
    with pytest.raises(SourceUnavailable):
        run_copy_work_until(replica, lambda: False)
    replica.copies.close()


def test_a_copy_that_does_not_end_is_an_error() -> None:
    released = threading.Event()
    copies = ConcurrentCopies()
    copies.start([LATE], lambda observer, stopped: cast(None, released.wait(TIMEOUT)))
    with pytest.raises(ThreadStuck, match="did not end within 0 seconds"):
        copies.close(timeout=0.01)
    released.set()


def test_no_two_copies_share_a_slot() -> None:
    shared = "rosetta_" + "x" * 48
    names = {temporary_slot_name(name) for name in (f"{shared}_first", f"{shared}_second", f"{shared}_second")}
    assert 3 == len(names)
    assert all(len(name) <= 63 and name.startswith("rosetta_xxx") and "_copy_" in name for name in names)


def test_changes_of_other_tables_pass_while_tables_are_copied() -> None:
    copies = ConcurrentCopies()
    copying(copies, threading.Event(), LATE)
    changes: list[Change] = list(delivery_of(1).changes)
    assert [changes[1]] == copies.divert(changes, Lsn(1), None)
    others = changes[1:]
    assert others is copies.divert(others, Lsn(1), None)
    copies.close()
