"""A run that materializes tables waits until they hold what the source had when it began. It never starts a pipeline."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.operate import catch_up
from rosetta_dagster.cdc.source.slot_reading import slot_reading
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration import DestinationTable, RosettaTranslator, SourceTable, Stream
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.rows import add_pipeline
from tests.support.supervised import Run
from tests.support.waiting import eventually


class Shop:
    """A pipeline of two tables, and what a team makes from them."""

    def __init__(
        self, store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE orders (id int PRIMARY KEY)",
            "CREATE TABLE items (id int PRIMARY KEY, note text)",
            "INSERT INTO orders SELECT generate_series(1, 3)",
            "INSERT INTO items VALUES (1), (2)",
        )
        self.name = source.connection.database
        self.store, self.instance, self.source, self.destination = store, instance, source, destination
        add_pipeline(store, self.name, source, destination, "orders", "items")
        with store.connected() as connection:
            connection.execute("UPDATE pipelines SET engine = 'PGOUTPUT'")
        self.orders, self.items = (dg.AssetKey([f"{self.name}_dw", "public", name]) for name in ("orders", "items"))
        #: What `report` found at the destination, each time it ran.
        self.seen: list[int] = []
        #: The checks of the last run.
        self.checks: list[dg.AssetCheckEvaluation] = []

        @dg.asset(deps=[self.orders])
        def report() -> None:
            ((count,),) = destination.rows("SELECT count(*) FROM orders")
            self.seen.append(count)

        self.report = report
        self.definitions = dg.Definitions.merge(
            build(store.shapes(), settings), dg.Definitions(assets=[report], executor=dg.in_process_executor)
        )

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """The stream runs while the block lasts, as in its own process."""
        self.store.set_status(self.name, Status.START)
        run = Run(self.store, self.name)
        try:
            eventually(lambda: self.store.state(self.name).run_status == "STREAMING")
            yield
        finally:
            self.store.set_status(self.name, Status.PAUSE)
            run.wait()

    def materialize(self, *keys: dg.AssetKey, **config: Any) -> dg.ExecuteInProcessResult:
        """Do what the button does."""
        job = self.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(keys))
        run_config = {"ops": {f"tables_{self.name}": {"config": config}}} if config else None
        result = job.execute_in_process(instance=self.instance, raise_on_error=False, run_config=run_config)
        self.checks = list(result.get_asset_check_evaluations())
        return result

    def versions(self, key: dg.AssetKey) -> list[str]:
        """The data versions of an asset, the newest first."""
        records = self.instance.fetch_materializations(key, limit=20).records
        return [(record.event_log_entry.tags or {})["dagster/data_version"] for record in records]


@pytest.fixture
def shop(store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database) -> Shop:
    return Shop(store, settings, instance, source, destination)


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    found = event.step_failure_data.user_failure_data
    assert found is not None
    return f"{found.description} {found.metadata['remedy'].value}"


def test_a_run_of_everything_ends_and_has_what_was_committed_before_it(shop: Shop) -> None:
    with shop.streaming():
        for last in (10, 20, 30):
            shop.source.run(f"INSERT INTO orders SELECT generate_series({last - 6}, {last})")
            assert shop.materialize(shop.orders, shop.items, shop.report.key).success
            assert shop.source.rows("SELECT count(*) FROM orders") == [(shop.seen[-1],)]
    assert 3 == len(set(shop.versions(shop.orders)))
    assert 1 == len(set(shop.versions(shop.items)))


def test_a_change_that_waits_at_the_destination_keeps_the_run_waiting(shop: Shop) -> None:
    with shop.streaming():
        with shop.destination.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE orders IN SHARE MODE")
            shop.source.run("INSERT INTO orders VALUES (4)")
            # Long enough for two reports of the run.
            assert "cannot catch up" in failure(shop.materialize(shop.orders, timeout_seconds=6.0))
        assert shop.materialize(shop.orders).success


def test_one_table_alone_is_materialized_with_what_it_is_made_of(shop: Shop) -> None:
    with shop.store.connected() as connection:
        connection.execute("UPDATE pipeline_tables SET row_filter = 'id < 5' WHERE table_name = 'orders'")
    with shop.streaming():
        shop.source.run("INSERT INTO orders VALUES (4), (5)")
        result = shop.materialize(shop.orders)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    metadata: dict[str, Any] = dict(event.materialization.metadata)
    assert shop.orders == event.asset_key
    assert 4 == metadata["dagster/row_count"].value
    assert ["id"] == [column.name for column in metadata["dagster/column_schema"].value.columns]
    assert "(id < 5)" == metadata["row_filter"].value


def test_a_source_that_is_idle_keeps_nobody_waiting(shop: Shop) -> None:
    with shop.streaming():
        assert shop.materialize(shop.items).success
        # Less than the ten seconds after which an idle stream writes a heartbeat.
        assert shop.materialize(shop.items, timeout_seconds=8.0).success


def test_a_paused_pipeline_is_not_started_and_the_run_says_how_to(shop: Shop) -> None:
    assert "is paused, so its tables do not change. Start it: rosetta start" in failure(shop.materialize(shop.orders))
    assert "is paused" in failure(shop.materialize(shop.orders, resync=True))
    assert Status.PAUSE is shop.store.status(shop.name)
    assert not any(record.resync for record in shop.store.tables(shop.name))


def test_a_table_that_is_paused_fails_the_run_at_once(shop: Shop) -> None:
    shop.store.set_status(shop.name, Status.START)
    shop.store.pause_table(shop.name, TableId("public", "items"), paused=True)
    assert "is paused. Resume it: rosetta table resume" in failure(shop.materialize(shop.items))
    assert "is paused" in failure(shop.materialize(shop.items, resync=True))
    assert not any(record.resync for record in shop.store.tables(shop.name))


def test_a_pause_ends_a_run_that_waits(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.store.set_status(shop.name, Status.START)

    def paused(*args: Any) -> Any:
        shop.store.set_status(shop.name, Status.PAUSE)
        return slot_reading(*args)

    monkeypatch.setattr(catch_up, "slot_reading", paused)
    assert "is paused" in failure(shop.materialize(shop.orders))
    assert Status.PAUSE is shop.store.status(shop.name)


def test_a_table_that_is_set_aside_fails_the_run_and_a_resync_restores_it(shop: Shop) -> None:
    with shop.streaming():
        shop.destination.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (id < 100)")
        shop.source.run("INSERT INTO orders VALUES (100)")
        eventually(lambda: shop.store.state(shop.name).table_errors)
        said = failure(shop.materialize(shop.orders))
        assert "Table public.orders" in said
        assert "UPDATE pipeline_tables SET resync = true" in said
        (check,) = (each for each in shop.checks if each.check_name == "replicated")
        assert (False, True) == (check.passed, check.blocking)
        assert shop.materialize(shop.items).success
        assert [True, True, True] == [each.passed for each in shop.checks]

        shop.destination.run("ALTER TABLE orders DROP CONSTRAINT small")
        assert shop.materialize(shop.orders, resync=True).success
        assert [(4,)] == shop.destination.rows("SELECT count(*) FROM orders")
        assert not shop.store.state(shop.name).table_errors


def test_a_run_that_waits_in_vain_ends_and_says_for_what(shop: Shop) -> None:
    shop.store.set_status(shop.name, Status.START)
    said = failure(shop.materialize(shop.orders, timeout_seconds=1.0))
    assert "cannot catch up with the source within 1 seconds. No run has started yet." in said
    shop.store.report_failure(shop.store.state(shop.name).id, None, "Role app may not replicate.", transient=False)
    assert "Role app may not replicate." in failure(shop.materialize(shop.orders, timeout_seconds=60.0))


class OneKey(RosettaTranslator):
    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(key="everything") if isinstance(data, DestinationTable) else spec


def test_tables_that_share_a_key_are_awaited_and_checked_together(shop: Shop, settings: Settings) -> None:
    shop.definitions = build(shop.store.shapes(), settings, translator=OneKey())
    with shop.streaming():
        result = shop.materialize(dg.AssetKey("everything"))
        assert result.success
        assert 1 == len(result.get_asset_materialization_events())
        assert [True, True, True] == [each.passed for each in shop.checks]
        shop.destination.run("DELETE FROM items")
        shop.materialize(dg.AssetKey("everything"))
    (rows,) = (each for each in shop.checks if each.check_name == "row_count")
    assert (5, 3) == (rows.metadata["source_rows"].value, rows.metadata["destination_rows"].value)


def test_a_run_sees_the_table_that_got_the_name_just_before_it(shop: Shop) -> None:
    """No change of the stream tells of it, and the slot is caught up at once."""
    with shop.streaming():
        shop.source.run(
            "CREATE TABLE fresh (LIKE orders INCLUDING ALL)",
            "INSERT INTO fresh SELECT generate_series(1, 7)",
            "BEGIN",
            "ALTER TABLE orders RENAME TO old_orders",
            "ALTER TABLE fresh RENAME TO orders",
            "COMMIT",
        )
        assert shop.materialize(shop.orders).success
        assert [(7,)] == shop.destination.rows("SELECT count(*) FROM orders")
