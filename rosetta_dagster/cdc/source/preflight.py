"""Tests whether a source is ready to be replicated. Findings are facts with a remedy; nothing is changed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import PreflightFailed
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.debezium.properties import unsupported_settings
from rosetta_dagster.cdc.source.debezium.readable import unreadable
from rosetta_dagster.cdc.source.generated_columns import published_generated_columns
from rosetta_dagster.cdc.source.publications import OWN_PREFIX, Publication, read_publication
from rosetta_dagster.cdc.table_id import TableId


class Severity(StrEnum):
    """Whether the pipeline can run in spite of a finding."""

    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be, and what to do about it."""

    check: str
    severity: Severity
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """What the server says of itself and of the user who asks."""

    wal_level: str
    can_replicate: bool
    free_slots: int
    free_walsenders: int
    slot_exists: bool
    username: str
    can_create: bool


_SERVER = """
SELECT current_setting('wal_level') AS wal_level,
       rolreplication OR rolsuper
           OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER'))
           AS can_replicate,
       current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots) AS free_slots,
       current_setting('max_wal_senders')::int
           - (SELECT count(*)::int FROM pg_stat_get_activity(NULL) WHERE backend_type = 'walsender') AS free_walsenders,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s) AS slot_exists,
       rolname::text AS username,
       has_database_privilege(current_database(), 'CREATE') AS can_create
FROM pg_roles WHERE rolname = current_user
"""

#: What this user may do with the tables, and whether a policy hides rows from it.
_PRIVILEGES = """
SELECT namespace.nspname::text, class.relname::text,
       has_schema_privilege(namespace.oid, 'USAGE') AS may_enter, has_table_privilege(class.oid, 'SELECT') AS may_read,
       row_security_active(class.oid) AS sees_part, pg_has_role(class.relowner, 'USAGE') AS owns
FROM unnest(%s::text[], %s::text[]) AS want (namespace, name)
JOIN pg_namespace AS namespace ON namespace.nspname = want.namespace
JOIN pg_class AS class ON class.relnamespace = namespace.oid AND class.relname = want.name
ORDER BY 1, 2
"""


#: From version 18 on PostgreSQL wants the whole replica identity published, and generated columns are not.
_HAS_GENERATED = """
SELECT current_setting('server_version_num')::int >= 180000 AND EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attgenerated <> '' AND NOT attisdropped)
"""


class _Rights(NamedTuple):
    """What the user may do with one table."""

    table: TableId
    may_enter: bool
    may_read: bool
    sees_part: bool
    owns: bool


def preflight(config: PipelineConfig) -> tuple[Finding, ...]:
    """Everything that is wrong with the pipeline's source, errors first. Raises when the source cannot be asked."""
    findings = list(_about_row(config))
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        server = _read_server(connection, config.slot_name)
        findings += _about_server(server)
        tables = [table.id for table in config.tables]
        schemas = read_schemas(connection, tables)
        findings += [_about_generated(schema) for schema in schemas.values() if _is_refused(connection, schema)]
        if config.engine is Engine.DEBEZIUM:
            unread = unreadable(connection, list(schemas.values()))
            findings += [_error("debezium", error.message, error.remedy) for error in unread]
            unusable = unsupported_settings(source, config.publication_name)
            findings += [_error("debezium", error.message, error.remedy) for error in unusable]
        rights = _read_rights(connection, tables)
        findings += _about_tables(tables, schemas, {right.table for right in rights})
        findings += [finding for right in rights for finding in _about_rights(right, server.username)]
        publication = read_publication(connection, config.publication_name)
        if publication is None:
            findings += _about_new_publication(config.publication_name, server, rights)
        else:
            findings += _about_publication(config.publication_name, publication, rights)
            generated = published_generated_columns(connection, config.publication_name, tables)
            findings += [_error("publication", error.message, error.remedy) for error in generated]
    return tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR))


def raise_findings(findings: Sequence[Finding]) -> None:
    """`PreflightFailed` when one of the findings is an error; it lists all that are."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise PreflightFailed(" ".join(str(finding) for finding in errors), "")


def _read_server(connection: "psycopg.Connection[Any]", slot_name: str) -> _Server:
    cursor = connection.cursor(row_factory=dict_row)
    row = cursor.execute(_SERVER, [slot_name]).fetchone()
    assert row is not None, "the current user has a row in pg_roles"
    return _Server(**row)


def _about_row(config: PipelineConfig) -> list[Finding]:
    findings = []
    if not config.tables:
        findings.append(
            _error(
                "tables",
                f"Pipeline {config.name} has no tables.",
                "Insert rows into pipeline_tables (pipeline_id, table_schema, table_name).",
            )
        )
    if not config.destinations:
        findings.append(
            _error(
                "destinations",
                f"Pipeline {config.name} has no destination.",
                "Insert a row into pipeline_destinations (pipeline_id, destination_id).",
            )
        )
    return findings


def _about_server(server: _Server) -> list[Finding]:
    """Pure: what is wrong with the server, and with the user's rights on it."""
    checks: list[tuple[bool, str, str, str]] = [
        (
            server.wal_level != "logical",
            "wal_level",
            f"The source runs with wal_level={server.wal_level}; change data capture needs logical.",
            "Set wal_level = logical at the source and restart it.",
        ),
        (
            not server.can_replicate,
            "replication",
            f"Role {server.username} may not replicate.",
            f"Run ALTER ROLE {_quoted(server.username)} REPLICATION at the source.",
        ),
        (
            server.free_slots < 1 and not server.slot_exists,
            "slots",
            "The source has no free replication slot.",
            "Drop unused slots, or raise max_replication_slots and restart the source.",
        ),
        (
            server.free_walsenders < 1,
            "walsenders",
            "The source has no free walsender.",
            "Raise max_wal_senders and restart the source.",
        ),
    ]
    return [_error(check, message, remedy) for is_wrong, check, message, remedy in checks if is_wrong]


def _about_tables(
    tables: Sequence[TableId], schemas: dict[TableId, TableSchema], relations: Collection[TableId]
) -> list[Finding]:
    missing = [_about_missing(table, is_there=table in relations) for table in tables if table not in schemas]
    return missing + [_about_identity(schema) for schema in schemas.values() if not _is_identified(schema)]


def _about_missing(table: TableId, *, is_there: bool) -> Finding:
    if is_there:
        message = f"{table} is no table at the source, or has no column that is logged."
        return _error("tables", message, "Take it out of pipeline_tables.")
    message = f"Table {table} does not exist at the source."
    return _error("tables", message, "Create it, or correct the row of pipeline_tables; names are case-sensitive.")


def _is_identified(schema: TableSchema) -> bool:
    return schema.identity is Identity.FULL or (schema.identity is Identity.KEY and bool(schema.key))


def _about_identity(schema: TableSchema) -> Finding:
    return Finding(
        check="replica_identity",
        severity=Severity.WARNING,
        message=f"Table {schema.id} has no replica identity: its inserts are replicated, and while it is published the "
        "source refuses its updates and deletes.",
        remedy=f"Add a primary key, or run ALTER TABLE {_quoted(*schema.id)} REPLICA IDENTITY FULL at the source.",
    )


def _is_refused(connection: "psycopg.Connection[Any]", schema: TableSchema) -> bool:
    """Whether a generated column keeps the source from updates and deletes of the table once it is published."""
    return schema.identity is Identity.FULL and connection.execute(_HAS_GENERATED, schema.id).fetchone() == (True,)


def _about_generated(schema: TableSchema) -> Finding:
    return Finding(
        check="replica_identity",
        severity=Severity.WARNING,
        message=f"Table {schema.id} has a generated column and REPLICA IDENTITY FULL: its inserts are replicated, and "
        "while it is published the source refuses its updates and deletes.",
        remedy=("" if schema.key else "Add a primary key. ")
        + f"Run ALTER TABLE {_quoted(*schema.id)} REPLICA IDENTITY DEFAULT at the source.",
    )


def _read_rights(connection: "psycopg.Connection[Any]", tables: Sequence[TableId]) -> list[_Rights]:
    rows = connection.execute(_PRIVILEGES, [[t.namespace for t in tables], [t.name for t in tables]])
    return [_Rights(TableId(*row[:2]), *row[2:]) for row in rows]


def _about_rights(rights: _Rights, username: str) -> list[Finding]:
    table = rights.table
    if not rights.may_enter:
        remedy = f"Run GRANT USAGE ON SCHEMA {_quoted(table.namespace)} TO {_quoted(username)} at the source."
        return [_error("privileges", f"Role {username} may not use the namespace of table {table}.", remedy)]
    if not rights.may_read:
        remedy = f"Run GRANT SELECT ON {_quoted(*table)} TO {_quoted(username)} at the source."
        return [_error("privileges", f"Role {username} may not read table {table}.", remedy)]
    if rights.sees_part:
        remedy = f"Run ALTER ROLE {_quoted(username)} BYPASSRLS at the source."
        return [_error("privileges", f"A row-level policy may hide rows of table {table} from role {username}.", remedy)]
    return []


def _about_new_publication(name: str, server: _Server, rights: Sequence[_Rights]) -> list[Finding]:
    """Whether the user may create it: that takes CREATE on the database and the ownership of every table."""
    foreign = [str(right.table) for right in rights if not right.owns]
    if server.can_create and not foreign:
        return []
    names = ", ".join(_quoted(*right.table) for right in rights)
    reason = f", as it does not own {', '.join(foreign)}" if server.can_create else ""
    return [
        _error(
            "publication",
            f"Publication {name} does not exist, and role {server.username} may not create it{reason}.",
            "Grant CREATE on the database and the ownership of the tables, or run as an administrator: CREATE PUBLICATION "
            f"{_quoted(name)} FOR TABLE {names} WITH (publish_via_partition_root = true).",
        )
    ]


def _about_publication(name: str, publication: Publication, rights: Sequence[_Rights]) -> list[Finding]:
    """What a publication that exists leaves out. Tables may be added to one of Rosetta's own, by their owner."""
    own = name.startswith(OWN_PREFIX)
    missing = publication.lacks([right.table for right in rights if not (own and right.owns)])
    wanted = {right.table for right in rights}
    findings = []
    if missing:
        names, quoted = ", ".join(map(str, missing)), ", ".join(_quoted(*table) for table in missing)
        remedy = f"Run ALTER PUBLICATION {_quoted(name)} ADD TABLE {quoted} at the source."
        findings.append(_error("publication", f"Publication {name} lacks {names}.", remedy))
    if not publication.is_whole:
        remedy = f"Run ALTER PUBLICATION {_quoted(name)} SET (publish = 'insert, update, delete, truncate') at the source."
        findings.append(_error("publication", f"Publication {name} leaves out a kind of changes.", remedy))
    if cut := sorted(wanted & publication.cut_tables):
        names = ", ".join(map(str, cut))
        remedy = "Publish them without a WHERE clause and without a list of columns, or use another publication."
        findings.append(_error("publication", f"Publication {name} tells only a part of {names}.", remedy))
    if split := sorted(wanted & publication.split_tables):
        names = ", ".join(map(str, split))
        remedy = f"Run ALTER PUBLICATION {_quoted(name)} SET (publish_via_partition_root = true) at the source."
        findings.append(_error("publication", f"Publication {name} tells of the partitions of {names} instead.", remedy))
    return findings


def _quoted(*names: str) -> str:
    """A name as SQL wants it, so that a remedy can be run as it stands."""
    return sql.Identifier(*names).as_string(None)


def _error(check: str, message: str, remedy: str) -> Finding:
    return Finding(check=check, severity=Severity.ERROR, message=message, remedy=remedy)
