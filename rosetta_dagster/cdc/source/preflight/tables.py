"""Decides which tables of a pipeline can be replicated, and what a person should know of the others."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem, quoted, warning
from rosetta_dagster.cdc.table_id import TableId

#: The namespace that holds Rosetta's own state at a destination.
STATE_NAMESPACE = "rosetta"

_SYSTEM_NAMESPACES = ("pg_catalog", "information_schema", "pg_toast")

#: What the role may do with the tables, and whether a policy hides rows from it.
_RIGHTS = """
SELECT namespace.nspname::text, class.relname::text,
       has_schema_privilege(namespace.oid, 'USAGE') AS may_enter, has_table_privilege(class.oid, 'SELECT') AS may_read,
       row_security_active(class.oid) AS sees_part, pg_has_role(class.relowner, 'USAGE') AS owns
FROM unnest(%(namespaces)s::text[], %(names)s::text[]) AS want (namespace, name)
JOIN pg_namespace AS namespace ON namespace.nspname = want.namespace
JOIN pg_class AS class ON class.relnamespace = namespace.oid AND class.relname = want.name
ORDER BY 1, 2
"""

#: What each wanted name stands for. The root of a partition is the one that is farthest up.
_KINDS = """
SELECT want.namespace, want.name, class.relkind::text, class.relpersistence::text,
       CASE WHEN class.relispartition THEN
           (SELECT ARRAY[namespace.nspname::text, root.relname::text]
            FROM pg_class AS root JOIN pg_namespace AS namespace ON namespace.oid = root.relnamespace
            WHERE root.oid = pg_partition_root(class.oid)) END,
       CASE WHEN NOT class.relispartition AND class.relkind = 'r' THEN
           (SELECT count(*)::int FROM pg_inherits WHERE inhparent = class.oid) ELSE 0 END,
       CASE WHEN class.relkind = 'p' THEN
           (SELECT ARRAY[namespace.nspname::text, part.relname::text, part.relkind::text]
            FROM pg_partition_tree(class.oid) AS leaf JOIN pg_class AS part ON part.oid = leaf.relid
            JOIN pg_namespace AS namespace ON namespace.oid = part.relnamespace
            WHERE part.relkind = 'f' OR part.relpersistence <> 'p' ORDER BY 1 LIMIT 1) END
FROM unnest(%(namespaces)s::text[], %(names)s::text[]) AS want (namespace, name)
LEFT JOIN pg_namespace AS namespace ON namespace.nspname = want.namespace
LEFT JOIN pg_class AS class ON class.relnamespace = namespace.oid AND class.relname = want.name
"""

#: Names that a missing one may have been meant for.
_NAMES = """
SELECT namespace.nspname::text, class.relname::text
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind IN ('r', 'p') AND namespace.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""


class Rights(NamedTuple):
    """What the role may do with one table."""

    table: TableId
    may_enter: bool
    may_read: bool
    sees_part: bool
    owns: bool


class _Kind(NamedTuple):
    """What a name stands for at the source."""

    #: `pg_class.relkind`; None when nothing has the name.
    kind: str | None
    persistence: str | None
    #: Of a partition, the table that is partitioned.
    root: TableId | None
    #: How many tables inherit from it without being partitions.
    child_count: int
    #: One of its partitions whose changes are not in the log: namespace, name and `relkind`.
    unlogged_part: tuple[str, str, str] | None


def read_rights(connection: "psycopg.Connection[Any]", tables: Sequence[TableId]) -> list[Rights]:
    """Return what the role may do with each of the tables that exist."""
    return [Rights(TableId(*row[:2]), *row[2:]) for row in connection.execute(_RIGHTS, _wanted(tables))]


def about_tables(
    connection: "psycopg.Connection[Any]",
    tables: Sequence[TableId],
    schemas: Mapping[TableId, TableSchema],
    unidentified: Collection[TableId],
) -> list[Finding]:
    """Return what keeps each table from being replicated, and what of it is not."""
    kinds = _read_kinds(connection, tables)
    names = [TableId(*row) for row in connection.execute(_NAMES)] if any(k.kind is None for k in kinds.values()) else []
    found = [_about_kind(table, kind, tables, names) or _about_parts(table, kind) for table, kind in kinds.items()]
    findings = [finding for finding in found if finding is not None]
    sound = set(tables) - {finding.table for finding in findings}
    findings += [_about_columns(table) for table in sorted(sound - schemas.keys())]
    findings += [
        _about_identity(schemas[table], kinds[table]) for table in sorted(sound & schemas.keys() & set(unidentified))
    ]
    findings += [_about_children(table, kinds[table].child_count) for table in sorted(sound) if kinds[table].child_count]
    return findings


def about_rights(rights: Rights, username: str) -> list[Finding]:
    """Return what the role may not do with the table."""
    table = rights.table
    if not rights.may_enter:
        remedy = f"Run GRANT USAGE ON SCHEMA {quoted(table.namespace)} TO {quoted(username)} at the source."
        return [problem(Check.PRIVILEGES, f"Role {username} may not use the namespace of table {table}.", remedy, table)]
    if not rights.may_read:
        remedy = f"Run GRANT SELECT ON {quoted(*table)} TO {quoted(username)} at the source."
        return [problem(Check.PRIVILEGES, f"Role {username} may not read table {table}.", remedy, table)]
    if rights.sees_part:
        remedy = f"Run ALTER ROLE {quoted(username)} BYPASSRLS at the source."
        message = f"A row-level policy may hide rows of table {table} from role {username}."
        return [problem(Check.PRIVILEGES, message, remedy, table)]
    return []


def _wanted(tables: Sequence[TableId]) -> dict[str, list[str]]:
    return {"namespaces": [table.namespace for table in tables], "names": [table.name for table in tables]}


def _read_kinds(connection: "psycopg.Connection[Any]", tables: Sequence[TableId]) -> dict[TableId, _Kind]:
    rows = connection.execute(_KINDS, _wanted(tables))
    return {
        TableId(namespace, name): _Kind(
            kind, persistence, TableId(*root) if root else None, children or 0, part and (*part,)
        )
        for namespace, name, kind, persistence, root, children, part in rows
    }


def _about_kind(table: TableId, kind: _Kind, tables: Sequence[TableId], names: Sequence[TableId]) -> Finding | None:
    if kind.kind is None:
        return _about_missing(table, names)
    out = "Take it out of pipeline_tables."
    unlogged = "unlogged" if kind.persistence == "u" else "temporary"
    checks = [
        (table.namespace == STATE_NAMESPACE, f"Table {table} holds Rosetta's own state.", out),
        (table.namespace in _SYSTEM_NAMESPACES, f"Table {table} is the server's own.", out),
        (
            kind.kind not in ("r", "p"),
            f"{table} is not a table at the source.",
            "Take it out of pipeline_tables, and put the tables behind it in.",
        ),
        (
            kind.persistence != "p",
            f"Table {table} is {unlogged}: its changes are not in the log.",
            f"Run ALTER TABLE {quoted(*table)} SET LOGGED, or take it out of pipeline_tables.",
        ),
        (
            kind.root in tables,
            f"Table {table} is a partition of {kind.root}, which the pipeline replicates with all of its partitions.",
            "Take one of the two out of pipeline_tables.",
        ),
    ]
    return next((problem(Check.TABLES, message, remedy, table) for is_wrong, message, remedy in checks if is_wrong), None)


def _about_parts(table: TableId, kind: _Kind) -> Finding | None:
    if kind.unlogged_part is None:
        return None
    *name, relkind = kind.unlogged_part
    if relkind == "f":
        what, remedy = "a foreign table", "Detach it, or replace the table in pipeline_tables by its other partitions."
    else:
        what = "unlogged"
        remedy = (
            f"Run ALTER TABLE {quoted(*name)} SET LOGGED at the source, or detach it, or replace the table in "
            "pipeline_tables by its other partitions."
        )
    message = f"Partition {TableId(*name)} of table {table} is {what}: its changes are not in the log."
    return problem(Check.TABLES, message, remedy, table)


def _about_missing(table: TableId, names: Sequence[TableId]) -> Finding:
    near = difflib.get_close_matches(str(table), [str(name) for name in names], n=3, cutoff=0.75)
    hint = f" Similar names: {', '.join(near)}." if near else ""
    return problem(
        Check.TABLES,
        f"Table {table} does not exist at the source.{hint}",
        "Create it, or correct the row of pipeline_tables; names are case-sensitive.",
        table,
    )


def _about_columns(table: TableId) -> Finding:
    return problem(Check.TABLES, f"Table {table} has no column that is logged.", "Take it out of pipeline_tables.", table)


def _about_identity(schema: TableSchema, kind: _Kind) -> Finding:
    table = quoted(*schema.id)
    if kind.kind == "p":
        why = "is partitioned and has no primary key, which is the only identity that later partitions get"
        remedy = f"Run ALTER TABLE {table} ADD PRIMARY KEY (…) at the source."
    elif schema.identity is Identity.FULL:
        # From version 18 on the whole identity has to be published, and generated columns are not.
        why = "has a generated column in its replica identity"
        key = "" if schema.key else "Add a primary key. "
        remedy = f"{key}Run ALTER TABLE {table} REPLICA IDENTITY DEFAULT at the source."
    else:
        why = "has no replica identity"
        remedy = f"Add a primary key, or run ALTER TABLE {table} REPLICA IDENTITY FULL at the source."
    return warning(
        Check.REPLICA_IDENTITY,
        f"Table {schema.id} {why}: its inserts and truncates are replicated, its updates and deletes cannot be. Rosetta "
        "notices when the source makes any, and does what on_gap says.",
        remedy,
        schema.id,
    )


def _about_children(table: TableId, count: int) -> Finding:
    return warning(
        Check.INHERITANCE,
        f"{count} other {'table inherits' if count == 1 else 'tables inherit'} from table {table}; only its own rows are "
        "replicated.",
        "Add the children to the pipeline as tables of their own, if they are wanted.",
        table,
    )
