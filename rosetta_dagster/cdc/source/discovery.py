"""Finds the tables at a source that a pipeline's patterns stand for, and decides which of them could surprise somebody.

A pattern adds only what can be replicated as it is, since nobody asked for that table. What is skipped is added as soon as
its reason is gone.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import psycopg

from rosetta_dagster.cdc.config.discovery import Discovery, limited, rows_of
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.source.preflight.finding import quoted
from rosetta_dagster.cdc.source.preflight.tables import STATE_NAMESPACE, Rights, about_rights, read_rights
from rosetta_dagster.cdc.source.publications import OWN_PREFIX, Publication, read_publication, unidentified_tables
from rosetta_dagster.cdc.table_id import TableId

#: Every table but those of the server itself, and temporary ones. The root of a partition is the one that is farthest up.
_TABLES: Final = """
SELECT namespace.nspname::text, class.relname::text, class.relkind::text, class.relpersistence::text,
       CASE WHEN class.relispartition THEN
           (SELECT ARRAY[namespace.nspname::text, root.relname::text]
            FROM pg_class AS root JOIN pg_namespace AS namespace ON namespace.oid = root.relnamespace
            WHERE root.oid = pg_partition_root(class.oid)) END
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind IN ('r', 'p', 'f') AND class.relpersistence <> 't'
  AND namespace.nspname <> 'information_schema' AND namespace.nspname !~ '^pg_'
"""


class Relation(NamedTuple):
    """A table of the source, as far as its catalog entry says what it is."""

    #: `pg_class.relkind`: a table, a partitioned or a foreign one.
    kind: str
    persistence: str
    #: Of a partition, the table that is partitioned.
    root: TableId | None


def discover(connection: "psycopg.Connection[Any]", config: PipelineConfig) -> Discovery:
    """Return the rows that the patterns give the pipeline now. Nothing is changed."""
    if not config.patterns:
        return Discovery()
    relations = {
        TableId(namespace, name): Relation(kind, persistence, TableId(*root) if root else None)
        for namespace, name, kind, persistence, root in connection.execute(_TABLES)
    }
    rows = rows_of(config, relations)
    known = {table.id for table in config.tables}
    fresh = {table: relations[table] for table in rows if table not in known}
    covered = known | rows.keys()
    obstacles = {table: why for table, each in fresh.items() if (why := obstacle(table, each, covered)) is not None}
    obstacles |= _obstacles_of_the_sound(connection, config, [table for table in fresh if table not in obstacles])
    return limited(config, rows, obstacles, silent={table for table, each in fresh.items() if each.root in covered})


def obstacle(table: TableId, relation: Relation, covered: Collection[TableId]) -> str | None:
    """Return why the table is not added; None when its catalog entry gives no reason.

    `covered` are the tables that the pipeline replicates, or is going to. A partition of one of them needs no word.
    """
    if table.namespace == STATE_NAMESPACE:
        return "It holds Rosetta's own state."
    if relation.kind == "f":
        return "It is a foreign table: its changes are not in the WAL."
    if relation.persistence == "u":
        return f"It is UNLOGGED: its changes are not in the WAL. Run ALTER TABLE {quoted(*table)} SET LOGGED at the source."
    if relation.root is not None and relation.root not in covered:
        return f"It is a partition of {relation.root}, which no pattern stands for. Add that table."
    return None


def _obstacles_of_the_sound(
    connection: "psycopg.Connection[Any]", config: PipelineConfig, tables: Sequence[TableId]
) -> Mapping[TableId, str]:
    """Return why tables of the right kind are not added: identity, rights, publication."""
    if not tables:
        return {}
    publication = read_publication(connection, config.publication_name)
    found: dict[TableId, str] = {
        table: f"It has no primary key and no other replica identity. Add a primary key, or run ALTER TABLE "
        f"{quoted(*table)} REPLICA IDENTITY FULL at the source, or add the table by its name."
        for table in unidentified_tables(connection, tables)
    }
    for rights in read_rights(connection, tables):
        findings = about_rights(rights, config.source.connection.username)
        reason = str(findings[0]) if findings else _unpublished(config, publication, rights)
        if reason is not None:
            found[rights.table] = reason
    return found


def _unpublished(config: PipelineConfig, publication: Publication | None, rights: Rights) -> str | None:
    """Return why the publication cannot hold the table; None when it does, or when Rosetta can add it."""
    name, table = config.publication_name, rights.table
    if publication is not None and table in publication.tables:
        return None
    if not name.startswith(OWN_PREFIX) and publication is not None:
        return (
            f"Publication {name} does not have it. Run ALTER PUBLICATION {quoted(name)} ADD TABLE ONLY {quoted(*table)} at "
            "the source."
        )
    if rights.owns:
        return None
    username = quoted(config.source.connection.username)
    return (
        f"Role {config.source.connection.username} does not own it, so that it cannot publish it. Run GRANT … TO {username} "
        f"with the role of its owner, or ALTER TABLE {quoted(*table)} OWNER TO {username} at the source."
    )
