"""Compares the tables of a pipeline with their replicas by columns and row counts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rosetta_dagster.cdc.change.masking import masked_shape
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.base import Drift
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.publications import publications_of
from rosetta_dagster.cdc.source.row_counts import row_counts
from rosetta_dagster.cdc.table_id import TableId

#: Counts that differ are read this often, this many seconds apart, since changes may be in flight.
READINGS, READING_INTERVAL = 3, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationDrift:
    """A difference at one destination."""

    destination: str
    drift: Drift


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """The number of rows of one table at the source and at one destination."""

    destination: str
    table: TableId
    source_rows: int
    destination_rows: int

    def differs(self, tolerance: float) -> bool:
        """Return whether they differ by more than this fraction of the source's rows."""
        return abs(self.source_rows - self.destination_rows) > self.source_rows * tolerance


def schema_drift(config: PipelineConfig) -> list[DestinationDrift]:
    """Return how the destinations' tables differ from the source's. Tables that the source no longer has are left out."""
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        found = read_schemas(connection, [table.id for table in config.tables], publications_of(config))
    schemas = [masked_shape(schema, config.masks.get(table, {})) for table, schema in found.items()]
    return [
        DestinationDrift(destination=row.name, drift=drift)
        for row in config.destinations
        for drift in make_destination(row, config).drift(schemas)
    ]


def compare_row_counts(config: PipelineConfig, tolerance: float) -> list[RowCounts]:
    """Return the row counts of every table at every destination. Counts that differ are read again after a second.

    Tables of which not all rows were copied are left out: their counts differ, and nothing is wrong.
    """
    found = _read_counts(config, [table.id for table in config.tables if table.id not in config.partly_copied])
    for _ in range(READINGS - 1):
        differing = sorted({each.table for each in found.values() if each.differs(tolerance)})
        if not differing:
            break
        time.sleep(READING_INTERVAL)
        found |= _read_counts(config, differing)
    return list(found.values())


def _read_counts(config: PipelineConfig, tables: Sequence[TableId]) -> dict[tuple[str, TableId], RowCounts]:
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        at_source = row_counts(connection, tables, publications_of(config))
    return {
        (row.name, table): RowCounts(destination=row.name, table=table, source_rows=at_source[table], destination_rows=count)
        for row in config.destinations
        for table, count in make_destination(row, config).row_counts(sorted(at_source)).items()
    }
