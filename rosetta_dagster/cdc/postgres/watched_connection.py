"""Decides how long the answer of a PostgreSQL server is waited for: as long as the server is seen to be at work on it.

TCP tells only of the next machine. Behind a proxy, a firewall or a server that stands still, a connection stays open and
nothing comes, for ever. So whoever has waited for a while asks, over a second connection, what the server does for the
first one. While it works, or waits for a lock, it is waited for. When it cannot be asked, has nothing to do, or waits for
us, then bytes got lost, and the connection is given up.
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


class PatientConnection(psycopg.Connection[TupleRow]):
    """A connection that is given up when nothing comes although the server has nothing to do for it.

    `OperationalError` then; the connection counts as broken. A statement that is not wanted any more is canceled.
    """

    #: The server's process; None until it is known, and every wait is limited.
    _backend_pid: int | None = None

    #: Whether what is being waited for is not wanted any more: then the server is asked to cancel it.
    is_unwanted: Callable[[], bool] = bool

    @classmethod
    def open(cls, conninfo: str, cursor_factory: type[psycopg.Cursor[TupleRow]] = psycopg.Cursor) -> Self:
        """Connect, in autocommit mode, and learn which process serves the connection: a pooler tells another one."""
        connection = cls.connect(conninfo, autocommit=True, cursor_factory=cursor_factory)
        with ExitStack() as unless_open:
            unless_open.callback(connection.close)
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            unless_open.pop_all()
        assert row is not None, "the function returns one row"
        connection._backend_pid = int(row[0])  # noqa: SLF001 - our own
        return connection

    def wait(self, gen: PQGen[RV], *arguments: Any, **more: Any) -> RV:
        return super().wait(self._watched(gen), *arguments, **more)

    def _watched(self, gen: PQGen[RV]) -> Generator[Wait, Ready | int, RV]:
        """The same, with an eye on how long nothing has come."""
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
        """Whether to wait on: when not, the connection is broken and the error says so."""
        try:
            is_served = self._backend_pid is not None and self._is_served()
        except psycopg.Error:
            is_served = False
        if not is_served:
            self._give_up(f"no answer came for {ANSWER_TIMEOUT:.0f} seconds, and none is being worked on")

    def _give_up(self, why: str) -> NoReturn:
        # Not `close`: whoever owns the connection does that, and finds it broken.
        self.pgconn.finish()
        raise psycopg.OperationalError(why)

    def _is_served(self) -> bool:
        conninfo = psycopg.conninfo.make_conninfo(
            self.info.dsn, password=self.info.password, connect_timeout=ASK_TIMEOUT, replication="false"
        )
        with PatientConnection.connect(conninfo, autocommit=True) as second:
            return second.execute(_IS_AT_WORK, [self._backend_pid]).fetchone() is not None
