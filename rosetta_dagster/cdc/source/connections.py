"""Opens connections to a source, and decides what their errors mean."""

from contextlib import AbstractContextManager, ExitStack

import psycopg
from psycopg.rows import TupleRow

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, SourceUnavailable
from rosetta_dagster.cdc.postgres import errors as postgres_errors
from rosetta_dagster.cdc.postgres.watched_connection import PatientConnection

#: Text forms must not depend on the defaults of the server, the database or the user. With an empty search path the
#: catalog prints every name in full.
TEXT_FORMS = """
SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET lc_monetary = 'C';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET search_path = ''; SET statement_timeout = 0;
"""

#: What PostgreSQL finds wrong within itself, as when decoding cannot map a file to its table: a new session begins anew.
_INTERNAL_ERROR = ("XX000",)


def connect(connection: PostgresConnection) -> "psycopg.Connection[TupleRow]":
    """A connection in autocommit mode that prints values and names as they are replicated."""
    with source_errors(connection):
        opened = postgres_errors.connect(connection, _translation(connection))
        with ExitStack() as unless_open:
            unless_open.callback(opened.close)
            opened.execute(TEXT_FORMS)
            unless_open.pop_all()
    return opened


def connect_for_replication(connection: PostgresConnection) -> PatientConnection:
    """A connection that understands replication commands. Each of its queries is sent as it is, without parameters."""
    with source_errors(connection):
        conninfo = connection.conninfo(application_name="rosetta", replication="database")
        return PatientConnection.open(conninfo, psycopg.ClientCursor)


def source_errors(connection: PostgresConnection) -> AbstractContextManager[None]:
    """Turn psycopg's errors within into ours."""
    return postgres_errors.translated(_translation(connection))


def _translation(connection: PostgresConnection) -> postgres_errors.Translation:
    return postgres_errors.Translation(
        who=f"source {connection.describe()}",
        unavailable=SourceUnavailable,
        rejected=ConfigurationError,
        passing=_INTERNAL_ERROR,
    )
