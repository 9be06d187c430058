"""Starts the copies that rows of `pipeline_tables` ask for, by forgetting what the destinations have of those tables."""

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId


def begin_resyncs(store: Store, config: PipelineConfig) -> list[TableId]:
    """Forget the copies of the tables to resync, and return them. The caller holds the lease, and no worker runs."""
    tables = [table.id for table in config.tables if table.resync]
    if not tables:
        return []
    for row in config.destinations:
        make_destination(row, config).forget(tables)
    for table in tables:
        store.resync_begun(config.id, table)
    return tables
