"""Decides which run may run a pipeline: the one that holds its lease."""

from typing import Any

import psycopg

from rosetta_dagster.cdc.errors import LeaseHeld
from rosetta_dagster.cdc.postgres.errors import translated
from rosetta_dagster.cdc.store.connection import TRANSLATION

#: First key of the advisory locks that are leases; the second is the pipeline's id.
_LEASE_CLASS = 1_919_906_675

#: The server releases the lease of a silent holder within half a minute. The default is two hours.
_KEEPALIVES = """
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '30s';
"""

#: Where triggers announce changes of rows; the payload is the pipeline's id.
_LISTEN = "LISTEN rosetta_pipelines"


class Lease:
    """The right to run one pipeline: an advisory lock, which the server releases when this process dies."""

    def __init__(self, connect: Any, pipeline_id: int) -> None:
        self._connect = connect
        self._pipeline_id = pipeline_id
        self._connection: psycopg.Connection[Any] | None = None

    def check(self) -> None:
        """Verify that the lease is ours, and take it again after the connection broke.

        `LeaseHeld` when another run has it, `StoreUnavailable` when the configuration database cannot be reached.
        """
        with translated(TRANSLATION):
            if self._connection is not None and not self._connection.broken:
                self._connection.execute("SELECT 1")
            else:
                self._take()

    def take_news(self) -> bool:
        """Return whether a row of the pipeline was changed since the last call, or the connection broke. Sends nothing."""
        if self._connection is None:
            return True
        try:
            changed = {notice.payload for notice in self._connection.notifies(timeout=0)}
        except psycopg.OperationalError:
            return True
        return str(self._pipeline_id) in changed

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _take(self) -> None:
        self._connection = self._connect()
        self._connection.execute(_KEEPALIVES)
        row = self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", [_LEASE_CLASS, self._pipeline_id]).fetchone()
        if row != (True,):
            self.release()
            raise LeaseHeld("Another run has this pipeline.", "Nothing has to be done: one run of it is enough.")
        self._connection.execute(_LISTEN)
