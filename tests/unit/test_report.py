from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from rosetta_dagster.cdc.change.event import Operation
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.report import Applied, Phase, Report, Reporter, TableCounts
from rosetta_dagster.cdc.table_id import TableId

ITEMS = TableId("public", "items")
ORDERS = TableId("public", "orders")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ONE_O_CLOCK = datetime(2024, 5, 1, 13, tzinfo=UTC)


def part(counts: dict[TableId, dict[str, int]], *, lsn: int = 1, at: datetime | None = NOON) -> Applied:
    each = Counter({(table, Operation(name)): count for table, names in counts.items() for name, count in names.items()})
    return Applied(each, Lsn(lsn), at)


def applied(reporter: Reporter, counts: dict[TableId, dict[str, int]], *, lsn: int = 1, at: datetime | None = NOON) -> None:
    reporter.applied([part(counts, lsn=lsn, at=at)])


def test_a_run_begins_with_an_empty_report() -> None:
    assert Report(phase=Phase.STARTING, tables={}) == Reporter().read()


def test_the_phase_is_the_one_entered_last_and_leaves_the_rest_alone() -> None:
    reporter = Reporter()
    reporter.copied(ITEMS, 3)
    reporter.enter(Phase.SNAPSHOT)
    reporter.enter(Phase.STREAMING)
    assert Phase.STREAMING == reporter.read().phase
    assert {ITEMS: TableCounts(copied=3)} == reporter.read().tables


def test_a_table_shows_its_worst_state_whichever_destination_reports_last() -> None:
    reporter = Reporter()
    reporter.table("near", ITEMS, TableState.PENDING)
    reporter.table("far", ITEMS, TableState.STREAMING)
    assert {ITEMS: (TableState.PENDING, None)} == reporter.read().states
    reporter.table("near", ITEMS, TableState.SNAPSHOT)
    assert {ITEMS: (TableState.SNAPSHOT, None)} == reporter.read().states
    reporter.table("far", ITEMS, TableState.ERROR, "It is refused.")
    reporter.table("near", ITEMS, TableState.STREAMING)
    assert {ITEMS: (TableState.ERROR, "Destination far: It is refused.")} == reporter.read().states


def test_an_attempt_begins_without_the_states_of_destinations_that_are_gone() -> None:
    reporter = Reporter()
    reporter.table("gone", ITEMS, TableState.ERROR, "It is refused.")
    reporter.begin({"near": {ITEMS: (TableState.STREAMING, None)}})
    assert {ITEMS: (TableState.STREAMING, None)} == reporter.read().states


def test_a_table_that_is_to_be_copied_again_waits_at_every_destination() -> None:
    reporter = Reporter()
    reporter.begin({name: {ITEMS: (TableState.STREAMING, None)} for name in ("near", "far")})
    reporter.awaits_copy(ITEMS)
    reporter.table("near", ITEMS, TableState.STREAMING)
    assert {ITEMS: (TableState.PENDING, None)} == reporter.read().states


def test_copied_rows_add_up_for_each_table() -> None:
    reporter = Reporter()
    for table, row_count in ((ITEMS, 10), (ORDERS, 1), (ITEMS, 5)):
        reporter.copied(table, row_count)
    assert {ITEMS: TableCounts(copied=15), ORDERS: TableCounts(copied=1)} == reporter.read().tables


def test_applied_changes_add_up_by_their_kind() -> None:
    reporter = Reporter()
    applied(reporter, {ITEMS: {"insert": 1, "update": 2, "delete": 3, "truncate": 4}})
    applied(reporter, {ITEMS: {"insert": 10, "update": 20, "delete": 30, "truncate": 40}})
    expected = TableCounts(inserted=11, updated=22, deleted=33, truncated=44, last_change_at=NOON, last_lsn=Lsn(1))
    assert {ITEMS: expected} == reporter.read().tables
    assert 110 == reporter.read().tables[ITEMS].applied


def test_copied_rows_are_not_counted_as_applied_changes() -> None:
    assert 0 == TableCounts(copied=7).applied


def test_changes_after_a_copy_keep_the_copys_count() -> None:
    reporter = Reporter()
    reporter.copied(ITEMS, 7)
    applied(reporter, {ITEMS: {"insert": 1}})
    assert TableCounts(copied=7, inserted=1, last_change_at=NOON, last_lsn=Lsn(1)) == reporter.read().tables[ITEMS]


def test_a_table_without_changes_keeps_the_time_of_its_last_one() -> None:
    reporter = Reporter()
    applied(reporter, {ITEMS: {"insert": 1}, ORDERS: {"insert": 1}}, at=NOON)
    applied(reporter, {ORDERS: {"insert": 1}}, at=ONE_O_CLOCK)
    tables = reporter.read().tables
    assert (NOON, ONE_O_CLOCK) == (tables[ITEMS].last_change_at, tables[ORDERS].last_change_at)


def test_changes_whose_time_is_not_known_keep_the_time_of_those_before() -> None:
    reporter = Reporter()
    applied(reporter, {ITEMS: {"insert": 1}}, at=NOON)
    applied(reporter, {ITEMS: {"insert": 1}}, at=None)
    assert TableCounts(inserted=2, last_change_at=NOON, last_lsn=Lsn(1)) == reporter.read().tables[ITEMS]


def test_the_last_commit_and_lag_survive_a_delivery_without_changes() -> None:
    reporter = Reporter()
    applied(reporter, {ITEMS: {"insert": 1}}, lsn=10, at=NOON)
    lag = reporter.read().lag_seconds
    applied(reporter, {}, lsn=20, at=None)
    report = reporter.read()
    assert Lsn(10) == report.tables[ITEMS].last_lsn
    assert lag is not None
    assert (Lsn(20), NOON, lag) == (report.applied_lsn, report.last_commit_at, report.lag_seconds)


def test_a_lag_of_zero_replaces_the_lag_before() -> None:
    reporter = Reporter()
    applied(reporter, {}, at=NOON)
    applied(reporter, {}, at=datetime.now(UTC) + timedelta(hours=1))
    assert 0.0 == reporter.read().lag_seconds


def test_of_what_becomes_durable_at_once_each_table_has_its_own_last_change() -> None:
    reporter = Reporter()
    reporter.applied(
        [
            part({ITEMS: {"insert": 1}}, lsn=10, at=NOON),
            part({ITEMS: {"insert": 2, "delete": 1}, ORDERS: {"update": 1}}, lsn=20, at=NOON),
            part({ORDERS: {"update": 1}}, lsn=30, at=ONE_O_CLOCK),
            part({}, lsn=40, at=None),
        ]
    )
    report = reporter.read()
    items = TableCounts(inserted=3, deleted=1, last_change_at=NOON, last_lsn=Lsn(20))
    orders = TableCounts(updated=2, last_change_at=ONE_O_CLOCK, last_lsn=Lsn(30))
    assert {ITEMS: items, ORDERS: orders} == report.tables
    assert (Lsn(40), ONE_O_CLOCK) == (report.applied_lsn, report.last_commit_at)


def test_success_is_timed_by_the_last_delivery_even_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 200.0])
    monkeypatch.setattr("rosetta_dagster.cdc.report.time.monotonic", lambda: next(ticks))
    reporter = Reporter()
    assert reporter.read().last_success is None
    applied(reporter, {ITEMS: {"insert": 1}})
    applied(reporter, {}, at=None)
    assert 200.0 == reporter.read().last_success


def test_copying_is_no_success_of_streaming() -> None:
    reporter = Reporter()
    reporter.copied(ITEMS, 1)
    assert reporter.read().last_success is None


def test_a_report_once_read_does_not_change() -> None:
    reporter = Reporter()
    applied(reporter, {ITEMS: {"insert": 1}}, lsn=1)
    before = reporter.read()
    applied(reporter, {ITEMS: {"insert": 1}, ORDERS: {"delete": 1}}, lsn=2)
    reporter.copied(ITEMS, 9)
    assert {ITEMS: TableCounts(inserted=1, last_change_at=NOON, last_lsn=Lsn(1))} == before.tables
    assert Lsn(1) == before.applied_lsn
