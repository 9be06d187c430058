"""Failures that receivers of alerts are sent: each once, with its cause and remedy, its recovery, and without any secret."""

from collections.abc import Iterator

import dagster as dg
import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration import alerts, problems
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.checks import failed_run, not_evaluated
from rosetta_dagster.settings import Settings, read_settings
from tests.support.database import Database
from tests.support.rows import add_pipeline
from tests.support.webhook import Webhook, webhook


@pytest.fixture
def received() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


@pytest.fixture
def alerting(settings: Settings, received: Webhook) -> Settings:
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


class Ticks:
    """The alert sensor, tick after tick."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance, received: Webhook) -> None:
        self._definitions = definitions
        self._instance = instance
        self._received = received
        self.cursor: str | None = None

    def tick(self) -> list[str]:
        """What is sent by the next tick."""
        sensor = self._definitions.resolve_sensor_def("rosetta_alert_sensor")
        repository = self._definitions.get_repository_def()
        context = dg.build_sensor_context(instance=self._instance, cursor=self.cursor, repository_def=repository)
        self.cursor = sensor.evaluate_tick(context).cursor
        return self._received.take()

    def evaluated(self, *evaluations: dg.AssetCheckEvaluation) -> list[str]:
        """What is sent after these evaluations."""
        for each in evaluations:
            self._instance.report_runless_asset_event(each)
        return self.tick()


@pytest.fixture
def ticks(store: Store, alerting: Settings, instance: dg.DagsterInstance, shop: str, received: Webhook) -> Ticks:
    assert shop
    return Ticks(build(store.shapes(), alerting), instance, received)


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, name: str) -> str:
    """One run of the pipeline, which fails."""
    job = definitions.resolve_job_def(f"rosetta_{name}")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    return result.run_id


def evaluation(
    name: str,
    check: str,
    *,
    passed: bool,
    severity: str = "ERROR",
    run_status: str | None = None,
    said: str = "<says>",
    asset: dg.AssetKey | None = None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset or dg.AssetKey(["rosetta", name]), check_name=check, passed=passed, description=f"{check} {said}",
        severity=dg.AssetCheckSeverity(severity), metadata={"run_status": run_status} if run_status else {},
    )  # fmt: skip


def test_a_failed_run_is_sent_once_with_its_remedy_until_the_pipeline_streams(
    store: Store, alerting: Settings, instance: dg.DagsterInstance, shop: str, received: Webhook
) -> None:
    definitions = build(store.shapes(), alerting)
    ticks = Ticks(definitions, instance, received)
    first = run(definitions, instance, shop)
    (text,) = ticks.tick()
    assert text.startswith(f"Rosetta: pipeline {shop} failed. ")
    assert "password" in text
    assert text.endswith(f" (run {first})")
    assert "a planted secret" not in text + str(ticks.cursor)
    # It fails again for the same reason, and the checks that cannot read the source say the same.
    run(definitions, instance, shop)
    health_sensor = definitions.resolve_sensor_def("rosetta_health_sensor")
    context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def())
    events = health_sensor.evaluate_tick(context).asset_events
    assert [] == ticks.evaluated(*(each for each in events if isinstance(each, dg.AssetCheckEvaluation)))
    # The next run begins, and fails for another reason.
    assert [] == ticks.evaluated(evaluation(shop, "health", passed=True, run_status="STARTING"))
    with store.connected() as connection:
        connection.execute("UPDATE sources SET pg_password = NULL")
    run(definitions, instance, shop)
    (other,) = ticks.tick()
    assert other.startswith(f"Rosetta: pipeline {shop} failed. ")
    # It streams.
    passing = [evaluation(shop, check, passed=True, run_status="STREAMING") for check in ("health", "wal_lag")]
    assert [f"Rosetta: {shop} has recovered: run."] == ticks.evaluated(*passing)
    assert [] == ticks.tick()


def test_a_run_whose_check_is_written_before_it_ends_is_sent_as_one_problem(ticks: Ticks, shop: str) -> None:
    reported = failed_run(dg.AssetKey(["rosetta", shop]), "run-1", "The source is gone. Mend it.")
    assert [f"Rosetta: pipeline {shop} failed. The source is gone. Mend it. (run run-1)"] == ticks.evaluated(reported)
    assert [] == ticks.tick()


def test_a_check_is_sent_when_it_fails_when_it_gets_worse_and_when_it_passes(
    ticks: Ticks, shop: str, received: Webhook
) -> None:
    wal_lag = [evaluation(shop, "wal_lag", passed=False, severity=severity) for severity in ("WARN", "ERROR")]
    warned = [f"Rosetta: {shop}: wal_lag warns. wal_lag &lt;says&gt;"]
    assert [] == ticks.evaluated(evaluation(shop, "wal_lag", passed=True))
    assert warned == ticks.evaluated(wal_lag[0])
    assert [] == ticks.evaluated(wal_lag[0])
    assert [warned[0].replace("warns", "fails")] == ticks.evaluated(wal_lag[1])
    assert [] == ticks.evaluated(wal_lag[0])
    assert [f"Rosetta: {shop} has recovered: wal_lag."] == ticks.evaluated(evaluation(shop, "wal_lag", passed=True))
    received.status = 500
    assert [] == ticks.evaluated(wal_lag[0])
    received.status = 200
    # What was not accepted is sent by the next tick.
    assert warned == ticks.tick()
    assert [] == ticks.tick()
    # Keys of rows stay in Dagster.
    (both,) = ticks.evaluated(evaluation(shop, "reconciliation", passed=False))
    assert f"{shop}: reconciliation fails. The check names the rows that differ." in both
    assert "reconciliation &lt;says&gt;" not in both


def test_a_check_that_is_explained_by_a_failed_run_has_not_recovered(ticks: Ticks, shop: str) -> None:
    unread = not_evaluated(dg.AssetKey(["rosetta", shop]), "wal_lag", "The source is gone.")
    assert [f"Rosetta: {shop}: wal_lag fails. The source is gone."] == ticks.evaluated(unread)
    reported = failed_run(dg.AssetKey(["rosetta", shop]), "run-1", "The source is gone. Mend it.")
    assert [f"Rosetta: pipeline {shop} failed. The source is gone. Mend it. (run run-1)"] == ticks.evaluated(reported)


@pytest.fixture
def one_table_per_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "TABLES_PER_TICK", 1)


@pytest.mark.usefixtures("one_table_per_tick")
def test_checks_of_tables_are_sent_in_turn_and_those_of_a_pipeline_together(
    store: Store, alerting: Settings, instance: dg.DagsterInstance, source: Database, received: Webhook
) -> None:
    for name in ("one", "two"):
        add_pipeline(store, name, source, source, f"of_{name}", f"also_{name}")
        for table in ("of", "also"):
            asset = dg.AssetKey([f"{name}_dw", "public", f"{table}_{name}"])
            instance.report_runless_asset_event(evaluation(name, "row_count", passed=False, severity="WARN", asset=asset))
    ticks = Ticks(build(store.shapes(), alerting), instance, received)
    for name in ("one", "two"):
        (text,) = ticks.tick()
        assert [f"- {name}: row_count of {name}_dw/public/{table}_{name} warns. row_count &lt;says&gt;"
                for table in ("also", "of")] == text.splitlines()[1:]  # fmt: skip
    assert [] == ticks.tick() + ticks.tick() + ticks.tick()


def test_another_table_that_is_set_aside_is_sent(ticks: Ticks, shop: str) -> None:
    for said in ("1 of 3 tables is set aside", "2 of 3 tables are set aside"):
        (text,) = ticks.evaluated(evaluation(shop, "health", passed=False, severity="WARN", said=said))
        assert said in text


def test_a_receiver_that_hangs_holds_up_no_tick_and_is_sent_the_message_once(
    ticks: Ticks, shop: str, received: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "WAIT_SECONDS", 0.1)
    received.answers.clear()
    assert [] == ticks.evaluated(evaluation(shop, "wal_lag", passed=False))
    assert [] == ticks.tick()
    received.answers.set()
    monkeypatch.setattr(alerts, "WAIT_SECONDS", 10)
    assert 1 == len(ticks.tick() + ticks.tick() + ticks.tick())


def test_without_a_receiver_there_is_no_sensor_and_a_wrong_webhook_is_refused(
    store: Store, settings: Settings, alerting: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(of: Settings) -> set[str]:
        return {sensor.name for sensor in build([], of).get_repository_def().sensor_defs if "alert" in sensor.name}

    assert set() == names(settings)
    assert {"rosetta_alert_sensor"} == names(alerting)
    monkeypatch.setenv("ROSETTA_ALERT_WEBHOOK", "file:///etc/a-planted-token")
    with pytest.raises(
        ConfigurationError, match="ROSETTA_ALERT_WEBHOOK: value error, should be a url that begins with http"
    ) as caught:
        read_settings()
    assert "planted" not in str(caught.value)
