"""Reads the state of a replication slot, also of a lost one."""

from typing import Any, NamedTuple

import psycopg

from rosetta_dagster.cdc.change.position import Lsn

_READ = """
SELECT active, wal_status, confirmed_flush_lsn::text,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
       safe_wal_size, pg_current_wal_lsn()::text
FROM pg_replication_slots WHERE slot_name = %s
"""

#: What `wal_status` says of a slot whose WAL is gone.
LOST = "lost"


class SlotReading(NamedTuple):
    """One look at a slot."""

    active: bool
    #: `reserved`, `extended`, `unreserved` or `lost`.
    wal_status: str | None
    #: None when the slot is lost.
    confirmed_flush_lsn: Lsn | None
    #: Bytes of WAL that the slot keeps the server from removing.
    retained_bytes: int
    #: Bytes of WAL written since what the slot's reader has confirmed.
    lag_bytes: int
    #: Bytes of WAL that may still be written before the slot is in danger of being lost; None: no limit is set.
    safe_wal_bytes: int | None
    #: Where the server's WAL ends now.
    wal_lsn: Lsn

    @property
    def is_lost(self) -> bool:
        return self.wal_status == LOST


def slot_reading(connection: "psycopg.Connection[Any]", name: str) -> SlotReading | None:
    """Return the state of the slot; None when none has that name."""
    row = connection.execute(_READ, [name]).fetchone()
    if row is None:
        return None
    active, wal_status, confirmed, retained_bytes, lag_bytes, safe_wal_bytes, wal_lsn = row
    return SlotReading(
        active=active,
        wal_status=wal_status,
        confirmed_flush_lsn=None if confirmed is None else Lsn.parse(confirmed),
        retained_bytes=retained_bytes or 0,
        lag_bytes=lag_bytes or 0,
        safe_wal_bytes=safe_wal_bytes,
        wal_lsn=Lsn.parse(wal_lsn),
    )
