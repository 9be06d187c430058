"""One login: its tokens, role, warehouse, parameters and transaction, and one statement at a time."""

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping

import duckdb
from fakesnow.conn import FakeSnowflakeConnection

from rosetta_dagster.embedded.snowflake.emulator.account import Account
from rosetta_dagster.embedded.snowflake.emulator.transaction import Transaction

_LOCK_TIMEOUT = 43200.0


class Session:
    """A session. Owns its DuckDB connection until `close`."""

    def __init__(
        self, account: Account, connection: FakeSnowflakeConnection, *, user: str, role: str, parameters: Mapping[str, str]
    ) -> None:
        self.account = account
        self.connection = connection
        self.user = user
        self.role = role
        self.warehouse: str | None = None
        self.parameters = dict(parameters)
        self.token = secrets.token_urlsafe(32)
        self.master_token = secrets.token_urlsafe(32)
        self.id = secrets.randbits(48)
        self.transaction = Transaction(self.duckdb)
        self.opened_at = account.commits.now()
        #: The tables that the open transaction has written.
        self.written: set[str] = set()
        self.is_cancelled = threading.Event()
        self._mutex = threading.RLock()
        self._idle_since: float | None = time.monotonic()
        #: A statement has arrived and waits for the end of a fault.
        self.is_stalled = False

    @property
    def duckdb(self) -> "duckdb.DuckDBPyConnection":
        return self.connection._duck_conn

    @property
    def autocommits(self) -> bool:
        return self.is_on("AUTOCOMMIT", default="true")

    @property
    def lock_timeout(self) -> float:
        """Seconds that a statement waits for a table."""
        return float(self.parameters.get("LOCK_TIMEOUT", _LOCK_TIMEOUT))

    def parameter(self, name: str, default: str = "") -> str:
        """Return the session's value of a parameter, else the account's."""
        return self.parameters.get(name, self.account.parameters.get(name, default))

    def is_on(self, parameter: str, *, default: str = "false") -> bool:
        return self.parameter(parameter, default).lower() == "true"

    def use_schema(self, database: str, schema: str) -> None:
        """Make an existing schema the current one."""
        self.duckdb.execute(f'SET schema = \'"{database}"."{schema}"\'')
        self.connection.database, self.connection._schema = database, schema
        self.connection.database_set = self.connection.schema_set = True

    def use_no_schema(self) -> None:
        """Unset the current schema: names have to be qualified."""
        self.duckdb.execute("SET schema = 'memory.main'")
        self.connection.database = self.connection._schema = None
        self.connection.database_set = self.connection.schema_set = False

    def renew(self) -> None:
        """Return a new token for the same session."""
        self.token = secrets.token_urlsafe(32)

    @contextlib.contextmanager
    def statement(self) -> Iterator[None]:
        """Mark the session as busy. At the end, release its locks unless a transaction is open."""
        with self._mutex:
            self._idle_since = None
            self.is_cancelled.clear()
            try:
                yield
            finally:
                self._idle_since = time.monotonic()
                if not self.transaction.is_open:
                    self.account.commits.committed(self.id, self.written)
                    self.written = set()
                    self.account.locks.release(self)

    def cancel(self) -> None:
        """Cancel the running statement, if any."""
        self.is_cancelled.set()
        if self._idle_since is None:
            self.duckdb.interrupt()

    def idle_seconds(self) -> float:
        since = None if self.is_stalled else self._idle_since
        return 0.0 if since is None else time.monotonic() - since

    def abandon(self) -> None:
        """Roll back the open transaction and release the locks."""
        with self.statement():
            self.transaction.rollback()

    def close(self) -> None:
        """End the transaction and close the connection."""
        self.abandon()
        self.duckdb.close()
