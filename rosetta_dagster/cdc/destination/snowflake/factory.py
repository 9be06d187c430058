"""Makes a Snowflake destination from its row and the pipeline's tables."""

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, TableConfig, checked
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.destination import SnowflakeDestination
from rosetta_dagster.cdc.table_id import TableId


def make(config: DestinationConfig, pipeline: PipelineConfig) -> SnowflakeDestination:
    """The destination of the pipeline, not connected yet. `ConfigurationError` when its row is not complete."""
    settings = checked(SnowflakeDestinationConfig, config.config, f"The config of destination {config.name}")
    targets = {table.id: _target_of(table, settings.namespace) for table in pipeline.tables}
    return SnowflakeDestination(config.name, settings, targets, pipeline=pipeline.name, policy=pipeline.on_schema_change)


def _target_of(table: TableConfig, namespace: str | None) -> TableId:
    """The table's own target, else the destination's namespace, else as at the source."""
    return TableId(table.target_namespace or namespace or table.id.namespace, table.target_name or table.id.name)
