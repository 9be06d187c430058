"""Tests a pipeline's connections step by step, from the name of the host to a write. Nothing that it makes remains.

Steps come in the order in which a connection is made. After a step that fails, those that depend on it are skipped.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import uuid4

import psycopg

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, PostgresConnection, checked
from rosetta_dagster.cdc.config.places import hosts_of
from rosetta_dagster.cdc.destination.postgres.config import PostgresDestinationConfig
from rosetta_dagster.cdc.destination.registry import kind_of
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable, RosettaError
from rosetta_dagster.cdc.operate.inspection import snowflake_session
from rosetta_dagster.cdc.postgres.connections import open_session
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.postgres.watched_connection import WatchedConnection
from rosetta_dagster.cdc.source import connections
from rosetta_dagster.cdc.source.preflight import Severity, preflight
from rosetta_dagster.cdc.source.slots import create_slot
from rosetta_dagster.cdc.table_id import TableId

#: Seconds that a name, a TCP connection and a slot may take.
TIMEOUT = 10.0


class Outcome(StrEnum):
    """How a step ended."""

    OK = "OK"
    WARNING = "WARNING"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was tested."""

    place: str
    name: str
    outcome: Outcome
    detail: str = ""
    #: What to do about it; empty when nothing has to be done.
    remedy: str = ""


def run_connection_test(config: PipelineConfig) -> Iterator[Step]:
    """Yield each step when it is done: those of the source first, then those of each destination."""
    yield from _source_steps(config)
    for row in config.destinations:
        yield from _destination_steps(row, config)


def _destination_steps(row: DestinationConfig, config: PipelineConfig) -> Iterator[Step]:
    match row.type:
        case "POSTGRES":
            return _postgres_steps(row, config)
        case "SNOWFLAKE":
            return _snowflake_steps(row)
        case _:
            return _session_step(row)


def _source_steps(config: PipelineConfig) -> Iterator[Step]:
    source, place = config.source.connection, f"source {config.source.name}"
    later = ("tls", "log-in", "pooler", "replication", "slot", "privileges")
    yield from (network := list(_network_steps(place, source.host, source.port)))
    if _has_failed(network):
        yield from _skipped(place, later)
        return
    try:
        with connections.connect(source) as connection:
            yield from _session_steps(place, connection)
    except RosettaError as error:
        yield (failure := _log_in_failure(place, error))
        yield from _skipped(place, [name for name in later[2:] if name != failure.name])
        return
    yield from _replication_steps(place, source)
    yield from _preflight_steps(place, config)


def _network_steps(place: str, host: str, port: int) -> Iterator[Step]:
    """Yield the steps of the first host that answers; of the last one if none does."""
    *others, last = hosts_of(host)
    for other in others:
        steps = list(_steps_to_host(place, other, port))
        if not _has_failed(steps):
            yield from steps
            return
    yield from _steps_to_host(place, last, port)


def _steps_to_host(place: str, host: str, port: int) -> Iterator[Step]:
    if host.startswith("/"):
        yield Step(place=place, name="dns", outcome=Outcome.SKIPPED, detail=f"{host} is a directory of sockets")
        return
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except OSError:
        remedy = "Correct the host, or this machine's name servers."
        yield Step(place=place, name="dns", outcome=Outcome.FAILED, detail=f"{host} is not a known host.", remedy=remedy)
        yield from _skipped(place, ("tcp",))
        return
    yield Step(place=place, name="dns", outcome=Outcome.OK, detail=f"{host} is {', '.join(addresses)}")
    try:
        socket.create_connection((host, port), timeout=TIMEOUT).close()
    except OSError as error:
        remedy = "Correct the port; see that the server listens on this address and no firewall is between."
        detail = f"Port {port} of {host}: {error.strerror or 'no answer'}."
        yield Step(place=place, name="tcp", outcome=Outcome.FAILED, detail=detail, remedy=remedy)
    else:
        yield Step(place=place, name="tcp", outcome=Outcome.OK, detail=f"port {port} is open")


def _session_steps(place: str, connection: WatchedConnection) -> Iterator[Step]:
    is_encrypted = connection.pgconn.ssl_in_use
    remedy = "" if is_encrypted else "To require TLS, set sslmode to require or verify-full."
    detail = "encrypted" if is_encrypted else "not encrypted"
    yield Step(place=place, name="tls", outcome=Outcome.OK, detail=detail, remedy=remedy)
    version = f"as {connection.info.user}, PostgreSQL {connection.info.server_version // 10_000}"
    yield Step(place=place, name="log-in", outcome=Outcome.OK, detail=version)
    # A pooler that would break sessions or replication was refused when the session was opened.
    pooler = "one that keeps sessions apart" if connection.is_pooled else "none"
    yield Step(place=place, name="pooler", outcome=Outcome.OK, detail=pooler)


def _replication_steps(place: str, source: PostgresConnection) -> Iterator[Step]:
    name = f"rosetta_test_{uuid4().hex[:12]}"
    try:
        with connections.source_errors(source), connections.connect_for_replication(source) as replication:
            yield Step(place=place, name="replication", outcome=Outcome.OK, detail="a walsender answers")
            deadline = time.monotonic() + TIMEOUT
            replication.is_unwanted = lambda: time.monotonic() > deadline
            try:
                replication.execute(create_slot(name, temporary=True, server_version=replication.info.server_version))
            except psycopg.errors.QueryCanceled:
                yield Step(
                    place=place, name="slot", outcome=Outcome.WARNING,
                    detail=f"A slot was not ready within {TIMEOUT:.0f} s: the server waits for open transactions.",
                    remedy="End long transactions: SELECT pid, xact_start FROM pg_stat_activity ORDER BY xact_start",
                )  # fmt: skip
                return
            yield Step(place=place, name="slot", outcome=Outcome.OK, detail="a temporary slot was made")
    except RosettaError as error:
        yield Step(place=place, name="replication", outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)
        yield from _skipped(place, ("slot",))


def _preflight_steps(place: str, config: PipelineConfig) -> Iterator[Step]:
    try:
        findings = preflight(config)
    except RosettaError as error:
        yield Step(place=place, name="privileges", outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)
        return
    for finding in findings:
        outcome = Outcome.FAILED if finding.severity is Severity.ERROR else Outcome.WARNING
        yield Step(place=place, name=finding.check, outcome=outcome, detail=finding.message, remedy=finding.remedy)
    if not findings:
        yield Step(place=place, name="privileges", outcome=Outcome.OK, detail=f"{len(config.tables)} tables can be read")


def _postgres_steps(row: DestinationConfig, config: PipelineConfig) -> Iterator[Step]:
    place, later = f"destination {row.name}", ("tls", "log-in", "pooler", "write")
    try:
        target = checked(PostgresDestinationConfig, row.config, f"The config of destination {row.name}")
    except RosettaError as error:
        yield Step(place=place, name="config", outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)
        return
    yield from (network := list(_network_steps(place, target.host, target.port)))
    if _has_failed(network):
        yield from _skipped(place, later)
        return
    translation = Translation(who=place, unavailable=DestinationUnavailable, rejected=DestinationRejected)
    try:
        # Without the patience of a run: an operator waits for the answer.
        with open_session(target.conninfo(application_name="rosetta"), translation) as connection:
            yield from _session_steps(place, connection)
            with translated(translation):
                yield _write_step(place, connection, [table.target(target.namespace) for table in config.tables])
    except RosettaError as error:
        yield (failure := _log_in_failure(place, error))
        yield from _skipped(place, [name for name in later[2:] if name != failure.name])


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


def _snowflake_steps(row: DestinationConfig) -> Iterator[Step]:
    place = f"destination {row.name}"
    try:
        with snowflake_session(row.name, row.config) as session:
            ((user, role),) = session.execute("SELECT CURRENT_USER(), CURRENT_ROLE()")
            yield Step(place=place, name="log-in", outcome=Outcome.OK, detail=f"as {user} with role {role}")
            session.execute("CREATE TEMPORARY TABLE IF NOT EXISTS rosetta_test (id INTEGER)")
            session.execute("DROP TABLE IF EXISTS rosetta_test")
            yield Step(place=place, name="write", outcome=Outcome.OK, detail="a temporary table was made")
    except RosettaError as error:
        yield Step(place=place, name="log-in and write", outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)


def _session_step(row: DestinationConfig) -> Iterator[Step]:
    """Yield the one step of a kind of which only the `DestinationKind` is known: a session is opened."""
    place = f"destination {row.name}"
    try:
        kind = kind_of(row.type, row.name)
        with kind.session(row.name, row.config):
            yield Step(place=place, name="session", outcome=Outcome.OK, detail=f"of {kind.describe(row.name, row.config)}")
    except RosettaError as error:
        yield Step(place=place, name="session", outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)


def _log_in_failure(place: str, error: RosettaError) -> Step:
    is_tls = any(word in error.message for word in ("SSL", "TLS", "certificate"))
    name = "tls" if is_tls else "pooler" if "connection pooler" in error.message else "log-in"
    return Step(place=place, name=name, outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)


def _skipped(place: str, names: Sequence[str]) -> Iterator[Step]:
    for name in names:
        yield Step(place=place, name=name, outcome=Outcome.SKIPPED)


def _has_failed(steps: Sequence[Step]) -> bool:
    return any(step.outcome is Outcome.FAILED for step in steps)
