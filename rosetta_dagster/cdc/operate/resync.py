"""Makes a pipeline's next run copy all tables again: deletes its watermarks and copies at the destinations, and its slot."""

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import LeaseHeld
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slots import drop_slot, release_slot
from rosetta_dagster.cdc.store.database import Store


def resync(store: Store, name: str) -> PipelineConfig:
    """Delete the pipeline's watermarks and records of copies, and drop its slot. `LeaseHeld` while it runs.

    No row of a table is deleted here: the next run empties each table in the transaction that begins its copy.
    """
    try:
        with store.lease(store.state(name).id):
            config = _forget(store, name)
            store.report_slot_action(config.id, None, None)
            return config
    except LeaseHeld:
        raise LeaseHeld(
            f"Pipeline {name} is running, so not all of it can be copied again.",
            f"Pause it first (rosetta pause {name}), or copy single tables: rosetta table resync {name} TABLE",
        ) from None


def _forget(store: Store, name: str) -> PipelineConfig:
    config = store.pipeline(name)
    for row in config.destinations:
        make_destination(row, config).forget()
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        release_slot(connection, config.slot_name)
        drop_slot(connection, config.slot_name)
    return config
