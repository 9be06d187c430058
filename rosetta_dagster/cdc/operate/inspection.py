"""Reads the columns and row counts of a pipeline's tables at its destinations."""

from dataclasses import dataclass

from rosetta_dagster.cdc.change.masking import masked_shape
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.publications import publications_of
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table at one destination."""

    destination: str
    table: TableSchema
    #: Estimated for a large table.
    row_count: int


def inspect(config: PipelineConfig, tables: frozenset[TableId]) -> list[TableFacts]:
    """Return the facts of these tables at each destination. Tables that the pipeline no longer has are left out."""
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        wanted = sorted(tables & {table.id for table in config.tables})
        found = read_schemas(connection, wanted, publications_of(config))
    schemas = {table: masked_shape(schema, config.masks.get(table, {})) for table, schema in found.items()}
    return [
        TableFacts(destination=row.name, table=schemas[table], row_count=count)
        for row in config.destinations
        for table, count in make_destination(row, config).row_counts(sorted(schemas)).items()
    ]
