"""`on_table_change()` loses no change of a table, wherever it falls between Dagster's ticks and the asset's runs."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.orchestration import on_table_change

TABLE = dg.AssetKey(["warehouse", "public", "orders"])
DAILY = dg.DailyPartitionsDefinition("2026-01-01")

_VERSIONS = itertools.count()


class Downstream:
    """An asset made from one replicated table, the automation that requests it, and its runs."""

    def __init__(self, instance: dg.DagsterInstance, partitions: dg.PartitionsDefinition[str] | None) -> None:
        @dg.asset(deps=[TABLE], automation_condition=on_table_change(), partitions_def=partitions)
        def report() -> None:
            self.during_run()
            if self.fails:
                raise dg.Failure("not now")

        self.during_run: Callable[[], None] = lambda: None
        self.fails = False
        self._report = report
        self._is_partitioned = partitions is not None
        self._definitions = dg.Definitions(assets=[report, dg.AssetSpec(TABLE)])
        self._instance = instance
        self._cursor: Any = None
        # Later than the first partitions, so that one is complete.
        self._now = datetime.now(UTC)

    def change_table(self) -> None:
        tags = {"dagster/data_version": str(next(_VERSIONS))}
        self._instance.report_runless_asset_event(dg.AssetMaterialization(TABLE, tags=tags))

    def tick(self) -> list[str | None]:
        """Evaluate the condition; the partitions that it requests, [None] for the asset without partitions."""
        self._now += timedelta(seconds=30)
        result = dg.evaluate_automation_conditions(
            self._definitions, instance=self._instance, cursor=self._cursor, evaluation_time=self._now
        )
        self._cursor = result.cursor
        if not self._is_partitioned:
            return [None] * result.get_num_requested(self._report.key)
        return sorted(result.get_requested_partitions(self._report.key), key=str)

    def run(self, requested: list[str | None]) -> None:
        for partition in requested:
            dg.materialize(
                [self._report], instance=self._instance, partition_key=partition, raise_on_error=False,
                tags={"dagster/from_automation_condition": "true"},
            )  # fmt: skip


@pytest.fixture(params=[None, DAILY], ids=["unpartitioned", "daily"])
def downstream(request: pytest.FixtureRequest, instance: dg.DagsterInstance) -> Downstream:
    """An asset whose first run is over, so that its table's next change is the only reason to run again."""
    made = Downstream(instance, request.param)
    made.tick()
    made.change_table()
    first = made.tick()
    assert 1 == len(first)
    made.run(first)
    assert [] == made.tick()
    return made


def test_one_change_is_one_run_of_the_latest_partition(downstream: Downstream) -> None:
    downstream.change_table()
    requested = downstream.tick()
    assert 1 == len(requested)
    downstream.run(requested)
    assert [] == downstream.tick() == downstream.tick()


def test_a_change_during_a_run_is_not_lost(downstream: Downstream) -> None:
    downstream.change_table()
    downstream.during_run = downstream.change_table
    downstream.run(downstream.tick())
    downstream.during_run = lambda: None
    requested = downstream.tick()
    assert 1 == len(requested)
    downstream.run(requested)
    assert [] == downstream.tick()


def test_a_change_between_the_end_of_a_run_and_the_next_tick_is_not_lost(downstream: Downstream) -> None:
    downstream.change_table()
    downstream.run(downstream.tick())
    downstream.change_table()
    assert 1 == len(downstream.tick())


def test_a_change_is_not_lost_when_the_run_that_it_asked_for_fails(downstream: Downstream) -> None:
    downstream.change_table()
    downstream.fails = True
    downstream.run(downstream.tick())
    downstream.fails = False
    requested = downstream.tick()
    assert 1 == len(requested)
    downstream.run(requested)
    assert [] == downstream.tick()


def test_nothing_runs_while_no_table_changes(downstream: Downstream) -> None:
    assert [] == downstream.tick() == downstream.tick()


def test_an_asset_that_is_added_beside_existing_tables_runs_once(instance: dg.DagsterInstance) -> None:
    downstream = Downstream(instance, None)
    downstream.change_table()
    requested = downstream.tick()
    assert [None] == requested
    downstream.run(requested)
    assert [] == downstream.tick() == downstream.tick()


def test_a_change_during_a_run_that_takes_several_ticks_is_not_lost(downstream: Downstream) -> None:
    downstream.change_table()
    requested = downstream.tick()
    seen: list[list[str | None]] = []

    def over_two_ticks() -> None:
        downstream.change_table()
        seen.extend([downstream.tick(), downstream.tick()])

    downstream.during_run = over_two_ticks
    downstream.run(requested)
    assert [[], []] == seen
    downstream.during_run = lambda: None
    assert 1 == len(downstream.tick())
