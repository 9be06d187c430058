"""Decides how long the answer of a PostgreSQL server is waited for: as long as the server is seen to be at work on it.

TCP reports only that the next machine is gone. Behind a proxy, a firewall or a server that stands still, a connection stays
open and nothing comes, for ever. So after a while the server is asked, over a second connection, what it does for the first
one. While it works, or waits for a lock, the connection is waited for. When it cannot be asked, is idle, or waits for us,
then bytes got lost, and the connection is given up.
"""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from typing import Any, NoReturn, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg.waiting import Ready, Wait

#: Seconds without a byte after which the server is asked what it does; likewise how long it may take to answer that.
ANSWER_TIMEOUT = 20.0
ASK_TIMEOUT = 10

#: Seconds that the server may take to end a statement that it was asked to cancel.
CANCEL_TIMEOUT = 5.0

#: One row while the server is at work for the session.
_IS_AT_WORK = """
SELECT FROM pg_stat_activity WHERE pid = %s AND state NOT LIKE 'idle%%' AND wait_event_type IS DISTINCT FROM 'Client'
"""

RV = TypeVar("RV")


class WatchedConnection(psycopg.Connection[TupleRow]):
    """A connection that raises `OperationalError`, and is broken, when nothing comes while the server is idle.

    A statement is canceled once `is_unwanted()` returns true.
    """

    #: The server's process; None until it is known: every wait is limited until then.
    backend_pid: int | None = None

    is_unwanted: Callable[[], bool] = bool

    @classmethod
    def open(cls, conninfo: str, cursor_factory: type[psycopg.Cursor[TupleRow]] = psycopg.Cursor) -> Self:
        """Connect, in autocommit mode, and ask which process serves the connection: a pooler reports another one."""
        connection = cls.connect(conninfo, autocommit=True, cursor_factory=cursor_factory)
        with ExitStack() as unless_open:
            unless_open.callback(connection.close)
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            unless_open.pop_all()
        assert row is not None, "the function returns one row"
        connection.backend_pid = int(row[0])
        return connection

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler stands between: it invents a process of its own for its clients."""
        return self.backend_pid != self.pgconn.backend_pid

    def wait(self, gen: PQGen[RV], *arguments: Any, **more: Any) -> RV:
        return super().wait(self._watched(gen), *arguments, **more)

    def _watched(self, gen: PQGen[RV]) -> Generator[Wait, Ready | int, RV]:
        """Run the generator, and act on how long nothing has come."""
        try:
            wanted = next(gen)
            heard_at, canceled_at = time.monotonic(), None
            while True:
                ready = yield wanted
                if ready:
                    heard_at = time.monotonic()
                elif canceled_at is None and self.is_unwanted():
                    with suppress(psycopg.Error):
                        self.cancel_safe(timeout=ASK_TIMEOUT)
                    canceled_at = time.monotonic()
                elif canceled_at is not None and time.monotonic() - canceled_at > CANCEL_TIMEOUT:
                    self._give_up("the statement did not end when it was canceled")
                elif time.monotonic() - heard_at > ANSWER_TIMEOUT:
                    self._ask()
                    heard_at = time.monotonic()
                wanted = gen.send(Ready(ready))
        except StopIteration as end:
            result: RV = end.value
            return result

    def _ask(self) -> None:
        """Give the connection up unless the server is at work for it."""
        try:
            is_served = self.backend_pid is not None and self._is_served()
        except psycopg.Error:
            is_served = False
        if not is_served:
            self._give_up(f"no answer came for {ANSWER_TIMEOUT:.0f} seconds, and none is being worked on")

    def _give_up(self, why: str) -> NoReturn:
        # Not `close`: the owner of the connection does that, and finds it broken.
        self.pgconn.finish()
        raise psycopg.OperationalError(why)

    def _is_served(self) -> bool:
        conninfo = psycopg.conninfo.make_conninfo(
            self.info.dsn, host=self.info.host, password=self.info.password, connect_timeout=ASK_TIMEOUT, replication="false"
        )
        with WatchedConnection.connect(conninfo, autocommit=True) as second:
            return second.execute(_IS_AT_WORK, [self.backend_pid]).fetchone() is not None
