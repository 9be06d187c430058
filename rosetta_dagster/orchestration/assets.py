"""One pipeline as Dagster definitions: a job that streams, an asset for each table, an asset for the stream with checks."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import dagster as dg

from rosetta_dagster.orchestration.checks import check_specs, results
from rosetta_dagster.orchestration.evaluation import evaluate
from rosetta_dagster.orchestration.naming import PIPELINE_TAG, job_name
from rosetta_dagster.orchestration.replication import replicate_until_stopped
from rosetta_dagster.orchestration.specs import PipelineSpecs, external_sources, materialized
from rosetta_dagster.orchestration.table_checks import table_check_specs
from rosetta_dagster.orchestration.tables import CatchUp, caught_up_tables
from rosetta_dagster.settings import Settings, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDefinitions:
    """The Dagster definitions of one pipeline."""

    #: The source tables that no pipeline writes.
    sources: list[dg.AssetSpec]
    #: It has no step of its own: the job reports it.
    stream: dg.AssetSpec
    #: None when other pipelines write all of its tables.
    tables: dg.AssetsDefinition | None
    checks: dg.AssetChecksDefinition
    job: dg.JobDefinition


def pipeline_definitions(
    specs: PipelineSpecs, *, taken: AbstractSet[dg.AssetKey], written: AbstractSet[dg.AssetKey], settings: Settings
) -> PipelineDefinitions:
    """Return the definitions of a pipeline.

    `taken` holds the tables that earlier pipelines write, `written` those that any pipeline writes.
    """
    sources = external_sources(specs, written)
    stream = specs.stream.replace_attributes(deps=[spec.key for spec in sources])
    tables = materialized(specs, taken)
    return PipelineDefinitions(
        sources=sources,
        stream=stream,
        tables=_tables(specs, tables) if tables else None,
        checks=_checks(specs),
        job=_job(specs, settings),
    )


def _tables(specs: PipelineSpecs, outputs: list[dg.AssetSpec]) -> dg.AssetsDefinition:
    shape = specs.shape

    @dg.multi_asset(
        name=f"tables_{shape.name}",
        description="Waits until the selected tables hold what the source has now. The pipeline has to run.",
        specs=outputs,
        check_specs=[check for output in outputs for check in table_check_specs(output.key)],
        can_subset=True,
    )
    def tables(
        context: dg.AssetExecutionContext, config: CatchUp
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        yield from caught_up_tables(context, config, specs)

    return tables


def _checks(specs: PipelineSpecs) -> dg.AssetChecksDefinition:
    shape = specs.shape

    # Without can_subset, executing a check in the UI would need all of them.
    @dg.multi_asset_check(name=f"check_{shape.name}", specs=check_specs(specs.stream.key), can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        with open_store() as store:
            yield from results(evaluate(store, specs, wanted))

    return checks


def _job(specs: PipelineSpecs, settings: Settings) -> dg.JobDefinition:
    shape, options = specs.shape, specs.options

    @dg.op(name=f"replicate_{shape.name}", tags=dict(options.op_tags), pool=options.pool)
    def replicate(context: dg.OpExecutionContext) -> None:
        replicate_until_stopped(context, specs, settings)

    @dg.job(
        name=job_name(shape.name),
        executor_def=dg.in_process_executor,
        description=f"Replicates {shape.source.name} until the pipeline is paused.",
        tags={PIPELINE_TAG: shape.name},
        # The control sensor restarts runs, with backoff; a run may last for months.
        run_tags={
            **options.run_tags,
            PIPELINE_TAG: shape.name,
            "dagster/max_retries": "0",
            "dagster/max_runtime": "0",
        },
    )
    def job() -> None:
        replicate()

    return job
