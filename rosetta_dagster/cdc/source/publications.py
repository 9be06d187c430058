"""Decides what a pipeline's publications hold: every table of the pipeline, and nothing that could make a statement fail.

PostgreSQL refuses updates and deletes of a table that is published with them and has no replica identity. So a table whose
rows cannot be identified is published by a second publication, of inserts and truncates only. `ONLY` keeps the children of
an inheritance parent out, and members that left the pipeline leave its publications. Selected rows and columns are set by
`selections`, so that a table is never published whole before.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, default_name
from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.errors import SourceUnavailable
from rosetta_dagster.cdc.source.fingerprint import read_fingerprints
from rosetta_dagster.cdc.source.selections import set_selection, short_lock_waits
from rosetta_dagster.cdc.table_id import TableId

#: Tables are added only to publications of this prefix; the others belong to an operator.
OWN_PREFIX = "rosetta_"

#: What is published of tables whose rows can be identified, and of the others.
ALL_CHANGES = "insert, update, delete, truncate"
INSERTS = "insert, truncate"

#: What a statement fails with when the catalog has changed since it was read.
_CHANGED_MEANWHILE = (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateObject, psycopg.errors.UndefinedObject)

_READ = """
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot, pg_has_role(pubowner, 'USAGE')
FROM pg_publication WHERE pubname = %s
"""

#: The tables that are listed, and those that come with a namespace or with all tables. `pg_publication_tables` has a list of
#: columns also for tables that are published whole, so the list is read from the listed ones' rows. Versions before 15 have
#: neither lists nor filters.
_TABLES = """
SELECT namespace.nspname::text, class.relname::text,
       COALESCE(to_jsonb(member) ->> 'prqual', to_jsonb(member) ->> 'prattrs') IS NOT NULL, class.relkind = 'p', true
FROM pg_publication AS publication
JOIN pg_publication_rel AS member ON member.prpubid = publication.oid
JOIN pg_class AS class ON class.oid = member.prrelid
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE publication.pubname = %(name)s
UNION ALL
SELECT schemaname::text, tablename::text, false, false, false FROM pg_publication_tables WHERE pubname = %(name)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publication and what it leaves out."""

    tables: frozenset[TableId]
    #: Those that are members by a row of their own.
    listed: frozenset[TableId]
    #: Whether inserts, updates, deletes and truncates are all published.
    is_whole: bool
    #: Whether the role may alter it.
    is_owned: bool
    #: Tables of which only some rows or columns are published.
    cut_tables: frozenset[TableId]
    #: Partitioned tables that are published as their partitions, under the names of these.
    split_tables: frozenset[TableId]

    def missing_tables(self, tables: Sequence[TableId]) -> list[TableId]:
        """Return those of the tables that are not published."""
        return [table for table in tables if table not in self.tables]


def publications_of(config: PipelineConfig) -> tuple[str, ...]:
    """Return the names of the pipeline's publications: the one for all kinds of changes, and Rosetta's own for inserts."""
    name = config.publication_name
    return (name, inserts_publication(config.name)) if is_own(config) else (name,)


def existing_publications(connection: "psycopg.Connection[Any]", config: PipelineConfig) -> tuple[str, ...]:
    """Return those of the pipeline's publications that exist: a server before version 18 refuses to read others."""
    names = publications_of(config)
    rows = connection.execute("SELECT pubname::text FROM pg_publication WHERE pubname = ANY (%s)", [list(names)])
    found = {name for (name,) in rows}
    return tuple(name for name in names if name in found)


def debezium_publication(publications: Sequence[str]) -> str:
    """Return the publications as the one name that Debezium is given.

    Debezium hands its name to the server, which reads it as a list, and verifies that a publication of that name exists.
    """
    return ",".join(publications)


def is_own(config: PipelineConfig) -> bool:
    """Return whether the pipeline's publication serves no other pipeline, so that tables may be taken out of it."""
    return config.publication_name == default_name(config.name)


def may_use_inserts_publication(config: PipelineConfig, publication: Publication | None) -> bool:
    """Return whether tables without a replica identity get a publication of their own: Rosetta has to own the main one."""
    return is_own(config) and (publication is None or publication.is_owned)


def own_publications(connection: "psycopg.Connection[Any]", config: PipelineConfig) -> dict[str, bool]:
    """Return the publications that exist for this pipeline alone, each with whether the role owns it.

    One that an operator named may serve others, too, and is not among them.
    """
    if not is_own(config):
        return {}
    names = [*publications_of(config), debezium_publication(publications_of(config))]
    found = {name: read_publication(connection, name) for name in names}
    return {name: publication.is_owned for name, publication in found.items() if publication is not None}


def inserts_publication(pipeline: str) -> str:
    """Return the name of the publication for tables whose rows cannot be identified.

    No pipeline's own publication has it: a name with a space gets a hash.
    """
    return default_name(f"{pipeline} inserts")


def read_publication(connection: "psycopg.Connection[Any]", name: str) -> Publication | None:
    """Return the publication; None when none has that name."""
    row = connection.execute(_READ, [name]).fetchone()
    if row is None:
        return None
    is_whole, via_root, is_owned = row
    members = [(TableId(*member[:2]), *member[2:]) for member in connection.execute(_TABLES, {"name": name})]
    return Publication(
        tables=frozenset(table for table, *_ in members),
        listed=frozenset(table for table, _, _, is_listed in members if is_listed),
        is_whole=is_whole,
        is_owned=is_owned,
        cut_tables=frozenset(table for table, is_cut, _, _ in members if is_cut),
        split_tables=frozenset(table for table, _, is_partitioned, _ in members if is_partitioned and not via_root),
    )


def unidentified_tables(connection: "psycopg.Connection[Any]", tables: Sequence[TableId]) -> frozenset[TableId]:
    """Return those of the tables whose updates and deletes the server would refuse once it published them."""
    return frozenset(found.name for found in read_fingerprints(connection, (), tables) if found.fingerprint.is_unidentified)


def ensure_publications(
    connection: "psycopg.Connection[Any]", config: PipelineConfig, schemas: Collection[TableSchema]
) -> None:
    """Create the pipeline's missing publications.

    Its own publications are set to exactly these tables; other `rosetta_` publications only gain tables; an operator's are
    never altered.
    """
    tables = [schema.id for schema in schemas]
    if not may_use_inserts_publication(config, read_publication(connection, config.publication_name)):
        ensure_publication(connection, config.publication_name, tables, is_own=False)
        return
    unidentified = unidentified_tables(connection, tables)
    unidentified |= {schema.id for schema in schemas if schema.identity is Identity.NOTHING}
    for name, kinds in ((config.publication_name, ALL_CHANGES), (inserts_publication(config.name), INSERTS)):
        members = [schema for schema in schemas if (schema.id in unidentified) is (kinds == INSERTS)]
        ensure_publication(
            connection, name, [each.id for each in members], is_own=True, kinds=kinds, selected=config.selections
        )
        _set_selections(connection, name, members, config.selections)
    both = existing_publications(connection, config)
    if config.engine is Engine.DEBEZIUM and len(both) > 1:
        # Debezium verifies that a publication with the name of the whole list exists; an empty one is enough.
        ensure_publication(connection, debezium_publication(both), [])


def ensure_publication(
    connection: "psycopg.Connection[Any]",
    name: str,
    tables: Sequence[TableId],
    *,
    is_own: bool = False,
    kinds: str = ALL_CHANGES,
    selected: Collection[TableId] = (),
) -> None:
    """Create the publication if it is missing, else add missing tables if its name has Rosetta's prefix.

    `is_own`: it serves no other pipeline, so that other tables are taken out of it. Selected tables are not added.
    """
    try:
        _alter_or_create(connection, name, tables, is_own=is_own, kinds=kinds, selected=selected)
    except _CHANGED_MEANWHILE:
        # The server may still have carried out the statement of a killed run, or a table was dropped since the read.
        _alter_or_create(connection, name, tables, is_own=is_own, kinds=kinds, selected=selected)


def _alter_or_create(
    connection: "psycopg.Connection[Any]",
    name: str,
    tables: Sequence[TableId],
    *,
    is_own: bool,
    kinds: str,
    selected: Collection[TableId],
) -> None:
    publication = read_publication(connection, name)
    if publication is None and not tables and kinds != ALL_CHANGES:
        return
    if publication is None:
        connection.execute(create_publication(name, kinds))
    listed, published = (publication.listed, publication.tables) if publication else (frozenset(), frozenset())
    for table in sorted(listed - set(tables)) if is_own else ():
        _alter_soon(connection, table, drop_table(name, table))
    for table in tables if publication is None or name.startswith(OWN_PREFIX) else ():
        if table not in published and table not in selected:
            _alter_soon(connection, table, add_table(name, table))


def _set_selections(
    connection: "psycopg.Connection[Any]",
    name: str,
    tables: Sequence[TableSchema],
    selections: Mapping[TableId, Selection],
) -> None:
    """Let the publication hold these tables as selected. Preflight has verified that it can."""
    publication = read_publication(connection, name)
    cut = publication.cut_tables if publication is not None else frozenset()
    for table in [each for each in tables if each.id in cut | selections.keys()] if publication is not None else ():
        selection = selections.get(table.id, Selection())
        if set_selection(connection, name, table, selection) is not None:
            raise SourceUnavailable(
                f"The replica identity of table {table.id} was changed while the table was published.",
                "The run restarts by itself, and says what the table needs.",
            )


def _alter_soon(connection: "psycopg.Connection[Any]", table: TableId, statement: sql.Composed) -> None:
    """Alter a publication by one table, or give up while somebody alters the table."""
    # Dropped or renamed since it was read: the next attempt finds out.
    with short_lock_waits(connection, table), suppress(psycopg.errors.UndefinedTable):
        connection.execute(statement)


def create_publication(name: str, kinds: str = ALL_CHANGES) -> sql.Composed:
    """Return the statement. A partitioned table is published as itself, not as its partitions."""
    return sql.SQL("CREATE PUBLICATION {} WITH (publish = {}, publish_via_partition_root = true)").format(
        sql.Identifier(name), sql.Literal(kinds)
    )


def add_table(name: str, table: TableId) -> sql.Composed:
    """Return the statement that adds the table to a publication, without what inherits from it."""
    return sql.SQL("ALTER PUBLICATION {} ADD TABLE ONLY {}").format(sql.Identifier(name), sql.Identifier(*table))


def drop_table(name: str, table: TableId) -> sql.Composed:
    """Return the statement that takes the table out of a publication."""
    return sql.SQL("ALTER PUBLICATION {} DROP TABLE ONLY {}").format(sql.Identifier(name), sql.Identifier(*table))
