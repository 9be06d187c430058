"""Decides when a code location loads its definitions again, and writes to the rows what its code declares."""

import json
import os
from collections.abc import Mapping, Sequence

import dagster as dg

from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.plan import declare, release_removed
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.orchestration.checks import not_evaluated
from rosetta_dagster.orchestration.code_location import location_name, reload_code_location
from rosetta_dagster.orchestration.declarations import Pipeline, declarations
from rosetta_dagster.orchestration.naming import HEALTH, stream_key
from rosetta_dagster.orchestration.shapes import save_shapes, with_declared
from rosetta_dagster.settings import Settings, open_store

#: Seconds between two comparisons of the rows with the loaded definitions.
DEFINITIONS_INTERVAL = 10

#: Dagster+ sets it to 1 in the deployment of a branch, which must not change what the main one replicates.
_BRANCH = "DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT"


def definitions_sensor(
    loaded: Sequence[PipelineShape], settings: Settings, pipelines: Sequence[Pipeline], *, apply: bool
) -> dg.SensorDefinition:
    """Reload the code location when a pipeline was added, removed or defined differently.

    With `apply` it brings the rows in line with the code first, and pauses pipelines that the code no longer declares: only
    a sensor knows its own code location, and no process that merely loads code writes. Its cursor holds what could not be
    written, by pipeline.
    """

    @dg.sensor(
        name="rosetta_definitions_sensor",
        description="Writes what the code declares, and reloads this code location when pipelines change.",
        minimum_interval_seconds=DEFINITIONS_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        failures: dict[str, str] = {}
        with open_store(settings) as store:
            if apply and os.environ.get(_BRANCH) != "1":
                failures = _apply(context, store, pipelines)
            rows = store.shapes()
        save_shapes(settings, rows)
        is_current = with_declared(rows, pipelines) == list(loaded)
        if not is_current:
            reload_code_location(context)
        said = "The definitions are current." if is_current else "The definitions were reloaded."
        return dg.SensorResult(
            skip_reason="\n".join([said, *failures.values()]),
            asset_events=_new(failures, json.loads(context.cursor or "{}")),
            cursor=json.dumps(failures),
        )

    return sensor


def _apply(context: dg.SensorEvaluationContext, store: Store, pipelines: Sequence[Pipeline]) -> dict[str, str]:
    """Bring the rows in line with the code. Return why some pipelines could not be written; the others are."""
    failures: dict[str, str] = {}
    for pipeline in pipelines:
        try:
            for change in declare(store, declarations([pipeline])):
                context.log.info("%s", change)
        except RosettaError as error:
            failures[pipeline.name] = f"Pipeline {pipeline.name} is not as its code declares it: {error}"
    location = location_name(context)
    declared = [pipeline.name for pipeline in pipelines]
    for name in release_removed(store, location, declared) if location is not None else ():
        context.log.info("Pipeline %s is paused: the code no longer declares it.", name)
    return failures


def _new(failures: Mapping[str, str], before: Mapping[str, str]) -> list[dg.AssetCheckEvaluation]:
    """Return the failing check of each pipeline that could not be written for another reason than before."""
    return [
        not_evaluated(stream_key(name), HEALTH, reason) for name, reason in failures.items() if before.get(name) != reason
    ]
