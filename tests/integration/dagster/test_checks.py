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

CHECKS = {"wal_lag", "health", "freshness", "schema_drift", "row_count"}


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
    for check in CHECKS:
        assert [check] == list(evaluated(store, settings, instance, shop, check))


@pytest.fixture
def both(source: Database, destination: Database) -> tuple[Database, Database]:
    return source, destination


def test_drift_is_reported_with_the_statement_that_ends_it(
    store: Store, settings: Settings, instance: dg.DagsterInstance, shop: str, both: tuple[Database, Database]
) -> None:
    source, destination = both
    assert evaluated(store, settings, instance, shop, "schema_drift")["schema_drift"].passed
    source.run(
        "ALTER TABLE orders ALTER note TYPE text",
        "ALTER TABLE orders ADD price numeric(10,2)",
        "CREATE TYPE mood AS ENUM ()",
    )
    source.run("ALTER TABLE items ADD mood mood")
    destination.run("ALTER TABLE orders ADD old int", "CREATE TYPE mood AS ENUM ()", "ALTER TABLE items ADD mood mood")
    found = evaluated(store, settings, instance, shop, "schema_drift")["schema_drift"]
    assert (False, dg.AssetCheckSeverity.WARN) == (found.passed, found.severity)
    statements = str(found.metadata["statements"].value)
    for statement in (
        'ALTER TABLE "public"."orders" ALTER COLUMN "note" TYPE text;',
        'ALTER TABLE "public"."orders" ADD COLUMN "price" numeric(10,2);',
        'ALTER TABLE "public"."orders" DROP COLUMN "old";',
    ):
        assert statement in statements
    assert 3 == found.metadata["differences"].value

    destination.run("ALTER TABLE orders ALTER old SET NOT NULL")
    found = evaluated(store, settings, instance, shop, "schema_drift")["schema_drift"]
    assert dg.AssetCheckSeverity.ERROR is found.severity
    destination.run("DROP TABLE items")
    found = evaluated(store, settings, instance, shop, "schema_drift")["schema_drift"]
    assert 'CREATE TABLE IF NOT EXISTS "public"."items"' in str(found.metadata["statements"].value)


def test_missing_rows_are_reported_beyond_the_tolerance(
    store: Store, settings: Settings, instance: dg.DagsterInstance, shop: str, destination: Database
) -> None:
    destination.run("DELETE FROM items WHERE id <= 10")
    assert evaluated(store, settings, instance, shop, "row_count")["row_count"].passed
    destination.run("DELETE FROM items WHERE id <= 20")
    found = evaluated(store, settings, instance, shop, "row_count")["row_count"]
    assert not found.passed
    assert "public.items has 980 rows" in (found.description or "")
    with store.connected() as connection:
        connection.execute("""UPDATE pipelines SET thresholds = '{"row_count_tolerance": 0.02}'""")
    assert evaluated(store, settings, instance, shop, "row_count")["row_count"].passed


def test_a_table_that_is_still_to_be_copied_is_not_called_different(
    store: Store, settings: Settings, instance: dg.DagsterInstance, shop: str, destination: Database
) -> None:
    destination.run("DROP TABLE items")
    for waiting in (
        "state = 'SNAPSHOT' WHERE table_name = 'items'", "state = 'PENDING' WHERE table_name = 'items'", "state = 'PENDING'"
    ):  # fmt: skip
        with store.connected() as connection:
            connection.execute("UPDATE pipeline_tables SET " + waiting)
        found = evaluated(store, settings, instance, shop, "schema_drift", "row_count")
        assert {"schema_drift": True, "row_count": True} == {name: each.passed for name, each in found.items()}


def test_what_cannot_be_inspected_fails_the_check_with_the_reason(
    store: Store, settings: Settings, instance: dg.DagsterInstance, shop: str
) -> None:
    with store.connected() as connection:
        connection.execute('UPDATE destinations SET config = config || \'{"port": 1, "password": "p"}\'')
    found = evaluated(store, settings, instance, shop, "row_count", "wal_lag")
    assert found["wal_lag"].passed
    assert "cannot be reached" in (found["row_count"].description or "")


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


def test_the_health_sensor_reports_every_check_and_tables_in_their_turn(
    store: Store, settings: Settings, instance: dg.DagsterInstance, shop: str
) -> None:
    definitions = build(store.shapes(), settings)
    sensor = definitions.resolve_sensor_def("rosetta_health_sensor")

    def reported(cursor: str | None) -> tuple[set[str], str]:
        context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def(), cursor=cursor)
        tick = sensor.evaluate_tick(context)
        assert tick.cursor is not None
        return {each.check_name for each in tick.asset_events if isinstance(each, dg.AssetCheckEvaluation)}, tick.cursor

    names, cursor = reported(None)
    assert CHECKS == names
    names, cursor = reported(cursor)
    assert {"wal_lag", "health", "freshness"} == names
    long_ago = json.dumps({name: at - 3601 for name, at in json.loads(cursor).items()})
    assert CHECKS == reported(long_ago)[0]


def test_tables_whose_turn_does_not_come_are_first_in_the_next_tick() -> None:
    assert ["c", "a"] == _due(["a", "b", "c"], {"a": 1.0, "b": datetime.now(UTC).timestamp()}, 10)
