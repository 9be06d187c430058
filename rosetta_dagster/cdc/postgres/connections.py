"""Opens sessions with PostgreSQL servers, and refuses poolers and standbys that would break them."""

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from typing import Any, Final

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.config.places import is_loopback
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.postgres.poolers import refuse_shared_sessions
from rosetta_dagster.cdc.postgres.session import OWN_SEARCH_PATH, SESSION_SETTINGS, Setting, session_sql
from rosetta_dagster.cdc.postgres.watched_connection import WatchedConnection

#: Seconds that a standby may take to be promoted, or its name to lead to the new primary, while a failover goes on.
PROMOTION_PATIENCE = 60.0

_PROMOTION_POLL: Final = 1.0


def connect(
    config: PostgresConnection,
    translation: Translation,
    *,
    application_name: str = "rosetta",
    is_unwanted: Callable[[], bool] = bool,
) -> WatchedConnection:
    """Open a session that writes, in autocommit mode. `is_unwanted` cancels its statements.

    `ConfigurationError` when the row is wrong. A standby is waited for while a failover may be going on, and refused then.
    """
    return open_session(
        config.conninfo(application_name=application_name),
        translation,
        is_unwanted=is_unwanted,
        promotion_patience=PROMOTION_PATIENCE,
    )


def open_session(
    conninfo: str,
    translation: Translation,
    *,
    is_unwanted: Callable[[], bool] = bool,
    promotion_patience: float = 0.0,
) -> WatchedConnection:
    """Open a session that writes; a server that is a standby for longer than the patience is refused."""
    deadline = time.monotonic() + promotion_patience
    with translated(translation):
        while True:
            connection = open_with_settings(conninfo, translation, without=OWN_SEARCH_PATH)
            connection.is_unwanted = is_unwanted
            if not _is_standby(connection):
                return connection
            connection.close()
            if time.monotonic() >= deadline or is_unwanted():
                raise translation.rejected(
                    f"{translation.subject} is a standby, which cannot be written to.",
                    "Set host and port to the primary, or to a name that follows it; or promote this server.",
                )
            time.sleep(_PROMOTION_POLL)


def open_with_settings(
    conninfo: str,
    translation: Translation,
    settings: Collection[Setting] = SESSION_SETTINGS,
    *,
    without: Collection[str] = (),
    cursor_factory: type[psycopg.Cursor[tuple[object, ...]]] = psycopg.Cursor,
) -> WatchedConnection:
    """Open a session with these settings. Raises psycopg's errors; ours where a pooler shares sessions among its clients."""
    connection = WatchedConnection.open(conninfo, cursor_factory)
    with ExitStack() as unless_open:
        unless_open.callback(connection.close)
        if connection.is_pooled:
            refuse_shared_sessions(connection, conninfo, translation)
            _clear(connection)
        connection.execute(session_sql(settings, without=without))
        unless_open.pop_all()
    return connection


def is_exposed(connection: "psycopg.Connection[Any]") -> bool:
    """Return whether what is said over this connection passes a network without being encrypted."""
    address = connection.info.hostaddr or connection.info.host
    return not (connection.pgconn.ssl_in_use or is_loopback(address))


def try_to_set(connection: "psycopg.Connection[tuple[object, ...]]", name: str, value: str) -> None:
    """Set what only makes the work faster. `temp_buffers` is refused in a session that has used temporary tables."""
    try:
        connection.execute(sql.SQL("SELECT pg_catalog.set_config({}, {}, false)").format(name, value))
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege):
        return


def applicable(connection: "psycopg.Connection[Any]", settings: Iterable[Setting]) -> list[Setting]:
    """Return the settings whose condition is true for the role, database and version of this session's server."""
    return [
        setting
        for setting in settings
        if not setting.condition or connection.execute(f"SELECT {setting.condition}").fetchone() == (True,)
    ]


def _clear(connection: WatchedConnection) -> None:
    """Remove what the pooler's client before left in the session: temporary tables, locks, prepared statements."""
    connection.execute("DISCARD ALL")
    # The pooler may end one session and begin another between two transactions: statements would not be prepared there.
    connection.prepare_threshold = None


def _is_standby(connection: WatchedConnection) -> bool:
    return connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() == (True,)
