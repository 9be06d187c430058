"""One pipeline as Dagster definitions: source tables → stream → destination tables, with checks and a job."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import dagster as dg

from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.orchestration.checks import check_specs, results
from rosetta_dagster.orchestration.code_location import AssetJob
from rosetta_dagster.orchestration.evaluation import evaluate
from rosetta_dagster.orchestration.naming import PIPELINE_TAG, destination_resource, job_name, source_resource
from rosetta_dagster.orchestration.replication import replicate_until_stopped
from rosetta_dagster.orchestration.specs import PipelineSpecs, external_sources, materialized
from rosetta_dagster.settings import Settings, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDefinitions:
    """The Dagster definitions of one pipeline."""

    sources: list[dg.AssetSpec]
    assets: dg.AssetsDefinition
    checks: dg.AssetChecksDefinition
    job: AssetJob


def pipeline_definitions(
    specs: PipelineSpecs, *, taken: AbstractSet[dg.AssetKey], written: AbstractSet[dg.AssetKey], settings: Settings
) -> PipelineDefinitions:
    """Return the definitions of a pipeline.

    `taken` holds the tables that earlier pipelines write, `written` those that any pipeline writes.
    """
    sources = external_sources(specs, written)
    assets = _assets(specs, materialized(specs, sources, taken), settings)
    return PipelineDefinitions(sources=sources, assets=assets, checks=_checks(specs), job=_job(specs.shape, assets))


def _assets(specs: PipelineSpecs, outputs: list[dg.AssetSpec], settings: Settings) -> dg.AssetsDefinition:
    shape = specs.shape
    resources = {source_resource(shape.source.name)}
    resources |= {destination_resource(destination.name) for destination in shape.destinations}

    @dg.multi_asset(
        name=f"replicate_{shape.name}",
        specs=outputs,
        # One slot feeds all tables, so they can only run together.
        can_subset=False,
        pool=job_name(shape.name),
        required_resource_keys=resources,
    )
    def replicate(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        yield from replicate_until_stopped(context, specs, settings.materialize_interval_seconds)

    return replicate


def _checks(specs: PipelineSpecs) -> dg.AssetChecksDefinition:
    shape = specs.shape

    # With can_subset=False, executing a check in the UI would materialize the stream.
    @dg.multi_asset_check(name=f"check_{shape.name}", specs=check_specs(specs.stream.key), can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        with open_store() as store:
            yield from results(evaluate(store, specs, wanted))

    return checks


def _job(shape: PipelineShape, assets: dg.AssetsDefinition) -> AssetJob:
    return dg.define_asset_job(
        job_name(shape.name),
        # With the checks, each run would plan them and show them as not executed.
        selection=dg.AssetSelection.assets(assets).without_checks(),
        executor_def=dg.in_process_executor,
        description=f"Replicates {shape.source.name} until the pipeline is paused.",
        tags={PIPELINE_TAG: shape.name},
        # The control sensor restarts runs, with backoff; a run may last for months.
        run_tags={PIPELINE_TAG: shape.name, "dagster/max_retries": "0", "dagster/max_runtime": "0"},
    )
