"""Makes batches, ranges of a copy, and the time between commits small, so that little data crosses many boundaries."""

from rosetta_dagster.cdc import pipeline, snapshot
from rosetta_dagster.cdc.source.debezium import stream as debezium
from rosetta_dagster.cdc.source.pgoutput import stream as pgoutput

_CHANGE_LIMIT = pgoutput.CHANGE_LIMIT


def set_limits(change_limit: int | None) -> None:
    """For all runs of this process that begin from now on; None: batches as in production."""
    pgoutput.CHANGE_LIMIT = debezium.CHANGE_LIMIT = change_limit or _CHANGE_LIMIT
    snapshot.PAGES_PER_RANGE = 1
    pipeline.COMMIT_INTERVAL = 0.02
    # How soon a run sees that it is to stop.
    pipeline.DELIVERY_WAIT = 0.02
