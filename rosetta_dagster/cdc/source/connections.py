"""Opens connections to a source, and decides what their errors mean."""

from contextlib import AbstractContextManager, ExitStack

import psycopg

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, SourceUnavailable
from rosetta_dagster.cdc.postgres import errors as postgres_errors
from rosetta_dagster.cdc.postgres.connections import applicable, open_with_settings
from rosetta_dagster.cdc.postgres.remedies import BYPASS_POOLER
from rosetta_dagster.cdc.postgres.session import (
    SESSION_SETTINGS,
    STARTUP_SETTINGS,
    WALSENDER_SETTINGS,
    session_sql,
    startup_options,
)
from rosetta_dagster.cdc.postgres.watched_connection import WatchedConnection

#: The settings with which values and names are printed as they are replicated.
TEXT_FORMS = session_sql()

#: What PostgreSQL finds wrong within itself, as when decoding cannot map a file to its table: a new session starts afresh.
_INTERNAL_ERROR = ("XX000",)


def connect(connection: PostgresConnection) -> WatchedConnection:
    """Open a connection in autocommit mode that prints values and names as they are replicated."""
    translation = _translation(connection)
    with source_errors(connection), ExitStack() as unless_open:
        opened = open_with_settings(connection.conninfo(application_name="rosetta"), translation)
        unless_open.callback(opened.close)
        if opened.is_pooled:
            # Fail now, not after the first copy.
            connect_for_replication(connection).close()
        unless_open.pop_all()
    return opened


def connect_for_replication(connection: PostgresConnection, *, application_name: str = "rosetta") -> WatchedConnection:
    """Open a connection that understands replication commands. Each of its queries is sent as it is, without parameters."""
    translation = _translation(connection)
    with source_errors(connection), ExitStack() as unless_open:
        opened = open_with_settings(
            connection.conninfo(application_name=application_name, replication="database"),
            translation,
            (*SESSION_SETTINGS, *WALSENDER_SETTINGS),
            cursor_factory=psycopg.ClientCursor,
        )
        unless_open.callback(opened.close)
        _refuse_what_does_not_replicate(opened, translation)
        unless_open.pop_all()
    return opened


def at_one_host(connection: PostgresConnection) -> PostgresConnection:
    """Return the connection with the one of its hosts that is the primary now, for a driver that takes one."""
    if not connection.has_several_hosts:
        return connection
    with source_errors(connection), connect(connection) as session:
        return connection.model_copy(update={"host": session.info.host})


def walsender_options(connection: PostgresConnection) -> str:
    """Return the startup options of a walsender that a driver opens itself; none where a pooler would refuse them."""
    with source_errors(connection), connect(connection) as session:
        return "" if session.is_pooled else startup_options(applicable(session, STARTUP_SETTINGS))


def source_errors(connection: PostgresConnection) -> AbstractContextManager[None]:
    """Turn psycopg's errors within into ours."""
    return postgres_errors.translated(_translation(connection))


def _refuse_what_does_not_replicate(opened: WatchedConnection, translation: postgres_errors.Translation) -> None:
    """A pooler that ignores what it does not know opens an ordinary session, in which replication commands are no SQL."""
    try:
        opened.execute("IDENTIFY_SYSTEM")
    except psycopg.errors.SyntaxError:
        raise ConfigurationError(
            f"{translation.subject} does not replicate: a connection pooler or a proxy that cannot pass replication on "
            "stands before it.",
            BYPASS_POOLER,
        ) from None


def _translation(connection: PostgresConnection) -> postgres_errors.Translation:
    return postgres_errors.Translation(
        who=f"source {connection.describe()}",
        unavailable=SourceUnavailable,
        rejected=ConfigurationError,
        passing=_INTERNAL_ERROR,
    )
