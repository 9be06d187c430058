"""Decides which assets a pipeline has, and how they depend on each other: source tables → stream → destination tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import dagster as dg

from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.options import DagsterOptions
from rosetta_dagster.orchestration.translator import DestinationTable, RosettaTranslator, SourceTable, Stream

#: A table at a destination: the name of the destination and the source table.
Replica = tuple[str, TableId]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpecs:
    """The translated assets of one pipeline."""

    shape: PipelineShape
    sources: dict[TableId, dg.AssetSpec]
    stream: dg.AssetSpec
    tables: dict[Replica, dg.AssetSpec]
    translator: RosettaTranslator = field(repr=False)
    options: DagsterOptions

    def reshaped(self, shape: PipelineShape) -> "PipelineSpecs":
        """Return the assets of the pipeline as it is now: tables come and go while it runs."""
        return self if shape == self.shape else pipeline_specs(shape, self.translator, self.options)

    @property
    def table_keys(self) -> frozenset[dg.AssetKey]:
        """The keys of the tables that the pipeline writes."""
        return frozenset(spec.key for spec in self.tables.values())

    @property
    def replicas(self) -> Mapping[dg.AssetKey, frozenset[Replica]]:
        """The tables of each key: a translator may give one key to several."""
        by_key: dict[dg.AssetKey, set[Replica]] = {}
        for replica, spec in self.tables.items():
            by_key.setdefault(spec.key, set()).add(replica)
        return {key: frozenset(replicas) for key, replicas in by_key.items()}


def pipeline_specs(
    shape: PipelineShape, translator: RosettaTranslator, options: DagsterOptions | None = None
) -> PipelineSpecs:
    """Return the assets of a pipeline."""
    options = options or DagsterOptions()
    sources = {
        table.id: _grouped(translator.get_asset_spec(SourceTable(pipeline=shape, table=table)), options)
        for table in shape.tables
    }
    stream = _owned(translator.get_asset_spec(Stream(pipeline=shape)), options)
    tables = {
        (destination.name, table.id): _owned(
            translator.get_asset_spec(DestinationTable(pipeline=shape, table=table, destination=destination)), options
        )
        .replace_attributes(deps=[stream.key], skippable=False)
        .merge_attributes(
            metadata={
                "rosetta/stream": dg.MetadataValue.asset(stream.key),
                "rosetta/source_table": dg.MetadataValue.asset(sources[table.id].key),
            }
        )
        for destination in shape.destinations
        for table in shape.tables
    }
    return PipelineSpecs(shape=shape, sources=sources, stream=stream, tables=tables, translator=translator, options=options)


def _grouped(spec: dg.AssetSpec, options: DagsterOptions) -> dg.AssetSpec:
    return spec if options.group_name is None else spec.replace_attributes(group_name=options.group_name)


def _owned(spec: dg.AssetSpec, options: DagsterOptions) -> dg.AssetSpec:
    """Return the spec with what the pipeline's options say of it, beside what the translator does."""
    grouped = _grouped(spec, options)
    if not options.owners and not options.tags:
        return grouped
    return grouped.merge_attributes(owners=list(options.owners), tags=dict(options.tags))


def external_sources(specs: PipelineSpecs, written: Iterable[dg.AssetKey]) -> list[dg.AssetSpec]:
    """Return the source tables that no pipeline writes.

    Two pipelines that feed each other would otherwise form a cycle, which Dagster refuses.
    """
    keys = frozenset(written)
    return [spec for spec in specs.sources.values() if spec.key not in keys]


def materialized(specs: PipelineSpecs, taken: Iterable[dg.AssetKey]) -> list[dg.AssetSpec]:
    """Return the tables that are the pipeline's to materialize. Those that an earlier pipeline writes (`taken`) are not."""
    keys = frozenset(taken)
    return list({spec.key: spec for spec in specs.tables.values() if spec.key not in keys}.values())
