"""The three sensors: start and reap runs, reload the definitions, look at health."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.health import HEARTBEAT_LIMIT_SECONDS
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.plan import release_removed
from rosetta_dagster.cdc.store.records import PipelineShape, PipelineState
from rosetta_dagster.orchestration.checks import STREAM_CHECKS, TABLE_CHECKS
from rosetta_dagster.orchestration.code_location import AssetJob, location_name, reload_code_location
from rosetta_dagster.orchestration.evaluation import evaluate
from rosetta_dagster.orchestration.naming import PIPELINE_TAG, REQUESTED_TAG, job_name
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.settings import Settings, open_store

_LIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

#: What a run's row says while the run is alive. A run that ends says so; one that is killed cannot.
_ALIVE = ("STARTING", "SNAPSHOT", "STREAMING")

#: How often the rows are compared with the definitions that are loaded, in seconds.
DEFINITIONS_INTERVAL = 10

#: How long one tick of the health sensor may look at tables, in seconds. Dagster ends a tick after a minute; pipelines whose
#: turn does not come are first in the next one.
TABLE_CHECK_BUDGET = 20.0


def control_sensor(jobs: Sequence[AssetJob], loaded: AbstractSet[str], settings: Settings) -> dg.SensorDefinition:
    """Starts what is to run and does not; ends what Dagster takes for running and does not."""

    @dg.sensor(
        name="rosetta_control_sensor",
        description="Starts and restarts the pipelines whose status says so.",
        minimum_interval_seconds=settings.poll_interval_seconds,
        jobs=jobs or None,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with open_store(settings) as store:
            live = _live_runs(context.instance, loaded)
            requests = [
                _run_request(state.name)
                for state in store.states()
                if state.name in loaded and _start_or_reap(context, store, state, live.get(state.name, ()))
            ]
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("Every pipeline is as it should be.")

    return sensor


def definitions_sensor(loaded: Sequence[PipelineShape], settings: Settings, declared: Sequence[str]) -> dg.SensorDefinition:
    """Loads the definitions anew when a pipeline was added, removed or shaped anew.

    It pauses what the code declares no more, too: only a sensor knows which code location it is of.
    """

    @dg.sensor(
        name="rosetta_definitions_sensor",
        description="Reloads this code location when rows of the configuration database change its definitions.",
        minimum_interval_seconds=DEFINITIONS_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with open_store(settings) as store:
            location = location_name(context)
            for name in release_removed(store, location, declared) if location is not None else ():
                context.log.info("Pipeline %s is paused: the code declares it no more.", name)
            if store.shapes() == list(loaded):
                return dg.SkipReason("The definitions are current.")
        reload_code_location(context)
        return dg.SkipReason("The definitions were reloaded.")

    return sensor


def health_sensor(loaded: Sequence[PipelineSpecs], settings: Settings) -> dg.SensorDefinition:
    """Evaluates the checks of every pipeline, outside its run: a run that is dead reports nothing.

    Its cursor holds when the tables of each pipeline were last looked at.
    """

    @dg.sensor(
        name="rosetta_health_sensor",
        description="Looks at the WAL, the health and the tables of every pipeline.",
        minimum_interval_seconds=settings.wal_monitor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        looked_at: dict[str, float] = json.loads(context.cursor or "{}")
        by_name = {specs.shape.name: specs for specs in loaded}
        events: list[dg.AssetCheckEvaluation] = []
        with open_store(settings) as store:
            for specs in loaded:
                events += _evaluated(context, store, specs, STREAM_CHECKS.keys())
            deadline = time.monotonic() + TABLE_CHECK_BUDGET
            for name in _due(by_name, looked_at, settings.table_check_interval_seconds):
                if time.monotonic() > deadline:
                    break
                events += _evaluated(context, store, by_name[name], TABLE_CHECKS.keys())
                looked_at[name] = time.time()
        cursor = json.dumps({name: at for name, at in looked_at.items() if name in by_name})
        return dg.SensorResult(asset_events=events, skip_reason=f"Reported {len(events)} check evaluations.", cursor=cursor)

    return sensor


def _due(names: Iterable[str], looked_at: Mapping[str, float], interval: float) -> list[str]:
    """Whose tables are to be looked at, those first whose turn was longest ago."""
    now = time.time()
    due = [name for name in names if now - looked_at.get(name, 0.0) >= interval]
    return sorted(due, key=lambda name: looked_at.get(name, 0.0))


def _evaluated(
    context: dg.SensorEvaluationContext, store: Store, specs: PipelineSpecs, wanted: AbstractSet[str]
) -> list[dg.AssetCheckEvaluation]:
    try:
        return evaluate(store, specs, wanted)
    except RosettaError as error:
        # One pipeline that cannot be looked at must not hide the others.
        context.log.warning("Pipeline %s: %s", specs.shape.name, error)
        return []


def _run_request(name: str) -> dg.RunRequest:
    return dg.RunRequest(job_name=job_name(name), tags={PIPELINE_TAG: name, REQUESTED_TAG: "control_sensor"})


def _live_runs(instance: dg.DagsterInstance, loaded: AbstractSet[str]) -> dict[str, list[dg.RunRecord]]:
    """The runs of each pipeline that Dagster takes for alive, by one query for all of them."""
    live: dict[str, list[dg.RunRecord]] = {}
    if loaded:
        for record in instance.get_run_records(dg.RunsFilter(tags={PIPELINE_TAG: sorted(loaded)}, statuses=_LIVE)):
            live.setdefault(record.dagster_run.tags[PIPELINE_TAG], []).append(record)
    return live


def _start_or_reap(
    context: dg.SensorEvaluationContext, store: Store, state: PipelineState, live: Sequence[dg.RunRecord]
) -> bool:
    """Whether a run of the pipeline is to be started now, while Dagster takes these for alive."""
    for record in live:
        if _is_lost(record, state):
            context.instance.report_run_failed(record.dagster_run, "Rosetta: the run's process has given no sign of life.")
    if live:
        return False
    if state.run_status in _ALIVE:
        _note_killed(store, state)
        return False
    return state.status is not Status.PAUSE and state.is_due


def _is_lost(record: dg.RunRecord, state: PipelineState) -> bool:
    """Whether Dagster takes a run for started whose process is gone: with its code server, no launcher can tell."""
    is_old = record.start_time is not None and time.time() - record.start_time > HEARTBEAT_LIMIT_SECONDS
    is_silent = (
        state.run_id != record.dagster_run.run_id
        or state.heartbeat_age is None
        or state.heartbeat_age > HEARTBEAT_LIMIT_SECONDS
    )
    return is_old and is_silent


def _note_killed(store: Store, state: PipelineState) -> None:
    """The row says that a run is alive, and there is none: it was killed. The wait before the next one begins here."""
    store.report_failure(
        state.id,
        state.run_id,
        f"Run {state.run_id} ended without a word: its process was killed. It is started again by itself.",
        transient=True,
    )
