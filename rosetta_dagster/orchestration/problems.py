"""Finds what is wrong now, from Dagster's records: failed runs that have not recovered, and checks that fail."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel

from rosetta_dagster.alerts.problem import Problem, Severity
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.report import Phase
from rosetta_dagster.orchestration.checks import check_specs
from rosetta_dagster.orchestration.naming import (
    HEALTH,
    NOT_EVALUATED,
    PIPELINE_TAG,
    RECONCILIATION,
    RUN_STATUS,
    WANTED_STATUS,
    job_name,
)
from rosetta_dagster.orchestration.specs import PipelineSpecs

#: The name of the problem that a failed run is.
RUN = "run"

#: Seconds for which the failure of a job is offered to receivers. It does not recover, since nothing repeats it.
JOB_FAILURE_SECONDS = 24 * 3600.0

#: Failed runs that one tick reads.
RUN_LIMIT = 100


class FailedRun(BaseModel):
    """A run that failed."""

    run_id: str
    #: The pipeline of the run; None: it is a run of one of Rosetta's jobs.
    pipeline: str | None
    job: str
    cause: str
    #: When it ended, in seconds since the epoch.
    at: float


def note_failed_runs(
    instance: dg.DagsterInstance,
    loaded: Sequence[PipelineSpecs],
    known: Mapping[str, FailedRun],
    *,
    since: float,
    now: float,
) -> dict[str, FailedRun]:
    """Return the failed runs of the loaded pipelines and of Rosetta's jobs, with those that have failed since.

    Of each pipeline the newest is kept; of each job every one, for a day.
    """
    pipelines = {each.shape.name for each in loaded}
    failed = {
        subject: run
        for subject, run in known.items()
        if (run.pipeline in pipelines if run.pipeline is not None else now - run.at < JOB_FAILURE_SECONDS)
    }
    updated = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.fromtimestamp(since, UTC))
    records = instance.get_run_records(updated, limit=RUN_LIMIT, order_by="update_timestamp", ascending=False)
    for record in reversed(records):
        run = record.dagster_run
        pipeline, subject = run.tags.get(PIPELINE_TAG), _subject(run)
        is_known = subject in failed and failed[subject].run_id == run.run_id
        if subject is None or is_known or (pipeline is not None and pipeline not in pipelines):
            continue
        cause, ended = cause_of(instance, run.run_id), record.end_time or now
        failed[subject] = FailedRun(run_id=run.run_id, pipeline=pipeline, job=run.job_name, cause=cause, at=ended)
    return failed


def _subject(run: dg.DagsterRun) -> str | None:
    """Return what a failed run's message is about; None for a run that is not one of Rosetta's."""
    if (pipeline := run.tags.get(PIPELINE_TAG)) is not None:
        return pipeline
    return f"{run.job_name} {run.run_id}" if run.job_name.startswith("rosetta__") else None


def find_problems(
    instance: dg.DagsterInstance, loaded: Sequence[PipelineSpecs], failed_runs: Mapping[str, FailedRun]
) -> tuple[list[Problem], dict[str, FailedRun]]:
    """Return what is wrong now, and the failed runs that have not recovered."""
    left = dict(failed_runs)
    problems: list[Problem] = []
    for each in loaded:
        name = each.shape.name
        evaluations = _evaluations(instance, each)
        if name in left and any(_shows_recovery(evaluation, at, left[name].at) for evaluation, at in evaluations):
            del left[name]
        # The check is written before the run has ended: it is the first to say so.
        reported = [run for evaluation, at in evaluations if (run := _failed_run(each, evaluation, at)) is not None]
        if reported and name not in left:
            left[name] = reported[0]
        problems += [
            _of_check(name, evaluation)
            for evaluation, _ in evaluations
            if not evaluation.passed and not (name in left and _repeats_run(evaluation))
        ]
    problems += [_of_run(subject, run) for subject, run in left.items()]
    return problems, left


def _evaluations(instance: dg.DagsterInstance, specs: PipelineSpecs) -> list[tuple[dg.AssetCheckEvaluation, float]]:
    """Return the last evaluation of each check of a pipeline, and when it was made."""
    keys = [spec.key for spec in check_specs(specs.stream.key)]
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).values()
    return [
        (record.evaluation, record.event.timestamp)
        for record in found
        if record.evaluation is not None and record.event is not None
    ]


def _shows_recovery(evaluation: dg.AssetCheckEvaluation, at: float, failed_at: float) -> bool:
    """Return whether the pipeline streams again, or was paused, since its run failed. A run that only begins may fail."""
    if evaluation.check_name != HEALTH or at <= failed_at:
        return False
    is_paused = _text(evaluation, WANTED_STATUS) == Status.PAUSE.value
    return is_paused or _text(evaluation, RUN_STATUS) == Phase.STREAMING.value


def _failed_run(specs: PipelineSpecs, found: dg.AssetCheckEvaluation, at: float) -> FailedRun | None:
    """Return the failed run that the check `health` reports; None when it reports something else."""
    run_id = _text(found, "run")
    if found.passed or found.check_name != HEALTH or _text(found, RUN_STATUS) != "FAILED" or not isinstance(run_id, str):
        return None
    name = specs.shape.name
    return FailedRun(run_id=run_id, pipeline=name, job=job_name(name), cause=found.description or "", at=at)


def _repeats_run(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Return whether the check only repeats the failed run: an unreachable source fails both."""
    return evaluation.check_name == HEALTH or NOT_EVALUATED in evaluation.metadata


def _text(evaluation: dg.AssetCheckEvaluation, key: str) -> object:
    found = evaluation.metadata.get(key)
    return None if found is None else found.value


def _of_check(pipeline: str, found: dg.AssetCheckEvaluation) -> Problem:
    """Return the problem of a failing check. The description of `reconciliation` names rows, which stay in Dagster."""
    said = "The check names the rows that differ." if found.check_name == RECONCILIATION else found.description or ""
    is_error = found.severity is dg.AssetCheckSeverity.ERROR
    text = f"{pipeline}: {found.check_name} {'fails' if is_error else 'warns'}. {said}".strip()
    severity = Severity.ERROR if is_error else Severity.WARNING
    # Which tables are set aside. Other descriptions hold figures that change with each evaluation.
    cause = said if found.check_name == HEALTH and not is_error else ""
    return Problem(subject=pipeline, name=found.check_name, severity=severity, text=text, cause=cause)


def _of_run(subject: str, run: FailedRun) -> Problem:
    what = f"job {run.job}" if run.pipeline is None else f"pipeline {run.pipeline}"
    text = f"{what} failed. {run.cause} (run {run.run_id})"
    is_event = run.pipeline is None
    return Problem(subject=subject, name=RUN, severity=Severity.ERROR, text=text, cause=run.cause, is_event=is_event)


def cause_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return why a run failed. Of an error that is not Rosetta's, only the class: its text may quote a value."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        if entry.dagster_event is None:
            continue
        data = entry.dagster_event.step_failure_data
        if data.user_failure_data is None:
            return f"Step {entry.step_key} failed with {data.error.cls_name if data.error else 'an unknown error'}."
        remedy = data.user_failure_data.metadata.get("remedy")
        return _joined([data.user_failure_data.description, str(remedy.value) if remedy else None])
    return "Its process ended without a report."


def _joined(parts: Iterable[str | None]) -> str:
    return " ".join(filter(None, parts))
