"""What stands in Dagster for a pipeline that cannot be defined: an asset that says why, and a check that fails."""

from dataclasses import dataclass

import dagster as dg

from rosetta_dagster.orchestration.naming import HEALTH, PIPELINE_TAG, stream_key


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPipeline:
    """The definitions of a pipeline that cannot be defined."""

    stream: dg.AssetSpec
    check: dg.AssetChecksDefinition


def broken_pipeline(name: str, reason: str) -> BrokenPipeline:
    """Return what stands for the pipeline. It has no job, so it does not run; all others do."""
    key = stream_key(name)
    said = f"Pipeline {name} cannot be defined: {reason}"

    @dg.asset_check(asset=key, name=HEALTH, description="The pipeline can be defined.")
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=said)

    stream = dg.AssetSpec(key, group_name=name, kinds={"stream"}, tags={PIPELINE_TAG: name}, description=said)
    return BrokenPipeline(stream=stream, check=check)
