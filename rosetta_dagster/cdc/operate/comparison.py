"""Compares the tables of a pipeline with what its destinations hold, roughly: their columns, and how many rows they have."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.base import Drift
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.row_counts import row_counts
from rosetta_dagster.cdc.table_id import TableId

#: How often counts that differ are taken again, and how long after, in seconds: changes may just be on their way.
LOOKS, LOOK_INTERVAL = 3, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationDrift:
    """A difference, and where it is."""

    destination: str
    drift: Drift


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """How many rows one table has at the source and at one destination."""

    destination: str
    table: TableId
    source_rows: int
    destination_rows: int

    def differs(self, tolerance: float) -> bool:
        """Whether they differ by more than this part of the source's rows."""
        return abs(self.source_rows - self.destination_rows) > self.source_rows * tolerance


def schema_drift(config: PipelineConfig) -> list[DestinationDrift]:
    """How the destinations' tables differ from the source's. A table that the source has no more is left out."""
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        schemas = read_schemas(connection, [table.id for table in config.tables])
    return [
        DestinationDrift(destination=row.name, drift=drift)
        for row in config.destinations
        for drift in make_destination(row, config).drift(list(schemas.values()))
    ]


def compare_row_counts(config: PipelineConfig, tolerance: float) -> list[RowCounts]:
    """The row counts of every table at every destination. Those that differ are looked at again after a second."""
    found = _look(config, [table.id for table in config.tables])
    for _ in range(LOOKS - 1):
        differing = sorted({each.table for each in found.values() if each.differs(tolerance)})
        if not differing:
            break
        time.sleep(LOOK_INTERVAL)
        found |= _look(config, differing)
    return list(found.values())


def _look(config: PipelineConfig, tables: Sequence[TableId]) -> dict[tuple[str, TableId], RowCounts]:
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        at_source = row_counts(connection, tables)
    return {
        (row.name, table): RowCounts(destination=row.name, table=table, source_rows=at_source[table], destination_rows=count)
        for row in config.destinations
        for table, count in make_destination(row, config).row_counts(sorted(at_source)).items()
    }
