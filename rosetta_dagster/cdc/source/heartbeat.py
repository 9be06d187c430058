"""Writes a heartbeat into a quiet stream, so that its slot advances and a stalled stream is detected.

A slot moves only by what its stream commits. While only other tables of the database are written, nothing comes, and the
slot would retain their WAL forever. So an idle stream writes a logical message of its own: it comes through the slot like a
change, touches no table, and its absence shows that the engine is stuck.
"""

import time
from collections.abc import Callable
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import StreamStalled
from rosetta_dagster.cdc.source.connections import connect, source_errors

#: Seconds of silence after which a message is written.
BEAT_INTERVAL = 10.0

#: Seconds that a message may take through an otherwise silent stream.
STALL_TIMEOUT = 60.0

#: Prefix of Rosetta's logical messages; followed by the slot's name.
MESSAGE_PREFIX = "rosetta."


class Heartbeat:
    """Watches one stream. Used by the thread that replicates; opens a connection for each message."""

    def __init__(
        self, connection: PostgresConnection, slot_name: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._slot_name = slot_name
        self._clock = clock
        self._heard_at = clock()
        self._beat_at = clock()
        self._awaited: Lsn | None = None

    def heard(self, lsn: Lsn) -> None:
        """The stream has delivered the log up to this LSN."""
        self._heard_at = self._clock()
        if self._awaited is not None and lsn >= self._awaited:
            self._awaited = None

    def idle(self) -> None:
        """The stream delivered nothing: write a message when it is time. `StreamStalled` when one got lost."""
        now = self._clock()
        if self._awaited is not None and now - max(self._heard_at, self._beat_at) > STALL_TIMEOUT:
            raise StreamStalled(
                f"The stream has delivered nothing for {STALL_TIMEOUT:.0f} seconds, although the source wrote "
                f"a heartbeat at {self._awaited}.",
                "The run restarts by itself. If it happens again, look for a firewall that drops idle connections.",
            )
        if self._awaited is None and now - max(self._heard_at, self._beat_at) >= BEAT_INTERVAL:
            self._awaited, self._beat_at = self._beat(), now

    def _beat(self) -> Lsn:
        with source_errors(self._connection), connect(self._connection) as connection:
            return emit_message(connection, self._slot_name)


def emit_message(connection: "psycopg.Connection[Any]", slot_name: str) -> Lsn:
    """Write a message for the slot's stream into the WAL, and return its LSN: every earlier commit has a smaller one."""
    row = connection.execute("SELECT pg_logical_emit_message(true, %s, '')::text", [MESSAGE_PREFIX + slot_name]).fetchone()
    assert row is not None, "the function returns one row"
    return Lsn.parse(str(row[0]))
