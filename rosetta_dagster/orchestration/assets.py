"""One pipeline as Dagster sees it: source tables → stream → destination tables, two checks, one job."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import dagster as dg

from rosetta_dagster.cdc.health import observe
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.orchestration.checks import check_specs, results
from rosetta_dagster.orchestration.code_location import AssetJob
from rosetta_dagster.orchestration.naming import (
    PIPELINE_TAG,
    destination_key,
    destination_resource,
    job_name,
    source_key,
    source_resource,
    stream_key,
)
from rosetta_dagster.orchestration.replication import replicate_until_told
from rosetta_dagster.settings import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDefinitions:
    """What Dagster gets for one pipeline."""

    sources: list[dg.AssetSpec]
    assets: dg.AssetsDefinition
    checks: dg.AssetChecksDefinition
    job: AssetJob


def pipeline_definitions(
    shape: PipelineShape, *, taken: AbstractSet[dg.AssetKey], written: AbstractSet[dg.AssetKey]
) -> PipelineDefinitions:
    """The definitions of a pipeline.

    Tables that an earlier pipeline writes (`taken`) are left to that one. A source table that any pipeline writes is not
    declared as external; two pipelines that feed each other would otherwise close a circle, which Dagster refuses.
    """
    sources = [spec for spec in _source_specs(shape) if spec.key not in written]
    assets = _assets(shape, sources, taken)
    return PipelineDefinitions(sources=sources, assets=assets, checks=_checks(shape), job=_job(shape, assets))


def destination_keys(shape: PipelineShape) -> set[dg.AssetKey]:
    """The keys of the tables that the pipeline writes."""
    return {destination_key(destination, table) for destination in shape.destinations for table in shape.tables}


def _source_specs(shape: PipelineShape) -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            source_key(shape, table.id),
            group_name=shape.name,
            kinds={"postgres", "table"},
            description=f"Table {table.id} of {shape.source.host}:{shape.source.port}/{shape.source.database}.",
        )
        for table in shape.tables
    ]


def _table_specs(shape: PipelineShape, taken: AbstractSet[dg.AssetKey]) -> list[dg.AssetSpec]:
    specs = {
        destination_key(destination, table): dg.AssetSpec(
            destination_key(destination, table),
            group_name=shape.name,
            kinds={destination.type.lower(), "table"},
            deps=[stream_key(shape.name)],
            skippable=True,
            tags={PIPELINE_TAG: shape.name},
            description=f"Replica of {table.id} of source {shape.source.name}.",
        )
        for destination in shape.destinations
        for table in shape.tables
    }
    return [spec for key, spec in specs.items() if key not in taken]


def _assets(shape: PipelineShape, sources: list[dg.AssetSpec], taken: AbstractSet[dg.AssetKey]) -> dg.AssetsDefinition:
    stream = dg.AssetSpec(
        stream_key(shape.name),
        group_name=shape.name,
        kinds={"stream", shape.engine.value.lower(), "postgres"},
        deps=[spec.key for spec in sources],
        skippable=True,
        tags={PIPELINE_TAG: shape.name},
        description=f"The stream of changes from {shape.source.name} to {', '.join(d.name for d in shape.destinations)}.",
    )
    resources = {source_resource(shape.source.name)}
    resources |= {destination_resource(d.name) for d in shape.destinations if d.type == "POSTGRES"}

    @dg.multi_asset(
        name=f"replicate_{shape.name}",
        specs=[stream, *_table_specs(shape, taken)],
        # One slot feeds all tables, so they can only run together.
        can_subset=False,
        pool=job_name(shape.name),
        required_resource_keys=resources,
    )
    def replicate(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        yield from replicate_until_told(context, shape)

    return replicate


def _checks(shape: PipelineShape) -> dg.AssetChecksDefinition:
    # With can_subset=False the UI could not execute them without materializing the stream.
    @dg.multi_asset_check(name=f"check_{shape.name}", specs=check_specs(shape.name), can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        with open_store() as store:
            observation = observe(store, shape.name)
        yield from (result for result in results(observation) if result.check_name in wanted)

    return checks


def _job(shape: PipelineShape, assets: dg.AssetsDefinition) -> AssetJob:
    return dg.define_asset_job(
        job_name(shape.name),
        # Otherwise the run would carry the checks as planned, and show them as not executed.
        selection=dg.AssetSelection.assets(assets).without_checks(),
        executor_def=dg.in_process_executor,
        description=f"Replicates {shape.source.name} until the pipeline is paused.",
        tags={PIPELINE_TAG: shape.name},
        # The control sensor restarts runs, with backoff; a run may last for months.
        run_tags={PIPELINE_TAG: shape.name, "dagster/max_retries": "0", "dagster/max_runtime": "0"},
    )
