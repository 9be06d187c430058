"""Decides when a code location loads its definitions again, and writes to the rows what its code declares."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import dagster as dg

from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.plan import declare, declared_elsewhere, release_removed
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.orchestration.checks import not_evaluated
from rosetta_dagster.orchestration.code_location import location_name, reload_code_location
from rosetta_dagster.orchestration.declarations import Pipeline, declarations
from rosetta_dagster.orchestration.location import Location
from rosetta_dagster.orchestration.naming import HEALTH, stream_key
from rosetta_dagster.orchestration.shapes import save_shapes, with_declared
from rosetta_dagster.settings import Settings, open_store

#: Seconds between two comparisons of the rows with the loaded definitions.
DEFINITIONS_INTERVAL = 10

#: Dagster+ sets it to 1 in the deployment of a branch, which must not change what the main one replicates.
_BRANCH = "DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT"


class _Applied(NamedTuple):
    """What was not written to the rows."""

    #: Why pipelines could not be written, by name.
    failures: dict[str, str]
    #: What to say of the pipelines that another code location declares.
    left: list[str]


def definitions_sensor(loaded: Sequence[PipelineShape], settings: Settings, location: Location) -> dg.SensorDefinition:
    """Reload the code location when a pipeline was added, removed or defined differently.

    If the location applies its code, it brings the rows in line with it first, and pauses pipelines that the code no longer
    declares: only a sensor knows its own code location, and no process that merely loads code writes. Its cursor holds what
    could not be written, by pipeline.
    """

    @dg.sensor(
        name="rosetta_definitions_sensor",
        description="Writes what the code declares, and reloads this code location when pipelines change.",
        minimum_interval_seconds=DEFINITIONS_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        applied = _Applied({}, [])
        with open_store(settings) as store:
            if location.apply and os.environ.get(_BRANCH) != "1":
                applied = _apply(context, store, location.pipelines)
            rows = store.shapes()
        save_shapes(settings, rows)
        is_current = with_declared(rows, location.pipelines, location.include) == list(loaded)
        if not is_current:
            reload_code_location(context)
        said = "The definitions are current." if is_current else "The definitions were reloaded."
        return dg.SensorResult(
            skip_reason="\n".join([said, *applied.failures.values(), *applied.left]),
            asset_events=_new(applied.failures, json.loads(context.cursor or "{}")),
            cursor=json.dumps(applied.failures),
        )

    return sensor


def _apply(context: dg.SensorEvaluationContext, store: Store, pipelines: Sequence[Pipeline]) -> _Applied:
    """Bring the rows in line with the code. Return why some pipelines could not be written; the others are."""
    location = location_name(context)
    declared = [pipeline.name for pipeline in pipelines]
    elsewhere = {} if location is None else declared_elsewhere(store, location, declared)
    failures: dict[str, str] = {}
    for pipeline in pipelines:
        if pipeline.name in elsewhere:
            continue
        try:
            for change in declare(store, declarations([pipeline])):
                context.log.info("%s", change)
        except RosettaError as error:
            failures[pipeline.name] = f"Pipeline {pipeline.name} is not as its code declares it: {error}"
    for name in release_removed(store, location, declared) if location is not None else ():
        context.log.info("Pipeline %s is paused: the code no longer declares it.", name)
    return _Applied(failures, [str(reason) for reason in elsewhere.values()])


def _new(failures: Mapping[str, str], before: Mapping[str, str]) -> list[dg.AssetCheckEvaluation]:
    """Return the failing check of each pipeline that could not be written for another reason than before."""
    return [
        not_evaluated(stream_key(name), HEALTH, reason) for name, reason in failures.items() if before.get(name) != reason
    ]
