"""Opens connections to a source, and decides what their errors mean."""

from contextlib import AbstractContextManager

import psycopg
from psycopg.rows import TupleRow

from rosetta_dagster.cdc import postgres_errors
from rosetta_dagster.cdc.config import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, SourceUnavailable
from rosetta_dagster.cdc.patience import PatientConnection


def connect(connection: PostgresConnection) -> "psycopg.Connection[TupleRow]":
    """A connection in autocommit mode. With an empty search path, so that the catalog prints every name in full."""
    with source_errors(connection):
        opened = postgres_errors.connect(connection, _translation(connection))
        try:
            opened.execute("SET search_path = ''")
        except BaseException:
            opened.close()
            raise
    return opened


def connect_for_replication(connection: PostgresConnection) -> "psycopg.Connection[TupleRow]":
    """A connection that understands replication commands. Each of its queries is sent as it is, without parameters."""
    with source_errors(connection):
        conninfo = connection.conninfo(application_name="rosetta", replication="database")
        return PatientConnection.open(conninfo, psycopg.ClientCursor)


def source_errors(connection: PostgresConnection) -> AbstractContextManager[None]:
    """Turn psycopg's errors within into ours."""
    return postgres_errors.translated(_translation(connection))


def _translation(connection: PostgresConnection) -> postgres_errors.Translation:
    return postgres_errors.Translation(
        who=f"source {connection.describe()}", unavailable=SourceUnavailable, rejected=ConfigurationError
    )
