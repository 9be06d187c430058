"""Makes batches, ranges of a copy, and the times between commits and beats small: little data crosses many boundaries."""

from rosetta_dagster.cdc.change import pages
from rosetta_dagster.cdc.copy import spool
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.source import heartbeat, transactions
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from rosetta_dagster.cdc.stream import replicate as pipeline

_CHANGE_LIMIT = transactions.CHANGE_LIMIT
_STREAMS = (PgoutputStream, DebeziumStream)
_COMMITS = {stream: stream.commit for stream in _STREAMS}


def set_limits(change_limit: int | None, *, is_confirmed: bool) -> None:
    """For all runs of this process that begin from now on; None: batches as in production.

    Not confirmed: the slot stays where it is, so each run is sent everything again, and has to know what is held.
    """
    for stream in _STREAMS:
        stream.commit = _COMMITS[stream] if is_confirmed else _ignore  # type: ignore[assignment, method-assign]
    transactions.CHANGE_LIMIT = change_limit or _CHANGE_LIMIT
    pages.PAGES_PER_RANGE = 1
    spool.MEMORY_LIMIT = 1000
    pipeline.COMMIT_INTERVAL = 0.02
    # A run of Debezium may tell only with the next beat that it has caught up.
    heartbeat.BEAT_INTERVAL = 0.2
    source_watch.INSPECTION_INTERVAL = 0.5
    # How soon a run sees that it is to stop.
    pipeline.DELIVERY_WAIT = 0.02


def _ignore(stream: object, delivery: object) -> None:
    """As if each run was killed before it could tell the source."""
