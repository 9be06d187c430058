"""Builds Dagster's definitions from the rows of the configuration database and from pipelines declared in code."""

from collections.abc import Sequence

import dagster as dg

from rosetta_dagster.cdc.errors import StoreUnavailable
from rosetta_dagster.cdc.store.plan import declare
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.orchestration.administration import administration_jobs
from rosetta_dagster.orchestration.assets import PipelineDefinitions, destination_keys, pipeline_definitions
from rosetta_dagster.orchestration.code_location import shapes_for_this_process
from rosetta_dagster.orchestration.declarations import Pipeline, declarations, is_collected
from rosetta_dagster.orchestration.naming import destination_resource, source_resource
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource
from rosetta_dagster.orchestration.sensors import control_sensor, definitions_sensor, health_sensor
from rosetta_dagster.settings import Settings, open_store, read_settings


def rosetta_definitions(pipelines: Sequence[Pipeline] = ()) -> dg.Definitions:
    """Every pipeline of the configuration database as definitions, together with those that are declared here.

    Call it in a function decorated with `dagster.definitions`. `ConfigurationError` when no configuration database is
    named. While it cannot be reached, the definitions hold the sensors only, and these bring the pipelines back.
    """
    if is_collected(pipelines):
        return dg.Definitions()
    settings = read_settings()
    shapes = shapes_for_this_process(lambda: _read(settings, pipelines))
    return build(shapes, settings, declared=[pipeline.name for pipeline in pipelines])


def build(shapes: Sequence[PipelineShape], settings: Settings, *, declared: Sequence[str] = ()) -> dg.Definitions:
    """The definitions of these pipelines, of which the code declares some. Nothing is read from anywhere."""
    built = _pipelines(shapes)
    jobs = [pipeline.job for pipeline in built]
    names = [shape.name for shape in shapes]
    sources = {spec.key: spec for pipeline in built for spec in pipeline.sources}
    return dg.Definitions(
        assets=[*(pipeline.assets for pipeline in built), *sources.values()],
        asset_checks=[pipeline.checks for pipeline in built],
        jobs=[*jobs, *administration_jobs()],
        sensors=[
            control_sensor(jobs, frozenset(names), settings),
            definitions_sensor(shapes, settings, declared),
            health_sensor(names, settings),
        ],
        resources=_resources(shapes),
        # The "Materialize" button does not use the pipeline's job and its executor.
        executor=dg.in_process_executor,
    )


def _read(settings: Settings, pipelines: Sequence[Pipeline]) -> list[PipelineShape]:
    try:
        with open_store(settings) as store:
            declare(store, declarations(pipelines))
            return store.shapes()
    except StoreUnavailable:
        # A location that fails to load has no sensor left to load it again.
        return []


def _pipelines(shapes: Sequence[PipelineShape]) -> list[PipelineDefinitions]:
    built: list[PipelineDefinitions] = []
    written = set[dg.AssetKey]().union(*(destination_keys(shape) for shape in shapes))
    for index, shape in enumerate(shapes):
        before = set[dg.AssetKey]().union(*(destination_keys(other) for other in shapes[:index]))
        built.append(pipeline_definitions(shape, taken=before, written=written))
    return built


def _resources(shapes: Sequence[PipelineShape]) -> dict[str, PostgresSource | PostgresDestination]:
    resources: dict[str, PostgresSource | PostgresDestination] = {}
    for shape in shapes:
        source = shape.source
        resources[source_resource(source.name)] = PostgresSource(
            name=source.name, host=source.host, port=source.port, database=source.database, username=source.username
        )
        for destination in shape.destinations:
            if destination.type == "POSTGRES":
                resources[destination_resource(destination.name)] = PostgresDestination(
                    name=destination.name, namespace=destination.namespace, **destination.connection
                )
    return resources
