"""Reads table fingerprints from the catalog, one query per pipeline."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

from rosetta_dagster.cdc.change.fingerprint import Fingerprint, Leaf
from rosetta_dagster.cdc.table_id import TableId

#: The first version whose publications take whole schemas, row filters and column lists.
_SCHEMAS_VERSION = 150_000

#: What makes a table a member, as OIDs and `xmin` of catalog rows, and which of its rows and columns are published.
_MEMBERS = """
    SELECT wanted.oid AS root, publication.pubname, true AS is_listed,
           concat_ws(' ', publication.oid, publication.xmin, member.oid, member.xmin) AS mark,
           {filter} AS row_filter, {columns} AS column_list
    FROM wanted JOIN pg_publication_rel AS member ON member.prrelid = wanted.oid
    JOIN publication ON publication.oid = member.prpubid
    UNION ALL
    SELECT wanted.oid, publication.pubname, false, concat_ws(' ', publication.oid, publication.xmin), NULL, NULL
    FROM wanted CROSS JOIN publication WHERE publication.puballtables
"""

_FILTER, _LIST = "pg_get_expr(member.prqual, member.prrelid)", "member.prattrs::text"

_MEMBERS_BY_SCHEMA = """
    UNION ALL
    SELECT wanted.oid, publication.pubname, false,
           concat_ws(' ', publication.oid, publication.xmin, member.oid, member.xmin), NULL, NULL
    FROM wanted JOIN pg_publication_namespace AS member ON member.pnnspid = wanted.relnamespace
    JOIN publication ON publication.oid = member.pnpubid
"""

_ALL_MEMBERS = _MEMBERS.format(filter=_FILTER, columns=_LIST) + _MEMBERS_BY_SCHEMA

#: One row for each table. Names come as two arrays, or OIDs as one; the other is empty. Only plain reads of the catalog, so
#: that a transaction sees everything as of its snapshot.
_READ = """
WITH RECURSIVE wanted AS (
    SELECT class.oid, class.xmin, class.relname, class.relnamespace, class.relkind, class.relnatts, class.relfilenode,
           class.reltype, class.relpersistence, namespace.nspname
    FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE (class.oid = ANY (%(oids)s::bigint[]::oid[])
           OR (namespace.nspname, class.relname) IN (SELECT * FROM unnest(%(namespaces)s::text[], %(names)s::text[])))
      AND class.relkind IN ('r', 'p')
), publication AS (
    SELECT oid, xmin, pubname, puballtables, pubupdate, pubdelete FROM pg_publication
    WHERE pubname = ANY (%(publications)s::text[])
), member AS ({members}
), tree AS (
    SELECT oid AS root, oid AS part, relkind, relfilenode, '' COLLATE "C" AS place FROM wanted
    UNION ALL
    SELECT tree.root, child.oid, child.relkind, child.relfilenode,
           concat_ws(' ', tree.place, inherits.xmin, md5(child.relpartbound::text)) COLLATE "C"
    FROM tree JOIN pg_inherits AS inherits ON inherits.inhparent = tree.part
    JOIN pg_class AS child ON child.oid = inherits.inhrelid
    WHERE tree.relkind = 'p'
)
SELECT wanted.oid::bigint, wanted.nspname::text, wanted.relname::text, wanted.relkind = 'p',
       (SELECT row_type.xmin::text FROM pg_type AS row_type WHERE row_type.oid = wanted.reltype), wanted.relnatts::int,
       (SELECT jsonb_agg(jsonb_build_array(part::bigint, relfilenode::bigint, place) ORDER BY part)
        FROM tree WHERE tree.root = wanted.oid AND tree.relkind <> 'p'),
       (SELECT string_agg(mark, ', ' ORDER BY pubname, is_listed, mark) FROM member WHERE member.root = wanted.oid),
       COALESCE((SELECT bool_or(is_listed) FROM member WHERE member.root = wanted.oid), false),
       wanted.relpersistence::text,
       (SELECT md5(string_agg(xmin::text, ' ' ORDER BY attnum)) FROM pg_attribute
        WHERE attrelid = wanted.oid AND attnum > 0),
       CASE WHEN NOT EXISTS (SELECT FROM member JOIN publication USING (pubname)
                             WHERE member.root = wanted.oid AND (pubupdate OR pubdelete))
            THEN (SELECT sum(pg_stat_get_tuples_updated(part) + pg_stat_get_tuples_deleted(part))::bigint
                  FROM tree WHERE tree.root = wanted.oid) END,
       (SELECT CASE WHEN bool_and(row_filter IS NOT NULL)
                    THEN string_agg(DISTINCT row_filter, ' OR ' ORDER BY row_filter) END
        FROM member WHERE member.root = wanted.oid),
       (SELECT min(column_list) FROM member WHERE member.root = wanted.oid),
       (SELECT md5(string_agg(concat_ws(' ', class.oid, class.relreplident, index.indexrelid), ','
                              ORDER BY class.oid, index.indexrelid))
        FROM tree JOIN pg_class AS class ON class.oid = tree.part
        LEFT JOIN pg_index AS index ON index.indrelid = class.oid AND (index.indisreplident OR index.indisprimary)
        WHERE tree.root = wanted.oid)
FROM wanted
"""


class Found(NamedTuple):
    """A table of the source under the name that it has now."""

    name: TableId
    fingerprint: Fingerprint


def read_fingerprints(
    connection: "psycopg.Connection[Any]", publications: Sequence[str], tables: Sequence[TableId], oids: Sequence[int] = ()
) -> list[Found]:
    """Return the fingerprints of tables of these names, and of tables of these OIDs under any name."""
    is_old = connection.info.server_version < _SCHEMAS_VERSION
    members = _MEMBERS.format(filter="NULL", columns="NULL") if is_old else _ALL_MEMBERS
    statement = _READ.format(members=members)
    parameters = {
        "oids": list(oids),
        "namespaces": [table.namespace for table in tables],
        "names": [table.name for table in tables],
        "publications": list(publications),
    }
    return [_found(row) for row in connection.execute(statement, parameters)]


def _found(row: tuple[Any, ...]) -> Found:
    (
        oid,
        namespace,
        name,
        is_partitioned,
        row_type,
        column_count,
        leaves,
        membership,
        is_listed,
        persistence,
        columns,
        writes,
        row_filter,
        column_list,
        identity,
    ) = row
    fingerprint = Fingerprint(
        oid=oid,
        is_partitioned=is_partitioned,
        row_type=row_type,
        column_count=column_count,
        leaves=tuple(Leaf(oid=leaf, filenode=filenode, place=place) for leaf, filenode, place in leaves or ()),
        membership=membership,
        is_listed=is_listed,
        persistence=persistence,
        columns=columns or "",
        unpublished_writes=writes,
        row_filter=row_filter,
        column_list=column_list,
        identity=identity or "",
    )
    return Found(TableId(namespace, name), fingerprint)
