"""Failures that a webhook is told of: each once, with its cause and remedy, and without any secret."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import AlertFailed, ConfigurationError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration import alerts
from rosetta_dagster.orchestration import webhook as posting
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.webhook import post
from rosetta_dagster.settings import Settings, read_settings
from tests.support.database import Database
from tests.support.rows import add_pipeline
from tests.support.webhook import Webhook, webhook


@pytest.fixture
def received() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


@pytest.fixture
def alerting(settings: Settings, received: Webhook, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(posting, "PAUSE", 0.0)
    return settings.model_copy(update={"rosetta_alert_webhook": SecretStr(received.url)})


@pytest.fixture
def shop(store: Store, source: Database, destination: Database) -> str:
    """A pipeline that cannot run, since its source refuses the password."""
    name = source.connection.database
    add_pipeline(store, name, source, destination, "orders")
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = 'PGOUTPUT', status = 'START'")
        connection.execute("UPDATE sources SET pg_password = 'a planted secret'")
    return name


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, name: str) -> dg.DagsterRun:
    """One run of the pipeline, and what its sensor makes of it."""
    job = definitions.resolve_job_def(f"rosetta_{name}")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    told = instance.get_run_by_id(result.run_id)
    assert told is not None
    (failure,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.RUN_FAILURE]
    context = dg.build_run_status_sensor_context(
        sensor_name="rosetta_run_alert_sensor", dagster_event=failure, dagster_instance=instance, dagster_run=told
    )
    sensor: Any = definitions.resolve_sensor_def("rosetta_run_alert_sensor")
    sensor(context.for_run_failure())
    return told


def look_at_checks(definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None) -> str | None:
    sensor = definitions.resolve_sensor_def("rosetta_check_alert_sensor")
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=definitions.get_repository_def())
    return sensor.evaluate_tick(context).cursor


def test_a_failed_run_is_alerted_once_with_its_remedy(
    store: Store, alerting: Settings, instance: dg.DagsterInstance, shop: str, received: Webhook
) -> None:
    definitions = build(store.shapes(), alerting)
    first = run(definitions, instance, shop)
    run(definitions, instance, shop)
    # The checks that cannot look at a source which the run cannot reach say the same.
    health_sensor = definitions.resolve_sensor_def("rosetta_health_sensor")
    context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def())
    for event in health_sensor.evaluate_tick(context).asset_events:
        assert isinstance(event, dg.AssetCheckEvaluation)
        instance.report_runless_asset_event(event)
    look_at_checks(definitions, instance, None)
    (text,) = received.texts
    assert text.startswith(f"Rosetta: pipeline {shop} failed. ")
    assert "password" in text
    assert text.endswith(f" (run {first.run_id})")
    assert "a planted secret" not in text

    with store.connected() as connection:
        connection.execute("UPDATE sources SET pg_password = NULL")
    run(definitions, instance, shop)
    assert 2 == len(received.texts)


def evaluation(
    name: str, check: str, *, passed: bool, severity: str = "ERROR", asset: dg.AssetKey | None = None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset or dg.AssetKey(["rosetta", name]), check_name=check, passed=passed, description=f"{check} <says>",
        severity=dg.AssetCheckSeverity(severity),
    )  # fmt: skip


def test_a_check_is_alerted_when_it_begins_to_fail_and_when_it_gets_worse(
    store: Store, alerting: Settings, instance: dg.DagsterInstance, shop: str, received: Webhook
) -> None:
    definitions = build(store.shapes(), alerting)
    cursor: str | None = None

    def look(check: str, *, passed: bool, severity: str = "ERROR") -> list[str]:
        nonlocal cursor
        instance.report_runless_asset_event(evaluation(shop, check, passed=passed, severity=severity))
        cursor = look_at_checks(definitions, instance, cursor)
        told, received.texts = received.texts, []
        return told

    warned = [f"Rosetta: {shop}: wal_lag warns. wal_lag &lt;says&gt;"]
    assert [] == look("wal_lag", passed=True)
    assert warned == look("wal_lag", passed=False, severity="WARN")
    assert [] == look("wal_lag", passed=False, severity="WARN")
    assert [warned[0].replace("warns", "fails")] == look("wal_lag", passed=False)
    assert [] == look("wal_lag", passed=False, severity="WARN")
    assert [] == look("wal_lag", passed=True)
    received.status = 500
    assert [] == look("wal_lag", passed=False, severity="WARN")
    received.status = 200
    # What could not be sent is sent by the next tick.
    assert warned == look("wal_lag", passed=False, severity="WARN")
    # Keys of rows stay in Dagster.
    assert [f"Rosetta: {shop}: reconciliation fails. The check names the rows that differ."] == look(
        "reconciliation", passed=False
    )


@pytest.fixture
def one_table_per_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "TABLES_PER_TICK", 1)


@pytest.mark.usefixtures("one_table_per_tick")
def test_checks_of_tables_are_alerted_in_turn(
    store: Store, alerting: Settings, instance: dg.DagsterInstance, source: Database, received: Webhook
) -> None:
    for name in ("one", "two"):
        add_pipeline(store, name, source, source, f"of_{name}")
        table = dg.AssetKey([f"{name}_dw", "public", f"of_{name}"])
        instance.report_runless_asset_event(evaluation(name, "row_count", passed=False, severity="WARN", asset=table))
    definitions = build(store.shapes(), alerting)
    cursor = look_at_checks(definitions, instance, None)
    posted = ["Rosetta: one: row_count of one_dw/public/of_one warns. row_count &lt;says&gt;"]
    assert posted == received.texts
    cursor = look_at_checks(definitions, instance, cursor)
    posted.append("Rosetta: two: row_count of two_dw/public/of_two warns. row_count &lt;says&gt;")
    assert posted == received.texts
    for _ in range(3):
        cursor = look_at_checks(definitions, instance, cursor)
    assert posted == received.texts


def test_a_webhook_that_refuses_is_reported_without_its_url(received: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "PAUSE", 0.0)
    received.status = 404
    with pytest.raises(AlertFailed, match="it answered 404") as caught:
        post(SecretStr(received.url), "text")
    assert "a-planted-token" not in str(caught.value)


def test_without_a_webhook_there_is_no_sensor_and_a_wrong_one_is_refused(
    store: Store, settings: Settings, alerting: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(of: Settings) -> set[str]:
        return {sensor.name for sensor in build([], of).get_repository_def().sensor_defs if "alert" in sensor.name}

    assert set() == names(settings)
    assert {"rosetta_run_alert_sensor", "rosetta_check_alert_sensor"} == names(alerting)
    monkeypatch.setenv("ROSETTA_ALERT_WEBHOOK", "file:///etc/a-planted-token")
    with pytest.raises(
        ConfigurationError, match="ROSETTA_ALERT_WEBHOOK: value error, should be a url that begins with http"
    ) as caught:
        read_settings()
    assert "planted" not in str(caught.value)
