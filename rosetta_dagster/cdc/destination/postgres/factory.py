"""Creates a PostgreSQL destination from its row and the pipeline's tables."""

from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    PipelineConfig,
    PostgresDestinationConfig,
    TableConfig,
    checked,
)
from rosetta_dagster.cdc.destination.postgres.destination import PostgresDestination
from rosetta_dagster.cdc.table_id import TableId


def make(config: DestinationConfig, pipeline: PipelineConfig) -> PostgresDestination:
    """Return the destination, not connected yet. Raise `ConfigurationError` when its row is not complete."""
    connection = checked(PostgresDestinationConfig, config.config, f"The config of destination {config.name}")
    targets = {table.id: target_of(table, connection.namespace) for table in pipeline.tables}
    return PostgresDestination(
        config.name, connection, targets, pipeline=pipeline.name, policy=pipeline.on_schema_change, types=pipeline.types
    )


def target_of(table: TableConfig, namespace: str | None) -> TableId:
    """Return the table's own target, else one in the destination's namespace, else one named as at the source."""
    return TableId(table.target_namespace or namespace or table.id.namespace, table.target_name or table.id.name)
