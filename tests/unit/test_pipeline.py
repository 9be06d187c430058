import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from types import SimpleNamespace
from typing import cast

import pytest

from rosetta_dagster.cdc.change.batch import Batch, compact
from rosetta_dagster.cdc.change.event import Operation
from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import Destination, FlushPolicy, Held
from rosetta_dagster.cdc.errors import ChangeUndecodable, DestinationUnavailable
from rosetta_dagster.cdc.report import Reporter, TableCounts
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.stream import replicate as pipeline
from rosetta_dagster.cdc.stream.replica import Replica
from rosetta_dagster.cdc.stream.replicate import replicate
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import delete, insert, table, unreadable, update
from tests.support.deliveries import LONG_AGO, at, delivery_of, watermark

ITEMS = table("id", "name")

#: What happened, in order, across the stream and the destinations.
Journal = list[str]


FIRST = delivery_of(insert(ITEMS, "1", "a", at=at(100, 110)), insert(ITEMS, "2", "a", at=at(100, 120)), lsn=130)
SECOND = delivery_of(update(ITEMS, "1", "b", at=at(130, 140), xid=2), delete(ITEMS, "2", at=at(130, 150), xid=2), lsn=160)


@pytest.fixture(autouse=True)
def every_delivery_is_committed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "COMMIT_INTERVAL", 0.0)


@dataclass
class FakeStream:
    """Delivers what it was given, None for a silence, and then asks the run to stop.

    Nothing comes while a batch is being applied, so that the order of what happens is known; unless it is `fast`.
    """

    deliveries: list[Delivery | None]
    journal: Journal
    fast: bool = False
    committed: list[Lsn] = field(default_factory=list)

    def next(self, timeout: float) -> Delivery | None:
        if timeout == 0 and not self.deliveries:
            return None
        if timeout == pipeline.APPLYING_WAIT and not self.fast:
            time.sleep(0.001)
            return None
        return self.deliveries.pop(0)

    def commit(self, delivery: Delivery) -> None:
        self.journal.append(f"commit {delivery.lsn}")
        self.committed.append(delivery.lsn)

    def close(self) -> None:
        raise AssertionError("whoever opened the stream closes it")


@dataclass
class FakeDestination:
    """Keeps the batches that it was given; refuses the one of the number `refused`."""

    name: str
    journal: Journal
    refused: int | None = None
    flush: FlushPolicy = field(default_factory=FlushPolicy)
    applied: list[tuple[Batch, Watermark]] = field(default_factory=list)
    noted: list[Lsn] = field(default_factory=list)
    #: What a batch waits for before it is applied.
    begins: threading.Event | None = None

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        if self.begins is not None:
            assert self.begins.wait(10)
        if len(self.applied) == self.refused:
            self.journal.append(f"{self.name} refuses")
            raise DestinationUnavailable("The destination is gone.", "")
        self.journal.append(f"{self.name} applies")
        self.applied.append((batch, watermark))

    def note(self, lsn: Lsn) -> None:
        self.noted.append(lsn)

    def finish_copy(self, table: TableSchema) -> None:
        """Nothing is kept of copies."""


@dataclass
class FakeHeartbeat:
    beats: list[str]

    def heard(self, lsn: Lsn) -> None:
        self.beats.append(f"heard {lsn}")

    def idle(self) -> None:
        self.beats.append("idle")


@dataclass
class Run:
    """One run over fakes."""

    stream: FakeStream
    replicas: list[Replica]
    reporter: Reporter
    journal: Journal
    beats: list[str] = field(default_factory=list)

    def start(self, stopped: Callable[[], bool] | None = None) -> None:
        replicate(
            self.stream,
            self.replicas,
            heartbeat=cast(Heartbeat, FakeHeartbeat(self.beats)),
            reporter=self.reporter,
            stopped=stopped or (lambda: not self.stream.deliveries),
        )

    def steps(self) -> Journal:
        """The journal; destinations that were given their batches together may have applied them in any order."""
        return [entry for _, run in groupby(self.journal, lambda entry: entry.split()[-1]) for entry in sorted(run)]

    def counts(self) -> dict[TableId, TableCounts]:
        return self.reporter.read().tables


def replica(destination: FakeDestination, held: Held, reporter: Reporter | None = None) -> Replica:
    """A run calls nothing but `apply` and `note`, so the fake has nothing else."""
    return Replica(cast(Destination, destination), held, reporter=reporter or Reporter())


def run_of(deliveries: Iterable[Delivery | None], *held: Held, refused: int | None = None) -> Run:
    """A run with a destination (a, b, …) for each of what is held; the last one refuses."""
    journal: Journal = []
    helds = held or (Held(),)
    last = len(helds) - 1
    replicas = [
        replica(FakeDestination("abc"[number], journal, refused if number == last else None), each)
        for number, each in enumerate(helds)
    ]
    return Run(FakeStream(list(deliveries), journal), replicas, Reporter(), journal)


def applied(run: Run, number: int = 0) -> list[tuple[Batch, Watermark]]:
    return cast(FakeDestination, run.replicas[number].destination).applied


def test_a_delivery_is_committed_after_every_destination_applied_it() -> None:
    run = run_of([FIRST, SECOND], Held(), Held())
    run.start()
    expected = ["a applies", "b applies", "commit 0/82", "a applies", "b applies", "commit 0/A0"]
    assert expected == run.steps()


def test_a_destination_is_given_the_compacted_changes_and_the_deliverys_watermark() -> None:
    run = run_of([FIRST])
    run.start()
    assert [(compact(FIRST.changes), FIRST.watermark)] == applied(run)


def test_a_delivery_that_a_destination_refused_is_never_committed() -> None:
    run = run_of([FIRST, SECOND], Held(), Held(), refused=0)
    with pytest.raises(DestinationUnavailable):
        run.start()
    assert ["a applies", "b refuses"] == sorted(run.journal)
    assert [] == run.stream.committed


def test_what_was_committed_before_a_refusal_stays_the_last_commit() -> None:
    run = run_of([FIRST, SECOND], refused=1)
    with pytest.raises(DestinationUnavailable):
        run.start()
    assert [FIRST.lsn] == run.stream.committed
    assert Lsn(130) == run.reporter.read().applied_lsn


def test_a_destination_that_refused_is_not_said_to_hold_the_changes() -> None:
    run = run_of([FIRST], Held(), Held(), refused=0)
    with pytest.raises(DestinationUnavailable):
        run.start()
    assert [FIRST.watermark, None] == [each.held.watermark for each in run.replicas]


def test_a_destination_that_holds_the_changes_already_is_not_given_them_again() -> None:
    run = run_of([FIRST], Held(watermark=FIRST.watermark), Held())
    run.start()
    assert ["b applies", "commit 0/82"] == run.journal


def test_changes_that_every_destination_holds_are_committed_without_being_applied() -> None:
    run = run_of([FIRST], Held(watermark=FIRST.watermark), Held(watermark=SECOND.watermark))
    run.start()
    assert ["commit 0/82"] == run.journal
    assert {} == run.counts()


def test_a_destination_that_is_ahead_keeps_its_watermark() -> None:
    run = run_of([FIRST], Held(watermark=SECOND.watermark))
    run.start()
    assert SECOND.watermark == run.replicas[0].held.watermark


def test_a_destination_is_given_only_the_part_of_a_delivery_that_it_misses() -> None:
    run = run_of([FIRST], Held(watermark=watermark(at(100, 110))))
    run.start()
    assert [(compact(FIRST.changes[1:]), FIRST.watermark)] == applied(run)


def test_a_delivery_that_repeats_within_a_run_is_applied_once() -> None:
    run = run_of([FIRST, FIRST])
    run.start()
    assert 1 == len(applied(run))
    assert [FIRST.lsn, FIRST.lsn] == run.stream.committed


def test_changes_that_the_copy_holds_are_left_out() -> None:
    run = run_of([FIRST])
    run.replicas[0].complete_copy(ITEMS, SnapshotPoint(Lsn(200), XidSnapshot(2, 2, frozenset())))
    run.start()
    assert ["commit 0/82"] == run.journal


def delivery_with_unreadable() -> Delivery:
    """FIRST, of which the first change cannot be read."""
    first, second = FIRST.changes
    error = ChangeUndecodable("It cannot be read.", "")
    return delivery_of(first._replace(table=unreadable(ITEMS, error), row=None), second)


@pytest.mark.parametrize(
    "held",
    [
        Held(watermark=watermark(at(100, 110))),
        Held(watermark=FIRST.watermark),
        Held(copied={ITEMS.id: SnapshotPoint(Lsn(200), XidSnapshot(2, 2, frozenset()))}),
    ],
    ids=["the watermark is at it", "the watermark is past it", "it is in the copy"],
)
def test_a_change_that_cannot_be_read_is_no_error_when_it_is_held(held: Held) -> None:
    run = run_of([delivery_with_unreadable()], held)
    run.start()
    assert [FIRST.lsn] == run.stream.committed


def test_a_change_that_cannot_be_read_is_no_error_when_its_table_is_left_out() -> None:
    run = run_of([delivery_with_unreadable()])
    run.replicas[0].set_aside = {ITEMS.id: "It broke."}
    run.start()
    assert ["commit 0/82"] == run.journal


def test_a_change_that_cannot_be_read_is_an_error_when_a_destination_misses_it() -> None:
    run = run_of([delivery_with_unreadable()], Held(watermark=FIRST.watermark), Held())
    with pytest.raises(ChangeUndecodable):
        run.start()
    assert [] == run.journal


def test_a_copy_is_noted_beside_those_before_it() -> None:
    orders = table("id", name="orders")
    early, late = (SnapshotPoint(Lsn(lsn), XidSnapshot(lsn, lsn, frozenset())) for lsn in (100, 200))
    one = replica(FakeDestination("a", []), Held(watermark=FIRST.watermark, copied={ITEMS.id: early}))
    one.complete_copy(orders, late)
    assert Held(watermark=FIRST.watermark, copied={ITEMS.id: early, orders.id: late}) == one.held


def test_a_delivery_without_changes_is_committed_and_reported() -> None:
    run = run_of([delivery_of(lsn=0x200)])
    run.start()
    assert ["commit 0/200"] == run.journal
    report = run.reporter.read()
    assert (Lsn(0x200), {}, None, None) == (
        report.applied_lsn, report.tables, report.last_commit_at, report.lag_seconds,
    )  # fmt: skip
    assert report.last_success is not None


def test_a_silence_is_left_to_the_heartbeat() -> None:
    run = run_of([None, FIRST, None])
    run.start()
    assert ["idle", "heard 0/82", "idle"] == run.beats[:3]


def test_a_run_that_was_stopped_begins_nothing_more() -> None:
    run = run_of([FIRST])
    run.start(stopped=lambda: True)
    assert [] == run.journal


def test_a_delivery_that_was_begun_is_finished_before_the_run_stops() -> None:
    answers = iter([False, True])
    run = run_of([FIRST, SECOND])
    run.start(stopped=lambda: next(answers))
    assert ["a applies", "commit 0/82"] == run.journal


def holding(run: Run, policy: FlushPolicy, number: int = 0) -> Run:
    """The run with a destination that wants its changes held back."""
    cast(FakeDestination, run.replicas[number].destination).flush = policy
    return run


FOR_LONG = FlushPolicy(seconds=3600.0)


def test_held_changes_are_not_committed_until_they_are_applied_together() -> None:
    run = holding(run_of([FIRST, SECOND, None]), FOR_LONG)
    run.start()
    assert ["heard 0/82", "heard 0/A0", "idle"] == run.beats
    assert ["a applies", "commit 0/A0"] == run.journal
    assert [(compact([*FIRST.changes, *SECOND.changes]), SECOND.watermark)] == applied(run)


@pytest.mark.parametrize(
    "policy",
    [FlushPolicy(seconds=3600.0, rows=3), FlushPolicy(seconds=3600.0, bytes=5), FlushPolicy(seconds=1e-9)],
    ids=["rows", "bytes", "seconds"],
)
def test_held_changes_are_applied_at_the_first_limit(policy: FlushPolicy) -> None:
    third = delivery_of(insert(ITEMS, "3", "c", at=at(160, 170), xid=3), lsn=180)
    run = holding(run_of([FIRST, SECOND, third, None]), policy)
    run.start()
    assert run.journal.count("a applies") > 1


def test_held_changes_are_applied_in_a_silence_when_they_have_waited_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    run = holding(run_of([FIRST, None, None, None, None]), FlushPolicy(seconds=60.0))
    length = len(run.stream.deliveries)
    # Each look at the stream takes 25 seconds.
    clock = SimpleNamespace(monotonic=lambda: 25.0 * (length - len(run.stream.deliveries)))
    monkeypatch.setattr(pipeline, "time", clock)
    monkeypatch.setattr("rosetta_dagster.cdc.stream.pending_batch.time", clock)
    run.start()
    assert ["heard 0/82", "idle", "idle", "idle"] == run.beats[:4]
    assert ["a applies", "commit 0/82"] == run.journal


def test_a_delivery_is_committed_when_the_slowest_destination_holds_it() -> None:
    run = holding(run_of([FIRST, SECOND], Held(), Held()), FOR_LONG, number=1)
    run.start()
    assert ["a applies", "a applies", "b applies", "commit 0/A0"] == run.journal
    assert 2 == run.counts()[ITEMS.id].inserted


def test_held_changes_that_fail_are_neither_committed_nor_reported() -> None:
    run = holding(run_of([FIRST, SECOND], refused=0), FOR_LONG)
    with pytest.raises(DestinationUnavailable):
        run.start()
    assert [] == run.stream.committed
    assert {} == run.counts()


def let_it_begin(run: Run, begins: threading.Event) -> bool:
    """Lets the destination go on as soon as everything was delivered; whether it was."""
    if not run.stream.deliveries:
        begins.set()
    return begins.is_set()


def test_what_comes_while_a_batch_is_being_applied_is_applied_together_after_it() -> None:
    third = delivery_of(insert(ITEMS, "3", "c", at=at(160, 170), xid=3), lsn=180)
    run = run_of([FIRST, SECOND, third, None, None])
    run.stream.fast = True
    destination = cast(FakeDestination, run.replicas[0].destination)
    begins = destination.begins = threading.Event()
    # The first batch is durable when everything else was delivered, and not before.
    run.start(stopped=lambda: let_it_begin(run, begins))
    assert [compact(FIRST.changes), compact([*SECOND.changes, *third.changes])] == [batch for batch, _ in applied(run)]
    # What is settled together is committed at once.
    assert ["a applies", "a applies", "commit 0/B4"] == run.journal


def test_nothing_is_requested_after_a_small_delivery_while_destinations_are_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "GATHER_WAIT", 60.0)
    third = delivery_of(insert(ITEMS, "3", "c", at=at(160, 170), xid=3), lsn=180)
    run = run_of([FIRST, SECOND, third])
    run.stream.fast = True
    destination = cast(FakeDestination, run.replicas[0].destination)
    begins = destination.begins = threading.Event()
    left: list[int] = []

    def begin() -> None:
        left.append(len(run.stream.deliveries))
        begins.set()

    threading.Timer(0.2, begin).start()
    run.start()
    assert [1] == left
    # What has come by then waits together.
    assert [compact(FIRST.changes), compact([*SECOND.changes, *third.changes])] == [batch for batch, _ in applied(run)]
    assert f"heard {third.lsn}" == run.beats[-1]


def test_a_large_delivery_or_one_that_a_destination_waits_for_does_not_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "GATHER_WAIT", 60.0)
    for small, is_idle in ((2, False), (3, True)):
        monkeypatch.setattr(pipeline, "SMALL_DELIVERY", small)
        run = run_of([FIRST, SECOND, None], Held(), *([Held(watermark=SECOND.watermark)] if is_idle else []))
        run.stream.fast = True
        destination = cast(FakeDestination, run.replicas[0].destination)
        begins = destination.begins = threading.Event()
        run.start(stopped=lambda run=run, begins=begins: let_it_begin(run, begins))  # type: ignore[misc]
        assert 2 == len(applied(run))


def test_a_full_batch_waits_for_the_one_before_it() -> None:
    run = holding(run_of([FIRST, SECOND, None]), FlushPolicy(rows=2))
    run.stream.fast = True
    run.start()
    assert [FIRST.watermark, SECOND.watermark] == [reached for _, reached in applied(run)]


def test_a_delivery_that_repeats_while_it_waits_is_applied_once() -> None:
    run = holding(run_of([FIRST, FIRST, SECOND]), FOR_LONG)
    run.start()
    assert [(compact([*FIRST.changes, *SECOND.changes]), SECOND.watermark)] == applied(run)


def test_a_delivery_without_changes_waits_for_those_before_it() -> None:
    run = holding(run_of([FIRST, delivery_of(lsn=0x200)]), FOR_LONG)
    run.start()
    assert ["a applies", "commit 0/200"] == run.journal


def test_changes_are_committed_at_once_and_positions_of_an_idle_source_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = [each for number in range(5) for each in (delivery_of(lsn=0x200 + number), None)]
    (run := holding(run_of([*idle]), FOR_LONG)).start()
    assert [Lsn(0x204)] == cast(FakeDestination, run.replicas[0].destination).noted
    monkeypatch.setattr(pipeline, "COMMIT_INTERVAL", 60.0)
    run = run_of([FIRST, None, *idle])
    run.start()
    assert [FIRST.lsn, Lsn(0x204)] == run.stream.committed


def test_changes_are_reported_by_table_and_kind() -> None:
    run = run_of([FIRST, SECOND])
    run.start()
    counts = TableCounts(inserted=2, updated=1, deleted=1, last_change_at=LONG_AGO, last_lsn=SECOND.lsn)
    assert {ITEMS.id: counts} == run.counts()


def test_a_change_that_two_destinations_applied_is_one_change() -> None:
    run = run_of([FIRST], Held(), Held())
    run.start()
    assert 2 == run.counts()[ITEMS.id].inserted


def test_a_change_that_one_of_two_destinations_missed_is_reported() -> None:
    run = run_of([FIRST], Held(watermark=FIRST.watermark), Held(watermark=watermark(at(100, 110))))
    run.start()
    assert 1 == run.counts()[ITEMS.id].inserted


def test_changes_are_reported_under_every_schema_that_a_table_had_in_a_delivery() -> None:
    wider = table("id", "name", "added")
    changed = [insert(ITEMS, "1", "a", at=at(100, 110)), insert(wider, "2", "a", "x", at=at(100, 120))]
    run = run_of([delivery_of(*changed)])
    run.start()
    assert 2 == run.counts()[ITEMS.id].inserted


def test_the_lag_is_the_time_since_the_commit_at_the_source() -> None:
    ago = timedelta(hours=1)
    run = run_of([delivery_of(insert(ITEMS, "1", "a"), committed_at=datetime.now(UTC) - ago)])
    run.start()
    assert ago.total_seconds() == pytest.approx(run.reporter.read().lag_seconds, abs=60)


def test_a_source_whose_clock_is_ahead_has_no_negative_lag() -> None:
    run = run_of([delivery_of(insert(ITEMS, "1", "a"), committed_at=datetime.now(UTC) + timedelta(hours=1))])
    run.start()
    assert 0.0 == run.reporter.read().lag_seconds


def test_the_commit_time_is_reported() -> None:
    run = run_of([FIRST])
    run.start()
    assert LONG_AGO == run.reporter.read().last_commit_at


def test_changes_that_waited_for_a_late_table_are_counted_once_they_are_applied() -> None:
    one = replica(FakeDestination("a", []), Held())
    assert 2 == one.take(FIRST, 1).total()
    one.take_spooled(SECOND.changes)
    assert {(ITEMS.id, Operation.UPDATE): 1, (ITEMS.id, Operation.DELETE): 1} == one.take(delivery_of(lsn=0x200), 2)
    assert not one.take(delivery_of(lsn=0x210), 3)
