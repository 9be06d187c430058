"""Reads which runs of pipelines and of Rosetta's jobs have failed, and why."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel

from rosetta_dagster.orchestration.naming import PIPELINE_TAG
from rosetta_dagster.orchestration.specs import PipelineSpecs

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
