"""Builds Dagster's definitions from the rows of the configuration database and the pipelines declared in code."""

from collections.abc import Sequence

import dagster as dg

from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.errors import StoreUnavailable
from rosetta_dagster.cdc.store.plan import declare
from rosetta_dagster.cdc.store.records import DestinationShape, PipelineShape
from rosetta_dagster.orchestration.administration import administration_jobs
from rosetta_dagster.orchestration.alerts import alert_sensors
from rosetta_dagster.orchestration.assets import PipelineDefinitions, pipeline_definitions
from rosetta_dagster.orchestration.code_location import shapes_for_this_process
from rosetta_dagster.orchestration.declarations import Pipeline, declarations, is_collected
from rosetta_dagster.orchestration.naming import destination_resource, source_resource
from rosetta_dagster.orchestration.resources import PostgresSource, Resource, resource_class
from rosetta_dagster.orchestration.sensors import control_sensor, definitions_sensor, health_sensor
from rosetta_dagster.orchestration.specs import PipelineSpecs, pipeline_specs
from rosetta_dagster.orchestration.translator import RosettaTranslator
from rosetta_dagster.settings import Settings, open_store, read_settings


def rosetta_definitions(
    pipelines: Sequence[Pipeline] = (), *, translator: RosettaTranslator | None = None, administration: bool = True
) -> dg.Definitions:
    """Return the definitions of every pipeline: those of the configuration database, and those declared here.

    Call it in a function decorated with `dagster.definitions`, once in a code location. `ConfigurationError` when no
    configuration database is named for pipelines that are declared here. While none is named or it cannot be reached, the
    definitions are the sensors alone, which load the pipelines later. Without `administration` there are no jobs that
    create, change or remove pipelines: people who reach Dagster's UI can only launch the runs of those that exist.
    """
    if is_collected(pipelines):
        return dg.Definitions()
    settings = read_settings()
    shapes = shapes_for_this_process(lambda: _read(settings, pipelines))
    declared = [pipeline.name for pipeline in pipelines]
    return build(shapes, settings, declared=declared, translator=translator, administration=administration)


def build(
    shapes: Sequence[PipelineShape],
    settings: Settings,
    *,
    declared: Sequence[str] = (),
    translator: RosettaTranslator | None = None,
    administration: bool = True,
) -> dg.Definitions:
    """Return the definitions of these pipelines, some of which the code declares. Reads nothing."""
    specs = [pipeline_specs(shape, translator or RosettaTranslator()) for shape in shapes]
    built = _pipelines(specs, settings)
    jobs = [pipeline.job for pipeline in built]
    external = {spec.key: spec for pipeline in built for spec in pipeline.external}
    streams = {each.shape.name: each.stream.key for each in specs}
    return dg.Definitions(
        assets=[*(pipeline.tables for pipeline in built if pipeline.tables is not None), *external.values()],
        asset_checks=[pipeline.checks for pipeline in built],
        jobs=[*jobs, *(administration_jobs(streams) if administration else ())],
        sensors=[
            control_sensor(jobs, frozenset(shape.name for shape in shapes), settings),
            definitions_sensor(shapes, settings, declared),
            health_sensor(specs, settings),
            *alert_sensors(specs, settings),
        ],
        resources=_resources(shapes),
    )


def _read(settings: Settings, pipelines: Sequence[Pipeline]) -> list[PipelineShape]:
    if settings.config_database_url is None and not pipelines:
        # The location loads, and its sensors say what is missing until a database is named.
        return []
    try:
        with open_store(settings) as store:
            declare(store, declarations(pipelines))
            return store.shapes()
    except StoreUnavailable:
        # A location that fails to load has no sensor left to load it again.
        return []


def _pipelines(specs: Sequence[PipelineSpecs], settings: Settings) -> list[PipelineDefinitions]:
    built: list[PipelineDefinitions] = []
    written = frozenset[dg.AssetKey]().union(*(each.table_keys for each in specs))
    taken: set[dg.AssetKey] = set()
    for each in specs:
        built.append(pipeline_definitions(each, taken=taken, written=written, settings=settings))
        taken |= each.table_keys
    return built


def _resources(shapes: Sequence[PipelineShape]) -> dict[str, Resource]:
    resources: dict[str, Resource] = {}
    for shape in shapes:
        source = shape.source
        resources[source_resource(source.name)] = PostgresSource(
            name=source.name, host=source.host, port=source.port, database=source.database, username=source.username
        )
        for destination in shape.destinations:
            if (resource := _destination(destination)) is not None:
                resources[destination_resource(destination.name)] = resource
    return resources


def _destination(shape: DestinationShape) -> Resource | None:
    """Return the resource of a destination; None for a type that only another process knows.

    A row that is wrong ends the run of its pipeline. The location has to load for the others, so the resource of such a
    row has only what is right of it.
    """
    kind = next((kind for kind in kinds() if kind.type == shape.type), None)
    if kind is None:
        return None
    made = resource_class(kind)
    given = {name: value for name, value in shape.connection.items() if name in made.model_fields}
    return made.of_row(**given, name=shape.name, namespace=shape.namespace)
