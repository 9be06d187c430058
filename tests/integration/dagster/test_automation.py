"""Dagster's own automation works downstream of tables while their stream runs, which can take months."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.pipeline_job import run_while
from tests.support.rows import add_pipeline
from tests.support.waiting import eventually

DAILY = dg.DailyPartitionsDefinition("2026-01-01")


class Automation:
    """Assets that are made from the tables of a pipeline, and what Dagster requests of them while it runs."""

    def __init__(self, store: Store, settings: Settings, instance: dg.DagsterInstance, name: str) -> None:
        self.store, self.settings, self.instance, self.name = store, settings, instance, name
        self.orders, self.items = (dg.AssetKey([f"{name}_dw", "public", table]) for table in ("orders", "items"))
        self._cursor: Any = None

    def define(self, *assets: dg.AssetsDefinition) -> None:
        self.definitions = dg.Definitions.merge(build(self.store.shapes(), self.settings), dg.Definitions(assets=[*assets]))
        self.assets = {asset.key.path[-1]: asset for asset in assets}

    def tick(self, at: datetime | None = None) -> dict[str, list[str | None]]:
        """Evaluate all conditions; the requested partitions by asset, [None] for one without partitions."""
        found = dg.evaluate_automation_conditions(
            self.definitions, instance=self.instance, cursor=self._cursor, evaluation_time=at or datetime.now(UTC)
        )
        self._cursor = found.cursor
        return {
            name: sorted(found.get_requested_partitions(asset.key), key=str) if asset.partitions_def else [None]
            for name, asset in self.assets.items()
            if found.get_num_requested(asset.key)
        }

    def run(self, requested: dict[str, list[str | None]]) -> None:
        for name, partitions in requested.items():
            for partition in partitions:
                dg.materialize([self.assets[name]], instance=self.instance, partition_key=partition)

    def count(self, key: dg.AssetKey) -> int:
        return len(self.instance.fetch_materializations(key, limit=100).records)


@pytest.fixture
def automation(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> Automation:
    source.run("CREATE TABLE orders (id int PRIMARY KEY)", "CREATE TABLE items (id int PRIMARY KEY)")
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders", "items")
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = 'PGOUTPUT', status = 'START'")
    return Automation(store, settings, instance, name)


def test_eager_assets_run_once_for_a_change_beside_the_stream(automation: Automation, source: Database) -> None:
    @dg.asset(deps=[automation.orders], automation_condition=dg.AutomationCondition.eager())
    def report() -> None: ...

    @dg.asset(deps=[automation.orders], automation_condition=dg.AutomationCondition.eager(), partitions_def=DAILY)
    def daily() -> None: ...

    automation.define(report, daily)
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    once = {"report": [None], "daily": [yesterday]}

    def operate() -> None:
        automation.tick()
        eventually(lambda: automation.count(automation.orders) == 1)
        automation.run(automation.tick())
        assert {} == automation.tick() == automation.tick()
        source.run("INSERT INTO orders VALUES (1)")
        eventually(lambda: automation.count(automation.orders) == 2)
        requested = automation.tick()
        assert once == requested
        automation.run(requested)
        assert {} == automation.tick() == automation.tick()

    assert run_while(automation.store, automation.settings, automation.instance, automation.name, operate).success


def test_assets_on_a_schedule_run_after_all_tables_were_confirmed(automation: Automation, source: Database) -> None:
    condition = dg.AutomationCondition.on_cron("@daily")

    @dg.asset(deps=[automation.orders, automation.items], automation_condition=condition)
    def nightly() -> None: ...

    automation.define(nightly)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    settings = automation.settings.model_copy(update={"confirm_interval_seconds": 2})

    def operate() -> None:
        eventually(lambda: automation.count(automation.items) > 0)
        automation.tick()
        assert {} == automation.tick(tomorrow)
        source.run("INSERT INTO orders VALUES (1)")
        confirmed = automation.count(automation.items)
        # Nobody writes to it.
        eventually(lambda: automation.count(automation.items) > confirmed)
        eventually(lambda: automation.tick(tomorrow + timedelta(seconds=30)) == {"nightly": [None]})

    assert run_while(automation.store, settings, automation.instance, automation.name, operate).success
