"""Reads, makes and drops replication slots, and exports the snapshot that belongs to the moment one is made."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import SlotInvalid, SourceUnavailable
from rosetta_dagster.cdc.postgres.watched_connection import WatchedConnection
from rosetta_dagster.cdc.source.connections import connect, connect_for_replication, source_errors

#: How long the walsender of a run that was killed may take to notice, in seconds.
RELEASE_TIMEOUT = 20.0

#: Before this version the options of a new slot stand without parentheses.
OPTIONS_VERSION = 150_000

#: From this version on a standby can take over a slot with the role of the primary.
FAILOVER_VERSION = 170_000

_READ_SLOT = """
SELECT active, wal_status, confirmed_flush_lsn::text, plugin, database = current_database(),
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
FROM pg_replication_slots WHERE slot_name = %s
"""

#: A run whose machine died leaves a walsender behind until the server notices that nobody reads. It may be ended when the
#: slot's name says that the slot is ours; with any other slot, somebody else may be its reader.
_END_WALSENDER = """
SELECT CASE WHEN starts_with(slot_name, 'rosetta_') THEN pg_terminate_backend(active_pid) END
FROM pg_replication_slots WHERE slot_name = %s AND active_pid IS NOT NULL
"""


#: Seconds until the first report of what a new slot waits for, and between two reports.
WAIT_REPORT_INTERVAL = 5.0

#: Transactions that have written, oldest first; a prepared one has no session.
_OPEN_TRANSACTIONS = """
SELECT format('PID %s of role %s (%s), for %s seconds', pid, usename, application_name,
              extract(epoch FROM clock_timestamp() - xact_start)::int)
FROM (SELECT * FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
      ORDER BY xact_start LIMIT 3) AS session
UNION ALL
SELECT format('prepared transaction %L, for %s seconds', gid, extract(epoch FROM clock_timestamp() - prepared)::int)
FROM (SELECT * FROM pg_prepared_xacts ORDER BY prepared LIMIT 3) AS prepared
"""


class SnapshotStopped(Exception):
    """The run was stopped during a copy."""


class SlotState(NamedTuple):
    """The state of a replication slot at the source."""

    active: bool
    #: `reserved`, `extended`, `unreserved` or `lost`.
    wal_status: str | None
    confirmed_flush_lsn: Lsn
    #: Bytes of WAL that the slot keeps the server from removing.
    retained_bytes: int
    #: Bytes of WAL written since what the slot's reader has confirmed.
    lag_bytes: int


class ConsistentPoint(NamedTuple):
    """The moment a slot was made: a place in the log, and a snapshot of just that place, for others to import."""

    lsn: Lsn
    snapshot_name: str


class SourceIdentity(NamedTuple):
    """Which database of which cluster a source is."""

    system_identifier: str
    database_oid: int


def source_identity(connection: "psycopg.Connection[Any]") -> SourceIdentity:
    row = connection.execute(
        "SELECT system_identifier::text, (SELECT oid::bigint FROM pg_database WHERE datname = current_database())"
        " FROM pg_control_system()"
    ).fetchone()
    assert row is not None, "the function returns one row"
    return SourceIdentity(*row)


def read_slot(connection: "psycopg.Connection[Any]", name: str) -> SlotState | None:
    """The slot; None when there is none of that name. `SlotInvalid` when it cannot be streamed from."""
    row = connection.execute(_READ_SLOT, [name]).fetchone()
    if row is None:
        return None
    active, wal_status, confirmed, plugin, is_here, retained_bytes, lag_bytes = row
    if plugin != "pgoutput" or not is_here:
        raise SlotInvalid(
            f"Replication slot {name} is of another database or of the plugin {plugin}, not pgoutput.",
            "Give the pipeline another replication_name.",
        )
    if wal_status == "lost" or confirmed is None:
        raise SlotInvalid(
            f"Replication slot {name} is lost: the source removed WAL that it still needed.",
            f"Raise max_slot_wal_keep_size at the source, drop the slot (SELECT pg_drop_replication_slot('{name}')) "
            "and resync the pipeline.",
        )
    return SlotState(active, wal_status, Lsn.parse(confirmed), retained_bytes or 0, lag_bytes or 0)


def current_lsn(connection: "psycopg.Connection[Any]") -> Lsn:
    """Return up to where the source has written its log."""
    row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert row is not None, "the function returns one row"
    return Lsn.parse(row[0])


def advance_slot(connection: "psycopg.Connection[Any]", name: str, lsn: Lsn) -> None:
    """Let the slot skip everything before the LSN. Nobody may stream it meanwhile."""
    connection.execute(
        "SELECT pg_replication_slot_advance(slot_name, %s::pg_lsn) FROM pg_replication_slots"
        " WHERE slot_name = %s AND confirmed_flush_lsn < %s::pg_lsn",
        [str(lsn), name, str(lsn)],
    )


def release_slot(connection: "psycopg.Connection[Any]", name: str) -> None:
    """Wait until nobody streams the slot. The pipeline's lease is ours, so a walsender on its slot serves a dead run.

    `SourceUnavailable` when it does not end.
    """
    deadline = time.monotonic() + RELEASE_TIMEOUT
    while connection.execute(_END_WALSENDER, [name]).fetchone() is not None:
        if time.monotonic() > deadline:
            raise SourceUnavailable(
                f"Replication slot {name} is still in use by another connection.",
                "End what streams from it; every pipeline needs a slot of its own.",
            )
        time.sleep(0.1)


def drop_slot(connection: "psycopg.Connection[Any]", name: str) -> None:
    """Drop the slot; nothing happens when there is none. The WAL that it retained is free to be removed."""
    connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [name])


def create_slot(name: str, *, temporary: bool, server_version: int) -> sql.Composed:
    """Return the replication command. A slot that is to stay is carried over to standbys, where the server can do that."""
    kind = sql.SQL(" TEMPORARY" if temporary else "")
    if server_version < OPTIONS_VERSION:
        options = "EXPORT_SNAPSHOT"
    elif server_version >= FAILOVER_VERSION and not temporary:
        options = "(SNAPSHOT 'export', FAILOVER)"
    else:
        options = "(SNAPSHOT 'export')"
    return sql.SQL("CREATE_REPLICATION_SLOT {}{} LOGICAL pgoutput {}").format(sql.Identifier(name), kind, sql.SQL(options))


@contextmanager
def exported_snapshot(
    connection: PostgresConnection,
    name: str,
    *,
    stopped: Callable[[], bool],
    temporary: bool = False,
    is_needed: Callable[[], bool] = bool,
    report_wait: Callable[[str], None] = lambda _: None,
) -> Iterator[ConsistentPoint]:
    """Create a slot and export the snapshot of its consistent point, which lives as long as the block.

    The server waits for every transaction that is open by then. `report_wait` is called with who holds it up, when that
    takes long; `SnapshotStopped` when the run is stopped meanwhile.

    A temporary slot lives as long, too. One that is to stay is dropped when the block fails, since it would retain WAL,
    unless it is needed by then: what was copied under its snapshot can be continued by no other slot.
    """
    with source_errors(connection), connect_for_replication(connection) as replication:
        command = create_slot(name, temporary=temporary, server_version=replication.info.server_version)
        wait = _SlotWait(connection, stopped, report_wait)
        point = _created(replication, command, wait)
        with ExitStack() as unless_done:
            unless_done.callback(_drop_unless_needed, replication, name, is_needed=lambda: temporary or is_needed())
            yield point
            unless_done.pop_all()


def _drop_unless_needed(replication: WatchedConnection, name: str, *, is_needed: Callable[[], bool]) -> None:
    if not is_needed():
        replication.execute(sql.SQL("DROP_REPLICATION_SLOT {}").format(sql.Identifier(name)))


class _SlotWait:
    """Reports now and then which transactions a new slot waits for, until the run is stopped."""

    def __init__(self, source: PostgresConnection, stopped: Callable[[], bool], report: Callable[[str], None]) -> None:
        self._source = source
        self._report = report
        self._report_at = time.monotonic() + WAIT_REPORT_INTERVAL
        self.stopped = stopped

    def report_if_due(self) -> None:
        """Report the oldest open transactions when the last report was long enough ago."""
        if time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + WAIT_REPORT_INTERVAL
            with source_errors(self._source), connect(self._source) as connection:
                holders = [holder for (holder,) in connection.execute(_OPEN_TRANSACTIONS)]
            if holders:
                self._report(f"The copy begins once these transactions at the source have ended: {'; '.join(holders)}.")


def _created(replication: WatchedConnection, command: sql.Composed, wait: _SlotWait) -> ConsistentPoint:
    def report_and_check() -> bool:
        wait.report_if_due()
        return wait.stopped()

    replication.is_unwanted = report_and_check
    try:
        row = replication.execute(command).fetchone()
    except psycopg.errors.QueryCanceled:
        if wait.stopped():
            raise SnapshotStopped from None
        raise
    finally:
        replication.is_unwanted = bool
    assert row is not None, "the command returns one row"
    return ConsistentPoint(Lsn.parse(row[1]), row[2])
