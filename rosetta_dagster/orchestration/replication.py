"""The body of a pipeline's run in Dagster: runs the engine until it has to stop, and reports its progress."""

import os
import time
from contextlib import closing

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.errors import LeaseHeld, RosettaError, WorkerStuck
from rosetta_dagster.cdc.report import Report
from rosetta_dagster.cdc.run.supervision import supervise
from rosetta_dagster.cdc.run.worker import unexpected
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState
from rosetta_dagster.orchestration.checks import failed_run
from rosetta_dagster.orchestration.events import Events
from rosetta_dagster.orchestration.naming import REQUESTED_TAG
from rosetta_dagster.orchestration.reported_checks import report_checks
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.settings import Settings, open_store

#: Exit code of a process whose engine does not stop. Ending the process ends its walsender.
STUCK_EXIT_CODE = 70


def replicate_until_stopped(context: dg.OpExecutionContext, specs: PipelineSpecs, settings: Settings) -> None:
    """Run the pipeline until it is paused. A run that finds another one at work leaves the pipeline to it."""
    try:
        _replicate(context, specs, settings)
    except LeaseHeld as held:
        context.log.info("%s", held)
    except WorkerStuck as stuck:
        context.log.critical("%s", stuck)
        os._exit(STUCK_EXIT_CODE)
    except RosettaError as error:
        report_checks(context.instance, [failed_run(specs.stream.key, context.run.run_id, str(error))])
        raise dg.Failure(description=error.message, metadata={"remedy": error.remedy}, allow_retries=False) from None


def _replicate(context: dg.OpExecutionContext, specs: PipelineSpecs, settings: Settings) -> None:
    name = specs.shape.name
    with open_store() as store:
        if not _claim(context, store, name):
            return
        try:
            _run(context, store, name, Events(context, store, specs, settings))
        except RosettaError:
            raise
        except Exception as error:  # noqa: BLE001 - raised below, as one of Rosetta's errors
            # Any other error fails the run too, and the next run has to wait as after any failure.
            failure = unexpected(error)
            store.report_failure(store.state(name).id, context.run.run_id, str(failure), transient=True)
            # Not the original error: its text may quote a value, and Dagster would store it.
            raise failure from None


def _claim(context: dg.OpExecutionContext, store: Store, name: str) -> bool:
    """Return whether the run is wanted. A run that a person launched sets a paused pipeline to START first."""
    if REQUESTED_TAG not in context.run.tags and _is_later(context, store.state(name)):
        store.set_status(name, Status.START, only_from=Status.PAUSE)
    if store.status(name) is Status.PAUSE:
        context.log.info("The pipeline was paused before the run began.")
        return False
    return True


def _is_later(context: dg.OpExecutionContext, state: PipelineState) -> bool:
    """Return whether the run was launched after the row was last changed.

    A run may wait in Dagster's queue. What was said of the pipeline meanwhile is the later command.
    """
    record = context.instance.get_run_record_by_id(context.run.run_id)
    return record is None or time.time() - record.create_timestamp.timestamp() < state.unchanged_seconds


def _run(context: dg.OpExecutionContext, store: Store, name: str, events: Events) -> None:
    report = Report()
    try:
        with closing(supervise(store, name, context.run.run_id)) as reports:
            try:
                for report in reports:
                    events.note(report)
            except dg.DagsterExecutionInterruptedError:
                _follow_cancel(context, store, name)
                raise
    finally:
        events.ended(report)
    events.finish(report)


def _follow_cancel(context: dg.OpExecutionContext, store: Store, name: str) -> None:
    """Set PAUSE when the run is terminated in the UI: otherwise the sensor would start the pipeline again."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
        store.set_status(name, Status.PAUSE, only_from=Status.START)
