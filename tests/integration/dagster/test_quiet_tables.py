"""A table that does not change is neither missing nor stale in Dagster, and may be confirmed as of now."""

from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration import DestinationTable, RosettaTranslator, SourceTable, Stream
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.pipeline_job import run_while
from tests.support.rows import add_pipeline
from tests.support.waiting import eventually


class Prefixed(RosettaTranslator):
    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(key=spec.key.with_prefix("kept")) if isinstance(data, DestinationTable) else spec


class Shop:
    """A pipeline of one table, which nobody writes."""

    def __init__(self, store: Store, settings: Settings, name: str) -> None:
        self.store, self.settings, self.name = store, settings, name
        self.orders = dg.AssetKey([f"{name}_dw", "public", "orders"])

    def run(self, instance: dg.DagsterInstance, translator: RosettaTranslator | None = None, **settings: Any) -> list[str]:
        """Run the pipeline until it streams. The data versions of the table's materializations, the newest first."""
        self.store.set_status(self.name, Status.START)
        changed = self.settings.model_copy(update=settings)
        key = self.orders if translator is None else self.orders.with_prefix("kept")
        seen = len(versions(instance, key))

        def until_streaming() -> None:
            eventually(lambda: self.store.state(self.name).run_status == "STREAMING")
            if settings:
                eventually(lambda: len(versions(instance, key)) > seen + 1)

        assert run_while(self.store, changed, instance, self.name, until_streaming, translator=translator).success
        assert "FRESH" == self.status(instance, key, translator)
        return versions(instance, key)

    def status(self, instance: dg.DagsterInstance, key: dg.AssetKey, translator: RosettaTranslator | None) -> str:
        graph = build(self.store.shapes(), self.settings, translator=translator).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        return resolver.get_status(key).value


def versions(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[str]:
    records = instance.fetch_materializations(key, limit=20).records
    return [(record.event_log_entry.tags or {})["dagster/data_version"] for record in records]


@pytest.fixture
def shop(store: Store, settings: Settings, source: Database, destination: Database) -> Shop:
    source.run("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 3)")
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders")
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = 'PGOUTPUT'")
    return Shop(store, settings, name)


def test_a_quiet_table_is_materialized_again_only_where_dagster_has_lost_it(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    (copied,) = shop.run(instance)
    assert [copied] == shop.run(instance)
    instance.wipe_assets([shop.orders])
    assert [copied] == shop.run(instance)
    # A run that was killed may have applied changes that it could not report.
    with shop.store.connected() as connection:
        connection.execute("UPDATE pipeline_metadata SET status = 'FAILED'")
    killed, before = shop.run(instance)
    assert copied == before != killed


def test_a_quiet_table_is_known_to_another_instance_and_under_another_key(shop: Shop, instance: dg.DagsterInstance) -> None:
    (copied,) = shop.run(instance)
    assert [copied] == shop.run(instance, Prefixed())
    with dg.DagsterInstance.ephemeral() as other:
        assert [copied] == shop.run(other)


def test_a_quiet_table_is_confirmed_when_that_is_asked_for(shop: Shop, instance: dg.DagsterInstance) -> None:
    (copied,) = shop.run(instance)
    confirmed = shop.run(instance, confirm_interval_seconds=1)
    assert len(confirmed) > 1
    assert {copied} == set(confirmed)
