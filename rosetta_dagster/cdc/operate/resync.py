"""Forgets what the destinations hold of a pipeline, or of some of its tables, so that its next run copies them anew."""

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slots import drop_slot, release_slot
from rosetta_dagster.cdc.store.database import Store


def resync(store: Store, name: str) -> PipelineConfig:
    """Forget the pipeline's watermarks and copies, and drop its slot. `LeaseHeld` while it runs: pause it first.

    No row is removed here: the next run empties each table in the transaction that begins its copy.
    """
    with store.lease(store.state(name).id):
        config = store.pipeline(name)
        for row in config.destinations:
            make_destination(row, config).forget()
        source = config.source.connection
        with source_errors(source), connect(source) as connection:
            release_slot(connection, config.slot_name)
            drop_slot(connection, config.slot_name)
    return config
