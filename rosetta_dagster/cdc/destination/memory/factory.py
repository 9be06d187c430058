"""Makes a destination in memory from its settings and the pipeline's tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableConfig
from rosetta_dagster.cdc.connection_steps import Outcome, Step
from rosetta_dagster.cdc.destination.memory.config import MemoryDestinationConfig
from rosetta_dagster.cdc.destination.memory.database import MemoryDatabase
from rosetta_dagster.cdc.destination.memory.destination import MemoryDestination


def make(name: str, settings: MemoryDestinationConfig, pipeline: PipelineConfig) -> MemoryDestination:
    """Return the destination of the pipeline, not connected yet."""
    tables = {table.id: table for table in pipeline.tables}
    return MemoryDestination(
        name,
        MemoryDatabase.named(settings.database),
        {table: config.target(settings.namespace) for table, config in tables.items()},
        pipeline=pipeline,
        options=tables,
    )


@contextmanager
def session(name: str, settings: MemoryDestinationConfig) -> Iterator[MemoryDatabase]:  # noqa: ARG001
    """Return the database itself: there is no server to log in to."""
    yield MemoryDatabase.named(settings.database)


def describe(settings: MemoryDestinationConfig) -> str:
    return f"memory/{settings.database}"


def steps(name: str, settings: MemoryDestinationConfig, tables: Sequence[TableConfig]) -> Iterator[Step]:  # noqa: ARG001
    yield Step(place=f"destination {name}", name="session", outcome=Outcome.OK, detail=f"of {describe(settings)}")
