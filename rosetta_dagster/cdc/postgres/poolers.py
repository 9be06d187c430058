"""Recognizes connection poolers that share server sessions among their clients, and refuses them.

In transaction mode a pooler gives each transaction of a client another server session. Settings, advisory locks and
temporary tables stay in the session that they were made in, for the next client. A pooler in session mode is accepted.
"""

from typing import Any, Final

import psycopg

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.postgres.errors import Translation
from rosetta_dagster.cdc.postgres.remedies import BYPASS_POOLER

_PID: Final = "SELECT pg_backend_pid()"


def refuse_shared_sessions(connection: "psycopg.Connection[Any]", conninfo: str, translation: Translation) -> None:
    """`ConfigurationError` when two connections to the pooler are given one server session in turn."""
    if _are_shared(connection, conninfo):
        raise ConfigurationError(
            f"{translation.subject} is reached through a connection pooler in transaction or statement mode, which gives "
            "each transaction another session of the server.",
            f"{BYPASS_POOLER} A pool with pool_mode = session serves a destination and the configuration database as well.",
        )


def _are_shared(connection: "psycopg.Connection[Any]", conninfo: str) -> bool:
    """Hold a transaction over a second connection, and see whether it took the session of the first one."""
    before = _pid(connection)
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as second:
        second.execute("BEGIN")
        try:
            # Statement mode refuses BEGIN, or ends the transaction at once.
            is_open = second.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS
            taken = _pid(second)
            return not is_open or taken == before or _pid(connection) != before
        finally:
            second.execute("ROLLBACK")


def _pid(connection: "psycopg.Connection[Any]") -> int:
    row = connection.execute(_PID).fetchone()
    assert row is not None, "the function returns one row"
    return int(row[0])
