"""Tests the connection of a PostgreSQL destination step by step, from the name of its host to a write."""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from rosetta_dagster.cdc.config.pipeline import TableConfig
from rosetta_dagster.cdc.connection_steps import Outcome, Step, has_failed, skipped
from rosetta_dagster.cdc.destination.postgres.config import PostgresDestinationConfig
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable, RosettaError
from rosetta_dagster.cdc.postgres.connections import open_session
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.postgres.steps import log_in_failure, network_steps, session_steps
from rosetta_dagster.cdc.table_id import TableId

#: A privilege that is missing, with the statement that grants it. Each row is one.
_MISSING_PRIVILEGES = """
WITH target AS (SELECT * FROM unnest(%(namespaces)s::text[], %(names)s::text[]) AS target (namespace, name)),
places AS (
    SELECT DISTINCT namespace FROM target UNION SELECT 'rosetta'
), writes AS (
    SELECT class.oid, target.*, privilege
    FROM target JOIN pg_class AS class ON class.oid = to_regclass(format('%%I.%%I', namespace, name))
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
)
SELECT format('GRANT CREATE ON DATABASE %%I TO %%I', current_database(), current_user)
WHERE NOT has_database_privilege(current_database(), 'CREATE')
  AND EXISTS (SELECT FROM places WHERE to_regnamespace(format('%%I', namespace)) IS NULL)
UNION ALL
SELECT format('GRANT TEMP ON DATABASE %%I TO %%I', current_database(), current_user)
WHERE NOT has_database_privilege(current_database(), 'TEMP')
UNION ALL
SELECT format('GRANT USAGE, CREATE ON SCHEMA %%I TO %%I', namespace, current_user)
FROM places JOIN pg_namespace ON nspname = namespace
WHERE NOT (has_schema_privilege(pg_namespace.oid, 'USAGE') AND has_schema_privilege(pg_namespace.oid, 'CREATE'))
UNION ALL
SELECT format('GRANT %%s ON %%I.%%I TO %%I', string_agg(privilege, ', '), namespace, name, current_user)
FROM writes WHERE NOT has_table_privilege(oid, privilege) GROUP BY namespace, name
"""


def steps(name: str, settings: PostgresDestinationConfig, tables: Sequence[TableConfig]) -> Iterator[Step]:
    """Yield each step when it is done. Nothing that it makes remains."""
    place, later = f"destination {name}", ("tls", "log-in", "pooler", "write")
    yield from (network := list(network_steps(place, settings.host, settings.port)))
    if has_failed(network):
        yield from skipped(place, later)
        return
    translation = Translation(who=place, unavailable=DestinationUnavailable, rejected=DestinationRejected)
    try:
        # Without the patience of a run: an operator waits for the answer.
        with open_session(settings.conninfo(application_name="rosetta"), translation) as connection:
            yield from session_steps(place, connection)
            with translated(translation):
                yield _write_step(place, connection, [table.target(settings.namespace) for table in tables])
    except RosettaError as error:
        yield (failure := log_in_failure(place, error))
        yield from skipped(place, [each for each in later[2:] if each != failure.name])


def _write_step(place: str, connection: "psycopg.Connection[Any]", targets: Sequence[TableId]) -> Step:
    parameters = {"namespaces": [table.namespace for table in targets], "names": [table.name for table in targets]}
    missing = [str(statement) for (statement,) in connection.execute(_MISSING_PRIVILEGES, parameters)]
    if missing:
        detail, remedy = "The role may not write all that it has to.", f"Run at the destination: {'; '.join(missing)}"
        return Step(place=place, name="write", outcome=Outcome.FAILED, detail=detail, remedy=remedy)
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMP TABLE rosetta_test (id integer) ON COMMIT DROP")
        connection.execute("INSERT INTO rosetta_test VALUES (1)")
    return Step(place=place, name="write", outcome=Outcome.OK, detail="a temporary table was written")
