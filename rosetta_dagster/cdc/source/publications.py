"""Makes the publication that a pipeline reads, and adds tables to one that Rosetta made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.table_id import TableId

#: Publications of this prefix are Rosetta's own to change.
OWN_PREFIX = "rosetta_"

_READ = """
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot FROM pg_publication WHERE pubname = %s
"""

#: The tables that are listed, and those that come with a namespace or with all tables. A list of columns is there for those
#: too that are published whole, so it is asked of the listed ones.
_TABLES = """
SELECT namespace.nspname::text, class.relname::text,
       member.prqual IS NOT NULL OR member.prattrs IS NOT NULL, class.relkind = 'p'
FROM pg_publication AS publication
JOIN pg_publication_rel AS member ON member.prpubid = publication.oid
JOIN pg_class AS class ON class.oid = member.prrelid
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE publication.pubname = %(name)s
UNION ALL
SELECT schemaname::text, tablename::text, false, false FROM pg_publication_tables WHERE pubname = %(name)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publication and what it leaves out."""

    tables: frozenset[TableId]
    #: Whether inserts, updates, deletes and truncates are all published.
    is_whole: bool
    #: Tables of which only some rows or columns are published.
    cut_tables: frozenset[TableId]
    #: Partitioned tables that are published as their partitions, under the names of these.
    split_tables: frozenset[TableId]

    def lacks(self, tables: Sequence[TableId]) -> list[TableId]:
        return [table for table in tables if table not in self.tables]


def read_publication(connection: "psycopg.Connection[Any]", name: str) -> Publication | None:
    """The publication; None when there is none of that name."""
    row = connection.execute(_READ, [name]).fetchone()
    if row is None:
        return None
    is_whole, via_root = row
    members = [(TableId(*member[:2]), *member[2:]) for member in connection.execute(_TABLES, {"name": name})]
    return Publication(
        tables=frozenset(table for table, _, _ in members),
        is_whole=is_whole,
        cut_tables=frozenset(table for table, is_cut, _ in members if is_cut),
        split_tables=frozenset(table for table, _, is_partitioned in members if is_partitioned and not via_root),
    )


def ensure_publication(connection: "psycopg.Connection[Any]", name: str, tables: Sequence[TableId]) -> None:
    """Make the publication when it is missing; add what one of Rosetta's own lacks. Others are not touched."""
    publication = read_publication(connection, name)
    try:
        if publication is None:
            connection.execute(create_publication(name, tables))
        elif (missing := publication.lacks(tables)) and name.startswith(OWN_PREFIX):
            connection.execute(add_tables(name, missing))
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateObject):
        # A run that was killed had asked for it, and the server went on with that.
        ensure_publication(connection, name, tables)


def create_publication(name: str, tables: Sequence[TableId]) -> sql.Composed:
    """A partitioned table is published as itself, not as its partitions."""
    return sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
        sql.Identifier(name), _names(tables)
    )


def add_tables(name: str, tables: Sequence[TableId]) -> sql.Composed:
    return sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(sql.Identifier(name), _names(tables))


def _names(tables: Sequence[TableId]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
