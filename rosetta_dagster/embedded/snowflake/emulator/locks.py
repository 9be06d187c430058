"""The locks that UPDATE, DELETE and MERGE take on whole tables until their transaction ends, as in Snowflake.

In DuckDB the second writer of a row fails at once; in Snowflake it waits. DuckDB also refuses a transaction that read the
table before it got the lock. That is reported as a lock conflict too.
"""

import threading
import time
from typing import Protocol

from rosetta_dagster.embedded.snowflake.emulator.errors import cancelled, locked


class LockOwner(Protocol):
    """A session, as seen by the sessions that wait for it."""

    def idle_seconds(self) -> float:
        """Seconds since its last statement ended; 0 while one runs."""

    def abandon(self) -> None:
        """Roll its transaction back, which releases its locks."""


class TableLocks:
    """Which session holds which table."""

    def __init__(self, detached_timeout: float) -> None:
        self._detached_timeout = detached_timeout
        self._holders: dict[str, LockOwner] = {}
        self._changed = threading.Condition()

    def acquire(self, owner: LockOwner, table: str, timeout: float, is_cancelled: threading.Event) -> bool:
        """Wait for a table, `timeout` seconds at most. End the transaction of a holder that was abandoned.

        Return whether it waited.

        Raises:
            SnowflakeError: 000625 after the timeout, 000604 when the statement is cancelled.

        """
        deadline, has_waited = time.monotonic() + timeout, False
        while (holder := self._take(owner, table)) is not owner:
            has_waited = True
            if is_cancelled.is_set():
                raise cancelled()
            if time.monotonic() >= deadline:
                raise locked(table)
            if holder.idle_seconds() > self._detached_timeout:
                holder.abandon()
            else:
                with self._changed:
                    self._changed.wait(0.05)
        return has_waited

    def release(self, owner: LockOwner) -> None:
        """Release all its locks."""
        with self._changed:
            self._holders = {table: holder for table, holder in self._holders.items() if holder is not owner}
            self._changed.notify_all()

    def _take(self, owner: LockOwner, table: str) -> LockOwner:
        with self._changed:
            return self._holders.setdefault(table, owner)
