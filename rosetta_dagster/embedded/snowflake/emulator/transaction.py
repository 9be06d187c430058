"""A session's transaction by Snowflake's rules, on top of DuckDB's: when it begins, and which statements end it."""

import duckdb

from rosetta_dagster.embedded.snowflake.emulator.errors import unsupported


class Transaction:
    """The transaction of one DuckDB connection."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self._connection = connection
        self.is_open = False
        self._has_failed = False

    def begin(self) -> None:
        """Begin a transaction. Inside another one it does nothing, as in Snowflake."""
        if not self.is_open:
            self._connection.begin()
            self.is_open, self._has_failed = True, False

    def commit(self, *, aborts_on_error: bool) -> None:
        """Commit. Does nothing when no transaction is open.

        After a failed statement, Snowflake keeps the others unless TRANSACTION_ABORT_ON_ERROR is set. DuckDB has lost
        them all, so that committing is an error here.
        """
        if not self.is_open:
            return
        if self._has_failed:
            self.rollback()
            if not aborts_on_error:
                raise unsupported(
                    "COMMIT after a statement failed in the transaction; roll back, or set TRANSACTION_ABORT_ON_ERROR"
                )
            return
        self.is_open = False
        self._connection.commit()

    def rollback(self) -> None:
        if self.is_open:
            self.is_open = False
            self._connection.rollback()

    def fail(self) -> None:
        """Note that one of its statements failed."""
        self._has_failed = self.is_open
