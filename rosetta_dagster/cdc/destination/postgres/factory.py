"""Makes a PostgreSQL destination from its settings and the pipeline's tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableConfig
from rosetta_dagster.cdc.connection_steps import Step
from rosetta_dagster.cdc.destination.postgres import steps as connection_steps
from rosetta_dagster.cdc.destination.postgres.config import PostgresDestinationConfig
from rosetta_dagster.cdc.destination.postgres.destination import PostgresDestination


def make(name: str, settings: PostgresDestinationConfig, pipeline: PipelineConfig) -> PostgresDestination:
    """Return the destination of the pipeline, not connected yet."""
    return PostgresDestination(
        name,
        settings,
        {table.id: table.target(settings.namespace) for table in pipeline.tables},
        pipeline=pipeline.name,
        policy=pipeline.on_schema_change,
        types=pipeline.types,
        options={table.id: table for table in pipeline.tables},
    )


@contextmanager
def session(name: str, settings: PostgresDestinationConfig) -> Iterator["psycopg.Connection[Any]"]:  # noqa: ARG001
    """Open a connection in autocommit mode, closed with the block. Errors are the driver's own."""
    with psycopg.connect(settings.conninfo(application_name="rosetta"), autocommit=True) as connection:
        yield connection


def describe(settings: PostgresDestinationConfig) -> str:
    return settings.describe()


def steps(name: str, settings: PostgresDestinationConfig, tables: Sequence[TableConfig]) -> Iterator[Step]:
    return connection_steps.steps(name, settings, tables)
