"""Refuses pipelines that would replicate a table into itself, directly or by way of the source."""

from collections.abc import Iterable, Mapping

from rosetta_dagster.cdc.change.feeder import Feeder
from rosetta_dagster.cdc.destination.base import StreamIdentity
from rosetta_dagster.cdc.destination.postgres.catalog import Connection
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.table_id import TableId

_OWN_DATABASE = """
SELECT system_identifier::text, (SELECT oid::bigint FROM pg_database WHERE datname = current_database())
FROM pg_control_system()
"""

_OWN_SLOTS = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"


def refuse_circles(connection: Connection, identity: StreamIdentity, targets: Mapping[TableId, TableId]) -> None:
    """Raise `ConfigurationError` when a table is its own target, or when another pipeline replicates its target to it."""
    own = connection.execute(_OWN_DATABASE).fetchone()
    assert own is not None, "the function returns one row"
    if own == (identity.system_identifier, identity.database_oid):
        _refuse_tables_that_are_their_targets(targets)
    feeders = [feeder for feeder in identity.feeders if feeder.system_identifier == own[0]]
    if feeders:
        slots = {str(name) for (name,) in connection.execute(_OWN_SLOTS)}
        _refuse_feeders_of_targets([feeder for feeder in feeders if feeder.slot_name in slots], identity.pipeline, targets)


def _refuse_tables_that_are_their_targets(targets: Mapping[TableId, TableId]) -> None:
    same = sorted(source for source, target in targets.items() if source == target)
    if same:
        raise ConfigurationError(
            f"Source and destination are the same table in the same database: {', '.join(map(str, same))}.",
            "Give these tables another target (pipeline_tables.target_schema, target_name), or the pipeline another "
            "destination.",
        )


def _refuse_feeders_of_targets(feeders: Iterable[Feeder], pipeline: str, targets: Mapping[TableId, TableId]) -> None:
    """Refuse the first of these pipelines, which read this database, that reads the target of the table it writes."""
    for feeder in feeders:
        if targets.get(feeder.table) == feeder.origin:
            raise ConfigurationError(
                f"Pipelines {pipeline} and {feeder.pipeline} replicate table {feeder.table} to each other, and each change "
                "would come back for ever.",
                f"Take the table out of one of them. If that is {feeder.pipeline}, start it once without the table, or drop "
                f"it: rosetta drop {feeder.pipeline}",
            )
