"""Gives a pipeline the tables that its patterns stand for, before a worker starts."""

from rosetta_dagster.cdc.config.discovery import needs_discovery
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import SourceUnavailable
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.discovery import discover
from rosetta_dagster.cdc.store.database import Store


def with_matched_tables(store: Store, config: PipelineConfig) -> PipelineConfig:
    """Write the rows that the pipeline's patterns give it now, and return the pipeline with them.

    `SourceUnavailable` when it has no table yet: the next attempt may find one.
    """
    if not needs_discovery(config):
        return config
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        store.put_discovery(config.id, discover(connection, config))
    found = store.pipeline(config.name)
    if not found.tables:
        patterns = ", ".join(str(pattern.id) for pattern in config.patterns)
        raise SourceUnavailable(
            f"No table of source {config.source.name} matches the patterns of pipeline {config.name} ({patterns}).",
            "The run starts again by itself, and continues once there is one. rosetta status lists those that are skipped.",
        )
    return found
