"""Posts each new failure to the webhook, once: runs that fail, and checks that begin to fail or get worse.

A message holds what the run or the check shows, without secrets and values of rows.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import AlertFailed
from rosetta_dagster.cdc.store.records import RunStatus
from rosetta_dagster.orchestration.checks import check_specs
from rosetta_dagster.orchestration.naming import (
    HEALTH,
    NOT_EVALUATED,
    PIPELINE_TAG,
    RECONCILIATION,
    ROW_COUNT,
    RUN_STATUS,
    SCHEMA_DRIFT,
)
from rosetta_dagster.orchestration.reported_checks import latest_evaluations
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.orchestration.webhook import post
from rosetta_dagster.settings import Settings

#: Seconds between two ticks of each sensor.
ALERT_INTERVAL = 10

#: Tables whose checks one tick reads, those of one pipeline at least: Dagster's records are read for each of them.
TABLES_PER_TICK = 500

#: A run that fails for the same reason as the run before it, within this many seconds, is not posted again. The control
#: sensor tries again after 11 minutes at most.
REPETITION_LIMIT = 900.0


def alert_sensors(loaded: Sequence[PipelineSpecs], settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensors that post failures; none without a webhook."""
    webhook = settings.rosetta_alert_webhook
    return [] if webhook is None else [_run_sensor(webhook), _check_sensor(loaded, webhook)]


def _run_sensor(webhook: SecretStr) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="rosetta_run_alert_sensor",
        description="Posts each failed run of a pipeline or of a Rosetta job to the webhook.",
        minimum_interval_seconds=ALERT_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        run = context.dagster_run
        if PIPELINE_TAG not in run.tags and not run.job_name.startswith("rosetta__"):
            return dg.SkipReason("The run is not one of Rosetta's.")
        if is_repetition(context.instance, run):
            return dg.SkipReason("The run failed for the same reason as the one before it, which was posted.")
        post(webhook, run_message(run, cause_of(context.instance, run.run_id)))
        return None

    return sensor


def _check_sensor(loaded: Sequence[PipelineSpecs], webhook: SecretStr) -> dg.SensorDefinition:
    """Return the sensor of checks. Its cursor holds the failing checks that were posted, and whose tables are next."""

    @dg.sensor(
        name="rosetta_check_alert_sensor",
        description="Posts each check of a pipeline that begins to fail, or gets worse, to the webhook.",
        minimum_interval_seconds=ALERT_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor = json.loads(context.cursor or "{}")
        posted: dict[str, str] = cursor.get("posted", {})
        turn, after = turn_of(loaded, cursor.get("next", 0))
        inspected, failing = failing_checks(context.instance, loaded, turn)
        now = {name: severity for name, severity in posted.items() if name not in inspected}
        for name, found in failing.items():
            severity = found.severity.value
            try:
                if is_worse(posted.get(name), severity):
                    post(webhook, check_message(name, found))
                now[name] = severity
            except AlertFailed as error:
                # The next tick tries this one again; the others are not posted twice.
                context.log.warning("%s", error)
        return dg.SensorResult(cursor=json.dumps({"posted": now, "next": after}), skip_reason=f"{len(failing)} checks fail.")

    return sensor


def turn_of(loaded: Sequence[PipelineSpecs], first: int) -> tuple[list[PipelineSpecs], int]:
    """Return the pipelines whose tables are inspected by a tick that begins with this one, and where the next begins."""
    turn: list[PipelineSpecs] = []
    tables = 0
    for offset in range(len(loaded)):
        pipeline = loaded[(first + offset) % len(loaded)]
        tables += len(pipeline.tables)
        if turn and tables > TABLES_PER_TICK:
            break
        turn.append(pipeline)
    return turn, (first + len(turn)) % max(1, len(loaded))


def failing_checks(
    instance: dg.DagsterInstance, loaded: Sequence[PipelineSpecs], turn: Sequence[PipelineSpecs]
) -> tuple[set[str], Mapping[str, dg.AssetCheckEvaluation]]:
    """Return the names of the inspected checks, and the last evaluations of those that fail.

    These are the checks of all streams, and of the tables whose turn it is. A failed run has a sensor of its own.
    """
    inspected: set[str] = set()
    failing: dict[str, dg.AssetCheckEvaluation] = {}
    for each in loaded:
        names = _names(each, with_tables=each in turn)
        inspected |= {*names.values()}
        found = latest_evaluations(instance, names.keys())
        is_run_failed = any(_is_of_failed_run(evaluation) for evaluation in found.values())
        failing |= {
            names[key]: evaluation
            for key, evaluation in found.items()
            if not evaluation.passed and not (is_run_failed and _repeats_run(evaluation))
        }
    return inspected, failing


def _names(pipeline: PipelineSpecs, *, with_tables: bool) -> dict[dg.AssetCheckKey, str]:
    """Return what a message calls each check. `health` speaks for the tables that are set aside."""
    names = {spec.key: f"{pipeline.shape.name}: {spec.name}" for spec in check_specs(pipeline.stream.key)}
    if with_tables:
        for key in pipeline.table_keys:
            for check in (SCHEMA_DRIFT, ROW_COUNT):
                names[dg.AssetCheckKey(key, check)] = f"{pipeline.shape.name}: {check} of {key.to_user_string()}"
    return names


def _is_of_failed_run(evaluation: dg.AssetCheckEvaluation) -> bool:
    run_status = evaluation.metadata.get(RUN_STATUS)
    return evaluation.check_name == HEALTH and run_status is not None and run_status.value == RunStatus.FAILED


def _repeats_run(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Return whether the check only repeats the failed run: an unreachable source fails both."""
    return _is_of_failed_run(evaluation) or NOT_EVALUATED in evaluation.metadata


def is_worse(before: str | None, now: str) -> bool:
    """Return whether a failing check has to be posted. `before` is the severity that was posted; None: it passed."""
    return before is None or (before, now) == ("WARN", "ERROR")


def cause_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return why a run failed. Of an error that is not Rosetta's, only the class: its text may quote a value."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        if entry.dagster_event is None:
            continue
        data = entry.dagster_event.step_failure_data
        if data.user_failure_data is None:
            return f"Step {entry.step_key} failed with {data.error.cls_name if data.error else 'an unknown error'}."
        remedy = data.user_failure_data.metadata.get("remedy")
        return " ".join(filter(None, [data.user_failure_data.description, str(remedy.value) if remedy else None]))
    return "Its process ended without a report."


def is_repetition(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether the run failed for the same reason as the pipeline's run before it, and soon after it."""
    pipeline = run.tags.get(PIPELINE_TAG)
    record = instance.get_run_record_by_id(run.run_id)
    if pipeline is None or record is None:
        return False
    of_pipeline = dg.RunsFilter(tags={PIPELINE_TAG: pipeline})
    before = next(iter(instance.get_run_records(of_pipeline, limit=1, cursor=run.run_id)), None)
    if before is None or before.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return False
    is_soon = (record.end_time or 0.0) - (before.end_time or 0.0) < REPETITION_LIMIT
    return is_soon and cause_of(instance, before.dagster_run.run_id) == cause_of(instance, run.run_id)


def run_message(run: dg.DagsterRun, cause: str) -> str:
    """Return the message for a failed run."""
    pipeline = run.tags.get(PIPELINE_TAG)
    what = f"job {run.job_name}" if pipeline is None else f"pipeline {pipeline}"
    return f"Rosetta: {what} failed. {cause} (run {run.run_id})"


def check_message(name: str, found: dg.AssetCheckEvaluation) -> str:
    """Return the message for a failing check. The description of `reconciliation` names rows, which stay in Dagster."""
    said = "The check names the rows that differ." if found.check_name == RECONCILIATION else found.description or ""
    kind = "fails" if found.severity is dg.AssetCheckSeverity.ERROR else "warns"
    return f"Rosetta: {name} {kind}. {said}".strip()
