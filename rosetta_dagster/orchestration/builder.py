"""Builds Dagster's definitions from the rows of the configuration database and the pipelines declared in code."""

from collections.abc import Mapping, Sequence

import dagster as dg

from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.store.records import DestinationShape, PipelineShape
from rosetta_dagster.orchestration.administration import administration_jobs
from rosetta_dagster.orchestration.alerts import alert_sensors
from rosetta_dagster.orchestration.assets import PipelineDefinitions, pipeline_definitions
from rosetta_dagster.orchestration.broken import BrokenPipeline, broken_pipeline
from rosetta_dagster.orchestration.code_location import shapes_for_this_process
from rosetta_dagster.orchestration.declarations import Pipeline, is_collected, refuse_contradictions
from rosetta_dagster.orchestration.definitions_sensor import definitions_sensor
from rosetta_dagster.orchestration.location import Location
from rosetta_dagster.orchestration.naming import destination_resource, source_resource
from rosetta_dagster.orchestration.options import DagsterOptions
from rosetta_dagster.orchestration.resources import PostgresSource, Resource, resource_class
from rosetta_dagster.orchestration.sensors import control_sensor, health_sensor
from rosetta_dagster.orchestration.shapes import known_shapes, with_declared
from rosetta_dagster.orchestration.specs import PipelineSpecs, pipeline_specs
from rosetta_dagster.orchestration.translator import RosettaTranslator
from rosetta_dagster.settings import Settings, read_settings


def rosetta_definitions(
    pipelines: Sequence[Pipeline] = (),
    *,
    include: Sequence[str] | None = None,
    translator: RosettaTranslator | None = None,
    administration: bool = True,
    source_assets: bool = True,
    apply: bool = True,
) -> dg.Definitions:
    """Return the definitions of every pipeline: those of the configuration database, and those declared here.

    Call it in a function decorated with `dagster.definitions`, once in a code location. Loading only reads: while the
    configuration database cannot be reached, the definitions are those that the definitions sensor saved last.

    With `include`, as `["shop", "eu_*"]`, only those pipelines of the configuration database are defined here, beside those
    declared here. With `apply` that sensor writes what is declared here to the configuration database, but never from a
    branch deployment. Without it, `rosetta apply` does. Without `administration` there are no jobs that create, change or
    remove pipelines: people who reach Dagster's UI can only launch the runs of those that exist. Without `source_assets` the
    source tables are only named as what streams depend on: define them yourself, as where an asset writes such a table.
    """
    if is_collected(pipelines):
        return dg.Definitions()
    refuse_contradictions(pipelines)
    settings = read_settings()
    location = Location(
        pipelines=pipelines, include=include, administration=administration, source_assets=source_assets, apply=apply
    )
    shapes = shapes_for_this_process(lambda: with_declared(known_shapes(settings), pipelines, include))
    return build(shapes, settings, translator=translator, location=location)


def build_rosetta_asset_specs(
    pipelines: Sequence[Pipeline], translator: RosettaTranslator | None = None
) -> list[dg.AssetSpec]:
    """Return the assets of pipelines that code declares: source tables, streams and tables. Reads no database."""
    refuse_contradictions(pipelines)
    options = _options(pipelines)
    found: dict[dg.AssetKey, dg.AssetSpec] = {}
    for shape in with_declared([], pipelines):
        specs = pipeline_specs(shape, translator or RosettaTranslator(), options.get(shape.name))
        stream = specs.stream.replace_attributes(deps=[spec.key for spec in specs.sources.values()])
        # What a pipeline writes is that rather than another one's source.
        found = {spec.key: spec for spec in specs.sources.values()} | found
        found |= {spec.key: spec for spec in (stream, *specs.tables.values())}
    return list(found.values())


def build(
    shapes: Sequence[PipelineShape],
    settings: Settings,
    *,
    translator: RosettaTranslator | None = None,
    location: Location | None = None,
) -> dg.Definitions:
    """Return the definitions of these pipelines, some of which the code declares. Reads nothing."""
    location = location or Location()
    specs, broken = _specs(shapes, translator or RosettaTranslator(), _options(location.pipelines))
    built = _pipelines(specs, settings)
    jobs = [pipeline.job for pipeline in built]
    sources = {spec.key: spec for pipeline in built for spec in pipeline.sources} if location.source_assets else {}
    streams = {each.shape.name: each.stream.key for each in specs}
    return dg.Definitions(
        assets=[
            *(pipeline.tables for pipeline in built if pipeline.tables is not None),
            *sources.values(),
            *(pipeline.stream for pipeline in built),
            *(each.stream for each in broken),
        ],
        asset_checks=[*(pipeline.checks for pipeline in built), *(each.check for each in broken)],
        jobs=[*jobs, *(administration_jobs(streams) if location.administration else ())],
        sensors=[
            control_sensor(jobs, frozenset(each.shape.name for each in specs), settings),
            definitions_sensor(shapes, settings, location),
            health_sensor(specs, settings),
            *alert_sensors(specs, settings),
        ],
        resources=_resources(shapes),
    )


def _options(pipelines: Sequence[Pipeline]) -> dict[str, DagsterOptions]:
    return {pipeline.name: pipeline.dagster_options() for pipeline in pipelines}


def _specs(
    shapes: Sequence[PipelineShape], translator: RosettaTranslator, options: Mapping[str, DagsterOptions]
) -> tuple[list[PipelineSpecs], list[BrokenPipeline]]:
    """Return the assets of the pipelines, and what stands for those that a translator cannot translate."""
    specs: list[PipelineSpecs] = []
    broken: list[BrokenPipeline] = []
    for shape in shapes:
        try:
            specs.append(pipeline_specs(shape, translator, options.get(shape.name)))
        except Exception as error:  # noqa: BLE001 - code of users, about one pipeline: the others have to load
            broken.append(broken_pipeline(shape.name, f"{type(error).__name__}: {error}"))
    return specs, broken


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
