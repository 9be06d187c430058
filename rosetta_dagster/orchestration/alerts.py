"""Decides of which failures a person is told by a webhook, once each: of runs that fail, and of checks that begin to fail.

The messages hold what the run and the check show, without what is secret or of a row.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import AlertFailed
from rosetta_dagster.orchestration.checks import check_specs
from rosetta_dagster.orchestration.naming import HEALTH, NOT_EVALUATED, PIPELINE_TAG, RECONCILIATION, RUN_STATUS
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.orchestration.webhook import post
from rosetta_dagster.settings import Settings

#: Seconds between two looks at the runs and the checks.
ALERT_INTERVAL = 10

#: A run that fails for the reason of the run before it, no longer after that one than this in seconds, tells nothing new:
#: the control sensor tries again after five minutes at most.
REPETITION_LIMIT = 900.0


def alert_sensors(loaded: Sequence[PipelineSpecs], settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors that tell of failures; none without a webhook."""
    webhook = settings.rosetta_alert_webhook
    return [] if webhook is None else [_run_sensor(webhook), _check_sensor(loaded, webhook)]


def _run_sensor(webhook: SecretStr) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="rosetta_run_alert_sensor",
        description="Tells the webhook of each run of a pipeline, or of a job of Rosetta, that fails.",
        minimum_interval_seconds=ALERT_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        run = context.dagster_run
        if PIPELINE_TAG not in run.tags and not run.job_name.startswith("rosetta__"):
            return dg.SkipReason("The run is not of Rosetta.")
        if is_repetition(context.instance, run):
            return dg.SkipReason("The run failed as the one before it, which was told of.")
        post(webhook, run_message(run, cause_of(context.instance, run.run_id)))
        return None

    return sensor


def _check_sensor(loaded: Sequence[PipelineSpecs], webhook: SecretStr) -> dg.SensorDefinition:
    """Its cursor holds the checks that fail, each with its severity, as they were told of."""

    @dg.sensor(
        name="rosetta_check_alert_sensor",
        description="Tells the webhook of each check of a pipeline that begins to fail, or gets worse.",
        minimum_interval_seconds=ALERT_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        told: dict[str, str] = json.loads(context.cursor or "{}")
        failing = failing_checks(context.instance, loaded)
        tell = {name: found.severity.value for name, found in failing.items()}
        for name, found in failing.items():
            if is_worse(told.get(name), found.severity.value):
                try:
                    post(webhook, check_message(name, found))
                except AlertFailed as error:
                    # The next tick tries again; what was told already is not told twice.
                    context.log.warning("%s", error)
                    tell = {other: severity for other, severity in tell.items() if other != name}
        return dg.SensorResult(cursor=json.dumps(tell), skip_reason=f"{len(failing)} checks fail.")

    return sensor


def failing_checks(instance: dg.DagsterInstance, loaded: Sequence[PipelineSpecs]) -> Mapping[str, dg.AssetCheckEvaluation]:
    """The last evaluations of the checks that fail, by pipeline and check. Of a failed run its own sensor tells."""
    failing: dict[str, dg.AssetCheckEvaluation] = {}
    for each in loaded:
        keys = [spec.key for spec in check_specs(each.stream.key)]
        found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).values()
        evaluations = [record.evaluation for record in found if record.evaluation is not None]
        is_run_failed = any(_is_of_failed_run(evaluation) for evaluation in evaluations)
        failing |= {
            f"{each.shape.name}: {evaluation.check_name}": evaluation
            for evaluation in evaluations
            if not evaluation.passed and not (is_run_failed and _tells_of_run(evaluation))
        }
    return failing


def _is_of_failed_run(evaluation: dg.AssetCheckEvaluation) -> bool:
    run_status = evaluation.metadata.get(RUN_STATUS)
    return evaluation.check_name == HEALTH and run_status is not None and run_status.value == "FAILED"


def _tells_of_run(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Whether it says no more than the run that failed: what keeps a run from its source keeps the checks from it, too."""
    return _is_of_failed_run(evaluation) or NOT_EVALUATED in evaluation.metadata


def is_worse(before: str | None, now: str) -> bool:
    """Whether a check that fails has to be told of, by its severities; None: it did not fail when it was last looked at."""
    return before is None or (before, now) == ("WARN", "ERROR")


def cause_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Why a run failed. An error that is not of Rosetta may quote anything, so no more is told of it than its class."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        if entry.dagster_event is None:
            continue
        data = entry.dagster_event.step_failure_data
        if data.user_failure_data is None:
            return f"Step {entry.step_key} failed with {data.error.cls_name if data.error else 'an unknown error'}."
        remedy = data.user_failure_data.metadata.get("remedy")
        return " ".join(filter(None, [data.user_failure_data.description, str(remedy.value) if remedy else None]))
    return "Its process ended without a word."


def is_repetition(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run failed for the reason of the pipeline's run before it, and soon after that one."""
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
    """A failed run in a message."""
    pipeline = run.tags.get(PIPELINE_TAG)
    what = f"job {run.job_name}" if pipeline is None else f"pipeline {pipeline}"
    return f"Rosetta: {what} failed. {cause} (run {run.run_id})"


def check_message(name: str, found: dg.AssetCheckEvaluation) -> str:
    """A failing check in a message. What `reconciliation` found names rows, which stay in Dagster."""
    said = "The check names the rows that differ." if found.check_name == RECONCILIATION else found.description or ""
    kind = "fails" if found.severity is dg.AssetCheckSeverity.ERROR else "warns"
    return f"Rosetta: {name} {kind}. {said}".strip()
