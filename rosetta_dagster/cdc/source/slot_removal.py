"""Drops a slot that retains too much WAL, also from under a run that does not stop, but never one that may be another's."""

import time
from typing import Any

import psycopg

from rosetta_dagster.cdc.errors import SlotInvalid, SourceUnavailable

#: Seconds that the reader of the slot may take to end.
TIMEOUT = 20.0

#: A slot whose name begins with rosetta_ is Rosetta's, and so is a connection that the engine PGOUTPUT reads with.
_READ = """
SELECT plugin = 'pgoutput' AND database = current_database(), active_pid,
       starts_with(slot_name, 'rosetta_') OR coalesce(application_name = 'rosetta ' || slot_name, false),
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) >= %s
FROM pg_replication_slots LEFT JOIN pg_stat_activity ON pid = active_pid WHERE slot_name = %s
"""

#: Another slot may have taken the name meanwhile.
_DROP = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = %s AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) >= %s
"""


def drop_retaining_slot(connection: "psycopg.Connection[Any]", name: str, limit: int) -> bool:
    """Drop the slot if it retains as many bytes of WAL, and end the connection that reads it. Return whether it was dropped.

    `SlotInvalid` for a slot that another client reads, or of another database; `SourceUnavailable` if its reader stays.
    """
    deadline = time.monotonic() + TIMEOUT
    while (row := connection.execute(_READ, [limit, name]).fetchone()) is not None:
        is_here, reader, is_own, is_above = row
        if not is_above:
            return False
        _refuse_foreign(name, is_here=is_here, reader=None if is_own else reader)
        try:
            if reader is not None:
                connection.execute("SELECT pg_terminate_backend(%s)", [reader])
            return connection.execute(_DROP, [name, limit]).fetchone() is not None
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise SourceUnavailable(
                    f"Replication slot {name} is not dropped: its reader does not end.", "It is tried again by itself."
                ) from None
            time.sleep(0.1)
    return False


def _refuse_foreign(name: str, *, is_here: bool, reader: int | None) -> None:
    if not is_here:
        raise SlotInvalid(
            f"Replication slot {name} is not dropped: it is of another database, or not of the plugin pgoutput.",
            "Give the pipeline another replication_name.",
        )
    if reader is not None:
        raise SlotInvalid(
            f"Replication slot {name} is not dropped: a client that is not known to be Rosetta reads it (PID {reader}).",
            "If nothing else needs the slot, end that client; else give the pipeline another replication_name.",
        )
