"""Decides whether the destination's user may create what is missing, and names the GRANT that it needs otherwise."""

from typing import NamedTuple

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.destination.postgres import state_sql
from rosetta_dagster.cdc.destination.postgres.catalog import Connection
from rosetta_dagster.cdc.destination.postgres.sql import create_namespace
from rosetta_dagster.cdc.errors import DestinationRejected

_INSUFFICIENT_PRIVILEGE = "42501"

_PRIVILEGES = """
SELECT current_user::text, current_database()::text,
       has_database_privilege(current_database(), 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY'),
       namespace IS NOT NULL, COALESCE(has_schema_privilege(namespace::oid, 'USAGE'), false),
       COALESCE(has_schema_privilege(namespace::oid, 'CREATE'), false)
FROM to_regnamespace(quote_ident(%s)) AS namespace
"""


def remedy_for(error: psycopg.Error, user: str) -> str | None:
    """Return the remedy for an error about row-level security, which would leave rows out without a word if it were on."""
    if error.sqlstate != _INSUFFICIENT_PRIVILEGE or "row-level security" not in (error.diag.message_primary or ""):
        return None
    grantee = sql.Identifier(user).as_string()
    return f"Run there: ALTER ROLE {grantee} BYPASSRLS; or disable row-level security on the table."


class _Privileges(NamedTuple):
    """What the user may do in the database, and in one schema of it."""

    user: str
    database: str
    may_create_schemas: bool
    may_create_temporary_tables: bool
    schema_exists: bool
    may_use_schema: bool
    may_create_tables: bool

    @property
    def grantee(self) -> str:
        return sql.Identifier(self.user).as_string()

    @property
    def quoted_database(self) -> str:
        return sql.Identifier(self.database).as_string()


def ensure_namespace(connection: Connection, namespace: str) -> None:
    """Create the schema unless it exists. Raise `DestinationRejected` when tables cannot be created in it.

    An existing schema is not created again: even IF NOT EXISTS needs the CREATE privilege on the database.
    """
    user, quoted = _privileges(connection, namespace), sql.Identifier(namespace).as_string()
    if user.schema_exists:
        verify_usage(connection, namespace, creating=True)
        return
    if not user.may_create_schemas:
        raise DestinationRejected(
            f"Schema {namespace} of the destination is missing, and user {user.user} may not create it in database "
            f"{user.database}.",
            f"Run there: CREATE SCHEMA {quoted} AUTHORIZATION {user.grantee}; or: GRANT CREATE ON DATABASE "
            f"{user.quoted_database} TO {user.grantee};",
        )
    connection.execute(state_sql.LOCK_CREATION)
    connection.execute(create_namespace(namespace))


def verify_usage(connection: Connection, namespace: str, *, creating: bool) -> None:
    """Raise `DestinationRejected` when the user may not use an existing schema, or create tables in it with `creating`."""
    user, quoted = _privileges(connection, namespace), sql.Identifier(namespace).as_string()
    if not user.schema_exists or (user.may_use_schema and (user.may_create_tables or not creating)):
        return
    raise DestinationRejected(
        f"User {user.user} may not {'create tables in' if user.may_use_schema else 'use'} schema {namespace} of the "
        "destination.",
        f"Run there: GRANT USAGE, CREATE ON SCHEMA {quoted} TO {user.grantee};",
    )


def verify_temporary_tables(connection: Connection) -> None:
    """Raise `DestinationRejected` when the user may not create temporary tables, which every merge needs."""
    user = _privileges(connection, "public")
    if not user.may_create_temporary_tables:
        raise DestinationRejected(
            f"User {user.user} may not create temporary tables in database {user.database} of the destination.",
            f"Run there: GRANT TEMPORARY ON DATABASE {user.quoted_database} TO {user.grantee};",
        )


def _privileges(connection: Connection, namespace: str) -> _Privileges:
    row = connection.execute(_PRIVILEGES, [namespace]).fetchone()
    assert row is not None, "the query returns one row"
    return _Privileges(str(row[0]), str(row[1]), *(bool(value) for value in row[2:]))
