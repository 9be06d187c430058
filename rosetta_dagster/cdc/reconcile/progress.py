"""Waits until the destinations have all that the source has now, by the LSN that the slot has confirmed."""

import time
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.errors import NotCaughtUp
from rosetta_dagster.cdc.source.heartbeat import emit_message

#: Seconds that the stream may take to catch up.
CATCH_UP_TIMEOUT = 120.0

_CONFIRMED = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"


def wait_until_caught_up(connection: "psycopg.Connection[Any]", slot_name: str) -> Lsn:
    """Write a message into the WAL, wait until the slot has confirmed it, and return its LSN.

    A slot confirms an LSN only when all changes before it are durable at every destination. `NotCaughtUp` when that takes
    too long, as when the pipeline is paused.
    """
    written = emit_message(connection, slot_name)
    deadline = time.monotonic() + CATCH_UP_TIMEOUT
    while (confirmed := _confirmed(connection, slot_name)) is None or confirmed < written:
        if time.monotonic() > deadline:
            raise NotCaughtUp(
                f"The stream of slot {slot_name} has not reached {written} within {CATCH_UP_TIMEOUT:.0f} seconds, so source "
                "and destination cannot be compared.",
                "Compare while the pipeline runs and is not far behind.",
            )
        time.sleep(0.1)
    return written


def _confirmed(connection: "psycopg.Connection[Any]", slot_name: str) -> Lsn | None:
    row = connection.execute(_CONFIRMED, [slot_name]).fetchone()
    return None if row is None or row[0] is None else Lsn.parse(row[0])
