"""Tells what the tables of a pipeline look like at its destinations: their columns and how many rows they hold."""

from dataclasses import dataclass
from typing import Any

from rosetta_dagster.cdc.config import PipelineConfig, checked
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table at one destination."""

    destination: str
    table: TableSchema
    #: Estimated for a large table.
    row_count: int


def inspect(config: PipelineConfig, tables: frozenset[TableId]) -> list[TableFacts]:
    """What is to be known of these tables at each destination of the pipeline; those that it has no more are left out."""
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        schemas = read_schemas(connection, sorted(tables & {table.id for table in config.tables}))
    return [
        TableFacts(destination=row.name, table=schemas[table], row_count=count)
        for row in config.destinations
        for table, count in make_destination(row, config).row_counts(sorted(schemas)).items()
    ]


def verify_snowflake(name: str, config: dict[str, Any]) -> None:
    """`ConfigurationError` when the config of a Snowflake destination is not complete, or holds what it may not."""
    # The driver's folder is loaded only by those who use it.
    from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig  # noqa: PLC0415

    checked(SnowflakeDestinationConfig, config, f"The config of destination {name}")
