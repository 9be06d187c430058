"""Decides the keys, groups, kinds and descriptions of a pipeline's assets, and lets users override them."""

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
        """The table's name at the destination."""
        return self.destination.target_of(self.table)


class RosettaTranslator:
    """Translates pipelines to asset specs.

    To change them, override `get_asset_spec` and start from the default:

        class InCapitals(RosettaTranslator):
            def get_asset_spec(self, data):
                spec = super().get_asset_spec(data)
                return spec.replace_attributes(owners=["team:data"], group_name="replicas")

    The result may depend on the argument only: every process of a code location calls it, and every run calls it again.
    Dependencies and `skippable` are set afterwards.
    """

    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        """Return the spec of a table or a stream. Two pipelines that read one table get the same key."""
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
