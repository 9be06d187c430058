"""The checks of a pipeline: what is late, stale, drifted or missing is said, with figures, and by executing them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import Health, Status
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.operate import health
from rosetta_dagster.cdc.operate.health import CAUGHT_UP_BYTES, Observation, growth, observe
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import WalSample
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.sensors import _due
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.rows import add_pipeline, state_of

QUICK = {"wal_lag", "health", "freshness"}
OF_TABLES = {"replicated", "schema_drift", "row_count"}


def slot(
    retained_bytes: int = 0, *, lag_bytes: int = 0, safe: int | None = None, wal_status: str = "reserved"
) -> SlotReading:
    return SlotReading(True, wal_status, Lsn(1), retained_bytes, lag_bytes, safe, Lsn(2))


def observation(reading: SlotReading | None, **changes: Any) -> Observation:
    fields: dict[str, Any] = {"state": state_of(), "slot_name": "s", "slot": reading, "error": None, **changes}
    return Observation(**fields)


@pytest.mark.parametrize(
    ("reading", "grown", "expected"),
    [
        (slot(99), None, Health.HEALTHY),
        (slot(100), None, Health.WARNING),
        (slot(0, lag_bytes=100), None, Health.WARNING),
        (slot(1000), None, Health.ERROR),
        (slot(wal_status="lost"), None, Health.ERROR),
        (slot(wal_status="unreserved"), None, Health.ERROR),
        (slot(wal_status="extended"), None, Health.WARNING),
        # 3,600 bytes are left: at 0.5, 1 and 60 bytes a second for two hours, one hour and one minute.
        (slot(safe=3600), 0.5, Health.WARNING),
        (slot(safe=3600), 1.0, Health.ERROR),
        (slot(safe=3600), 60.0, Health.ERROR),
        (slot(safe=3600), 0.1, Health.HEALTHY),
        (slot(safe=3600), -60.0, Health.HEALTHY),
        (slot(safe=None), 60.0, Health.HEALTHY),
    ],
)
def test_a_slot_is_judged_by_what_it_retains_and_by_how_long_it_lasts(
    reading: SlotReading, grown: float | None, expected: Health
) -> None:
    thresholds = Thresholds(wal_warning_bytes=100, wal_error_bytes=1000)
    assert expected is observation(reading, growth=grown, thresholds=thresholds).lag


def test_growth_is_measured_between_two_samples_that_are_far_enough_apart() -> None:
    assert 5.0 == growth(WalSample(retained_bytes=1000, age=10.0), 1050)
    assert growth(WalSample(retained_bytes=1000, age=1.0), 1050) is None
    assert growth(WalSample(retained_bytes=None, age=None), 1050) is None


@pytest.mark.parametrize(
    ("silence", "lag_seconds", "lag_bytes", "expected"),
    [
        # Idle for a day: the stream tells the slot every few seconds that it is caught up.
        (5, 0.1, 0, Health.HEALTHY),
        # What it applied last was old, but it has caught up since.
        (5, 4000.0, CAUGHT_UP_BYTES, Health.HEALTHY),
        (5, 4000.0, CAUGHT_UP_BYTES + 1, Health.ERROR),
        (5, 600.0, CAUGHT_UP_BYTES + 1, Health.WARNING),
        (400, None, 0, Health.WARNING),
        (4000, None, 0, Health.ERROR),
    ],
)
def test_a_source_that_is_idle_is_not_stale_and_a_backlog_is(
    silence: float, lag_seconds: float | None, lag_bytes: int, expected: Health
) -> None:
    last = datetime.now(UTC) - timedelta(seconds=silence)
    state = state_of(last_success_time=last, lag_seconds=lag_seconds)
    assert expected is observation(slot(lag_bytes=lag_bytes), state=state).freshness
    paused = state_of(last_success_time=last, lag_seconds=lag_seconds, status=Status.PAUSE)
    assert Health.HEALTHY is observation(slot(lag_bytes=lag_bytes), state=paused).freshness


@pytest.fixture
def shop(store: Store, settings: Settings, source: Database, destination: Database) -> str:
    """A pipeline whose tables are copied, and the same on both sides. Its slot has to be of this test alone."""
    for database in (source, destination):
        database.run(
            "CREATE TABLE orders (id int PRIMARY KEY, note varchar(40), at timestamptz NOT NULL)",
            "CREATE TABLE items (id int PRIMARY KEY)",
            "INSERT INTO items SELECT generate_series(1, 1000)",
        )
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders", "items")
    with store.connected() as connection:
        connection.execute("UPDATE pipeline_tables SET state = 'STREAMING'")
    return name


def evaluated(
    store: Store, settings: Settings, instance: dg.DagsterInstance, name: str, *checks: str
) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks as the UI executes them."""
    keys = {dg.AssetCheckKey(dg.AssetKey(["rosetta", name]), check) for check in checks}
    job = build(store.shapes(), settings).resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_selection=set(), asset_check_selection=keys).execute_in_process(instance=instance)
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def test_every_check_executes_alone(store: Store, settings: Settings, instance: dg.DagsterInstance, shop: str) -> None:
    for check in QUICK:
        assert [check] == list(evaluated(store, settings, instance, shop, check))


def test_thresholds_are_of_the_pipeline_and_wrong_ones_are_reported(store: Store, shop: str) -> None:
    with store.connected() as connection:
        connection.execute("""UPDATE pipelines SET thresholds = '{"wal_warning_bytes": 1}'""")
    assert 1 == observe(store, shop).thresholds.wal_warning_bytes
    with store.connected() as connection:
        connection.execute("""UPDATE pipelines SET thresholds = '{"wal_waning_bytes": 1}'""")
    assert "wal_waning_bytes" in (observe(store, shop).error or "")


def test_the_forecast_of_a_real_slot(store: Store, shop: str, source: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SHORTEST_SAMPLE", 0.01)
    source.run(f"SELECT pg_create_logical_replication_slot('rosetta_{shop}', 'pgoutput')")
    assert observe(store, shop).growth is None
    source.run("INSERT INTO items SELECT generate_series(10000, 60000)")
    grown = observe(store, shop)
    assert grown.growth is not None
    assert grown.growth > 1_000_000
    assert grown.seconds_until_lost is None


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[tuple[str, str]], str]:
    """Evaluate the health sensor, as the daemon does; the checks that it reports, by asset, and its cursor."""
    sensor = definitions.resolve_sensor_def("rosetta_health_sensor")
    context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def(), cursor=cursor)
    found = sensor.evaluate_tick(context)
    assert found.cursor is not None
    events = [each for each in found.asset_events if isinstance(each, dg.AssetCheckEvaluation)]
    for event in events:
        instance.report_runless_asset_event(event)
    return [(each.asset_key.path[-1], each.check_name) for each in events], found.cursor


def test_the_health_sensor_reports_every_check_and_tables_in_their_turn(
    store: Store, settings: Settings, instance: dg.DagsterInstance, shop: str, destination: Database
) -> None:
    definitions = build(store.shapes(), settings)
    quick = {(shop, name) for name in QUICK}
    found, cursor = tick(definitions, instance, None)
    assert quick | {(table, check) for table in ("orders", "items") for check in OF_TABLES} == set(found)
    found, cursor = tick(definitions, instance, cursor)
    assert quick == set(found)

    # What is as it was is not reported again: a check of each table would fill Dagster's log.
    long_ago = json.dumps({name: at - 3601 for name, at in json.loads(cursor).items()})
    found, _ = tick(definitions, instance, long_ago)
    assert quick == set(found)
    destination.run("DELETE FROM items WHERE id <= 20")
    found, _ = tick(definitions, instance, long_ago)
    assert quick | {("items", "row_count")} == set(found)
    # After a materialization, Dagster no longer shows what was found before.
    orders = dg.AssetKey([f"{shop}_dw", "public", "orders"])
    instance.report_runless_asset_event(dg.AssetMaterialization(orders))
    found, _ = tick(definitions, instance, long_ago)
    assert quick | {("orders", check) for check in OF_TABLES} == set(found)


def test_tables_whose_turn_does_not_come_are_first_in_the_next_tick() -> None:
    assert ["c", "a"] == _due(["a", "b", "c"], {"a": 1.0, "b": datetime.now(UTC).timestamp()}, 10)
