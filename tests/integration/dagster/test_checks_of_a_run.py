"""What Dagster shows of tables' checks while a pipeline runs, and what automation makes of a check that blocks."""

import asyncio
from typing import Any

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.pipeline_job import run_while
from tests.support.rows import add_pipeline
from tests.support.waiting import eventually


class Shop:
    """A pipeline and one of its tables, as Dagster shows it."""

    def __init__(self, store: Store, instance: dg.DagsterInstance, name: str) -> None:
        self.store, self.instance, self.name = store, instance, name
        self.orders = dg.AssetKey([f"{name}_dw", "public", "orders"])

    def shown(self, check: str) -> dg.AssetCheckEvaluation | None:
        """The evaluation that the page of the table shows."""
        key = dg.AssetCheckKey(self.orders, check)
        found = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
        record: AssetCheckExecutionRecord | None = found.get(key)
        is_shown = record is not None and asyncio.run(
            record.targets_latest_materialization(LoadingContextForTest(self.instance))
        )
        return record.evaluation if record is not None and is_shown else None

    def row_counts(self) -> list[Any]:
        """The row count of each materialization of the table, the newest first."""
        records = self.instance.fetch_materializations(self.orders, limit=20).records
        found = [record.asset_materialization for record in records]
        return [each.metadata["dagster/row_count"].value for each in found if each is not None]

    def passes(self) -> bool:
        return (shown := self.shown("replicated")) is not None and shown.passed

    def fails(self) -> bool:
        return (shown := self.shown("replicated")) is not None and not shown.passed


@pytest.fixture
def shop(store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database) -> Shop:
    # A run whose only table is set aside ends.
    source.run("CREATE TABLE items (id int PRIMARY KEY)")
    source.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 3)")
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders", "items")
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = 'PGOUTPUT', status = 'START'")
    return Shop(store, instance, name)


def test_checks_stay_shown_while_the_table_changes_and_after_a_pause(
    shop: Shop, settings: Settings, source: Database
) -> None:
    counted = dg.AssetCheckEvaluation(shop.orders, "row_count", passed=False, description="2 rows are missing.")

    def operate() -> None:
        eventually(shop.passes)
        # As a run of the button and the health sensor report theirs.
        shop.instance.report_runless_asset_event(counted)
        source.run("INSERT INTO orders VALUES (4)")
        eventually(lambda: shop.row_counts()[0] == 4)
        eventually(lambda: shop.shown("row_count"))
        eventually(shop.passes)

    assert run_while(shop.store, settings, shop.instance, shop.name, operate).success
    assert shop.passes()
    row_count = shop.shown("row_count")
    assert row_count is not None
    assert "2 rows are missing." == row_count.description


def test_automation_waits_for_a_table_that_is_set_aside(
    shop: Shop, settings: Settings, source: Database, destination: Database
) -> None:
    condition = dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()

    @dg.asset(deps=[shop.orders], automation_condition=condition)
    def report() -> None: ...

    definitions = dg.Definitions.merge(build(shop.store.shapes(), settings), dg.Definitions(assets=[report]))
    cursor: Any = None
    requested: list[int] = []

    def tick() -> int:
        nonlocal cursor
        found = dg.evaluate_automation_conditions(definitions, instance=shop.instance, cursor=cursor)
        cursor = found.cursor
        requested.append(found.get_num_requested(report.key))
        return requested[-1]

    def operate() -> None:
        eventually(shop.passes)
        tick()
        dg.materialize([report], instance=shop.instance)
        source.run("INSERT INTO orders VALUES (4)")
        eventually(tick)
        dg.materialize([report], instance=shop.instance)

        destination.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (id < 100)")
        source.run("INSERT INTO orders VALUES (5)", "INSERT INTO orders VALUES (100)")
        eventually(shop.fails)
        shop.instance.report_runless_asset_event(dg.AssetMaterialization(shop.orders))
        assert 0 == tick() == tick()
        destination.run("ALTER TABLE orders DROP CONSTRAINT small")
        shop.store.ask_resync(shop.name, TableId("public", "orders"))
        eventually(shop.passes)
        eventually(tick)

    assert run_while(shop.store, settings, shop.instance, shop.name, operate).success
    assert Status.PAUSE is shop.store.status(shop.name)
