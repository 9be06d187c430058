"""Makes a Snowflake destination from its settings and the pipeline's tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableConfig
from rosetta_dagster.cdc.connection_steps import Step
from rosetta_dagster.cdc.destination.snowflake import steps as connection_steps
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session, connect
from rosetta_dagster.cdc.destination.snowflake.destination import SnowflakeDestination
from rosetta_dagster.cdc.destination.snowflake.login import log_in_of


def make(name: str, settings: SnowflakeDestinationConfig, pipeline: PipelineConfig) -> SnowflakeDestination:
    """Return the destination of the pipeline, not connected yet."""
    return SnowflakeDestination(
        name,
        settings,
        {table.id: table.target(settings.namespace) for table in pipeline.tables},
        pipeline=pipeline.name,
        policy=pipeline.on_schema_change,
        options={table.id: table for table in pipeline.tables},
    )


@contextmanager
def session(name: str, settings: SnowflakeDestinationConfig) -> Iterator[Session]:
    """Open a session in autocommit mode, closed with the block."""
    with connect(settings, log_in_of(settings), who=f"destination {name}", tag="rosetta") as opened:
        yield opened


def describe(settings: SnowflakeDestinationConfig) -> str:
    """Return who connects to where, and how they log in. `KeyRefused` when the key cannot be used."""
    return f"{settings.describe()}, {log_in_of(settings).shown}"


def steps(name: str, settings: SnowflakeDestinationConfig, tables: Sequence[TableConfig]) -> Iterator[Step]:  # noqa: ARG001 - the role creates tables
    return connection_steps.steps(name, settings)
