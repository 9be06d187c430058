"""Decides what a pipeline's assets look like: keys, groups, kinds, descriptions; and lets users decide otherwise."""

from dataclasses import dataclass

import dagster as dg

from rosetta_dagster.cdc.store.records import DestinationShape, PipelineShape, TableShape
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.naming import PIPELINE_TAG, destination_key, source_key, stream_key


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A table that a pipeline reads."""

    pipeline: PipelineShape
    table: TableShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A pipeline's stream of changes, which carries its checks."""

    pipeline: PipelineShape


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationTable:
    """A table that a pipeline writes at one of its destinations."""

    pipeline: PipelineShape
    table: TableShape
    destination: DestinationShape

    @property
    def target(self) -> TableId:
        """The name that the table has there."""
        return self.destination.target_of(self.table)


class RosettaTranslator:
    """What the assets of pipelines look like.

    To change it, override `get_asset_spec` and begin with what it returns here:

        class InCapitals(RosettaTranslator):
            def get_asset_spec(self, data):
                spec = super().get_asset_spec(data)
                return spec.replace_attributes(owners=["team:data"], group_name="replicas")

    The result has to depend on nothing but its argument: it is asked for in every process of a code location, and again in
    every run. Dependencies and whether an asset is skippable are not its to decide.
    """

    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        """The asset of a table or a stream. Two pipelines may read one table; then both get the same key."""
        match data:
            case SourceTable():
                return _source_table(data)
            case Stream():
                return _stream(data)
            case DestinationTable():
                return _destination_table(data)


def _source_table(data: SourceTable) -> dg.AssetSpec:
    shape, source = data.pipeline, data.pipeline.source
    return dg.AssetSpec(
        source_key(shape, data.table.id),
        group_name=shape.name,
        kinds={"postgres", "table"},
        description=f"Table {data.table.id} of {source.host}:{source.port}/{source.database}.",
        metadata={"dagster/table_name": f"{source.database}.{data.table.id}"},
    )


def _stream(data: Stream) -> dg.AssetSpec:
    shape = data.pipeline
    return dg.AssetSpec(
        stream_key(shape.name),
        group_name=shape.name,
        kinds={"stream", shape.engine.value.lower(), "postgres"},
        tags={PIPELINE_TAG: shape.name},
        description=f"The stream of changes from {shape.source.name} to {', '.join(d.name for d in shape.destinations)}.",
    )


def _destination_table(data: DestinationTable) -> dg.AssetSpec:
    shape = data.pipeline
    return dg.AssetSpec(
        destination_key(data.destination, data.table),
        group_name=shape.name,
        kinds={data.destination.type.lower(), "table"},
        tags={PIPELINE_TAG: shape.name},
        description=f"Replica of {data.table.id} of source {shape.source.name}.",
        metadata={"dagster/table_name": str(data.target)},
    )
