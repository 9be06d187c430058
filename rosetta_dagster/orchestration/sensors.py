"""The sensors of pipelines: one starts and ends runs, the other evaluates checks."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.waiting import HEARTBEAT_LIMIT_SECONDS, obstacle
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState
from rosetta_dagster.orchestration.checks import STREAM_CHECKS
from rosetta_dagster.orchestration.evaluation import evaluate
from rosetta_dagster.orchestration.naming import PIPELINE_TAG, REQUESTED_TAG, job_name
from rosetta_dagster.orchestration.reported_checks import news, targeted
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.orchestration.table_checks import is_copied, table_check_specs
from rosetta_dagster.orchestration.table_evaluation import evaluate_tables
from rosetta_dagster.settings import Settings, open_store

_LIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

#: Seconds that one tick of the health sensor may spend on table checks. Dagster ends a tick after a minute; pipelines that
#: were not reached are first in the next tick.
TABLE_CHECK_BUDGET = 20.0


def control_sensor(jobs: Sequence[dg.JobDefinition], loaded: AbstractSet[str], settings: Settings) -> dg.SensorDefinition:
    """Request the runs that are missing, and fail the runs whose process is gone.

    Its first tick also ends the waits after failures: this code location was loaded since, maybe with another environment.
    """
    unretried = set(loaded)

    @dg.sensor(
        name="rosetta_control_sensor",
        description="Starts and restarts the pipelines whose status says so.",
        minimum_interval_seconds=settings.poll_interval_seconds,
        jobs=jobs or None,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with open_store(settings) as store:
            if unretried:
                store.retry_failed(unretried)
                unretried.clear()
            live = _live_runs(context.instance, loaded)
            states = [state for state in store.states() if state.name in loaded]
            for state in states:
                _report_lost(context, store, state, live.get(state.name, ()))
            requested = [state.name for state in states if not live.get(state.name) and _is_run_due(state)]
        if requested:
            return dg.SensorResult(run_requests=[_run_request(name) for name in requested])
        return dg.SkipReason(skip_reason([state for state in states if not live.get(state.name)]))

    return sensor


def skip_reason(states: Sequence[PipelineState]) -> str:
    """Return what a tick says that requests no run. The states are those of the pipelines without a run in Dagster."""
    waiting = [f"{state.name} waits: {reason}" for state in states if (reason := obstacle(state)) is not None]
    return "\n".join(waiting) or "Every pipeline does what its status says."


def health_sensor(loaded: Sequence[PipelineSpecs], settings: Settings) -> dg.SensorDefinition:
    """Evaluate the checks of every pipeline outside of its run, since a dead run reports nothing.

    Its cursor holds, for each pipeline, when its table checks were last evaluated.
    """

    @dg.sensor(
        name="rosetta_health_sensor",
        description="Evaluates the checks of every pipeline.",
        minimum_interval_seconds=settings.wal_monitor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        evaluated_at: dict[str, float] = json.loads(context.cursor or "{}")
        by_name = {specs.shape.name: specs for specs in loaded}
        events: list[dg.AssetCheckEvaluation] = []
        with open_store(settings) as store:
            for specs in loaded:
                events += _stream_checks(context, store, specs)
            deadline = time.monotonic() + TABLE_CHECK_BUDGET
            for name in _due(by_name, evaluated_at, settings.table_check_interval_seconds):
                if time.monotonic() > deadline:
                    break
                events += _table_checks(context, store, by_name[name])
                evaluated_at[name] = time.time()
        cursor = json.dumps({name: at for name, at in evaluated_at.items() if name in by_name})
        return dg.SensorResult(asset_events=events, skip_reason=f"Reported {len(events)} check evaluations.", cursor=cursor)

    return sensor


def _due(names: Iterable[str], evaluated_at: Mapping[str, float], interval: float) -> list[str]:
    """Return the pipelines whose table checks are due, the longest overdue first."""
    now = time.time()
    due = [name for name in names if now - evaluated_at.get(name, 0.0) >= interval]
    return sorted(due, key=lambda name: evaluated_at.get(name, 0.0))


def _stream_checks(context: dg.SensorEvaluationContext, store: Store, specs: PipelineSpecs) -> list[dg.AssetCheckEvaluation]:
    try:
        return targeted(context.instance, evaluate(store, specs, STREAM_CHECKS.keys()))
    except RosettaError as error:
        return _skipped(context, specs, error)


def _table_checks(context: dg.SensorEvaluationContext, store: Store, specs: PipelineSpecs) -> list[dg.AssetCheckEvaluation]:
    try:
        copied = {record.id for record in store.tables(specs.shape.name) if is_copied(record)}
        keys = {spec.key for (_, table), spec in specs.tables.items() if table in copied}
        wanted = [check.key for key in keys for check in table_check_specs(key)]
        return news(context.instance, evaluate_tables(store, specs, wanted))
    except RosettaError as error:
        return _skipped(context, specs, error)


def _skipped(
    context: dg.SensorEvaluationContext, specs: PipelineSpecs, error: RosettaError
) -> list[dg.AssetCheckEvaluation]:
    """Return no evaluation: an error of one pipeline must not keep the others from being checked."""
    context.log.warning("Pipeline %s: %s", specs.shape.name, error)
    return []


def _run_request(name: str) -> dg.RunRequest:
    return dg.RunRequest(job_name=job_name(name), tags={PIPELINE_TAG: name, REQUESTED_TAG: "control_sensor"})


def _live_runs(instance: dg.DagsterInstance, loaded: AbstractSet[str]) -> dict[str, list[dg.RunRecord]]:
    """Return the runs that Dagster considers alive, by pipeline, with one query for all of them."""
    live: dict[str, list[dg.RunRecord]] = {}
    if loaded:
        for record in instance.get_run_records(dg.RunsFilter(tags={PIPELINE_TAG: sorted(loaded)}, statuses=_LIVE)):
            live.setdefault(record.dagster_run.tags[PIPELINE_TAG], []).append(record)
    return live


def _report_lost(
    context: dg.SensorEvaluationContext, store: Store, state: PipelineState, live: Sequence[dg.RunRecord]
) -> None:
    """Report runs whose process is gone: to Dagster those that it considers alive, else to the store the one in the row."""
    for record in live:
        if _is_lost(record, state):
            context.instance.report_run_failed(record.dagster_run, "Rosetta: the run's process has written no heartbeat.")
    if not live and state.run_status.is_open:
        _note_killed(store, state)


def _is_run_due(state: PipelineState) -> bool:
    """Return whether a pipeline without a run in Dagster needs one now. After a killed run it waits first."""
    return not state.run_status.is_open and state.status is not Status.PAUSE and state.is_due


def _is_lost(record: dg.RunRecord, state: PipelineState) -> bool:
    """Return whether the process of a run is gone. When its code server went too, no launcher notices that."""
    is_old = record.start_time is not None and time.time() - record.start_time > HEARTBEAT_LIMIT_SECONDS
    is_silent = (
        state.run_id != record.dagster_run.run_id
        or state.heartbeat_age is None
        or state.heartbeat_age > HEARTBEAT_LIMIT_SECONDS
    )
    return is_old and is_silent


def _note_killed(store: Store, state: PipelineState) -> None:
    """Record that the run was killed: its row says that it is alive, and Dagster has no such run. The wait begins here."""
    store.report_failure(
        state.id,
        state.run_id,
        f"Run {state.run_id} ended without a report: its process was killed. A new run starts by itself.",
        transient=True,
    )
