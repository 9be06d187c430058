"""Gives a pipeline the tables that its patterns stand for, before a worker starts."""

from rosetta_dagster.cdc.config.discovery import needs_discovery
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import SourceUnavailable
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.discovery import discover
from rosetta_dagster.cdc.store.database import Store


def write_matched_tables(store: Store, config: PipelineConfig) -> None:
    """Write the rows that the pipeline's patterns give it now."""
    if needs_discovery(config):
        source = config.source.connection
        with source_errors(source), connect(source) as connection:
            store.put_discovery(config.id, discover(connection, config))


def refuse_nothing_matched(config: PipelineConfig) -> None:
    """Raise `SourceUnavailable` when the patterns of a pipeline match no table yet: the next attempt may find one."""
    if config.patterns and not config.tables:
        patterns = ", ".join(str(pattern.id) for pattern in config.patterns)
        raise SourceUnavailable(
            f"No table of source {config.source.name} matches the patterns of pipeline {config.name} ({patterns}).",
            "The run starts again by itself, and continues once there is one. rosetta status lists those that are skipped.",
        )
