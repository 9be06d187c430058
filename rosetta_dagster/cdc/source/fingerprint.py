"""Reads table fingerprints from the catalog, in one query."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import kwargs_row

from rosetta_dagster.cdc.change.fingerprint import Fingerprint, Leaf
from rosetta_dagster.cdc.change.types import FIRST_USER_OID
from rosetta_dagster.cdc.table_id import TableId

#: The first version whose publications take whole schemas, row filters and column lists.
SCHEMAS_VERSION: Final = 150_000

#: The first version that requires the columns of a replica identity to be published, which generated columns are not.
_GENERATED_IDENTITY_VERSION: Final = 180_000

#: What makes a table a member, as OIDs and `xmin` of catalog rows, and which of its rows and columns are published.
_MEMBERS = """
    SELECT wanted.oid AS root, publication.pubname, true AS is_listed, pubupdate OR pubdelete AS has_updates,
           concat_ws(' ', publication.oid, publication.xmin, member.oid, member.xmin) AS mark,
           {filter} AS row_filter, {columns} AS column_list
    FROM wanted JOIN pg_publication_rel AS member ON member.prrelid = wanted.oid
    JOIN publication ON publication.oid = member.prpubid
    UNION ALL
    SELECT wanted.oid, publication.pubname, false, pubupdate OR pubdelete,
           concat_ws(' ', publication.oid, publication.xmin), NULL, NULL
    FROM wanted CROSS JOIN publication WHERE publication.puballtables
"""

_FILTER, _LIST = "pg_get_expr(member.prqual, member.prrelid)", "member.prattrs::text"

_MEMBERS_BY_SCHEMA = """
    UNION ALL
    SELECT wanted.oid, publication.pubname, false, pubupdate OR pubdelete,
           concat_ws(' ', publication.oid, publication.xmin, member.oid, member.xmin), NULL, NULL
    FROM wanted JOIN pg_publication_namespace AS member ON member.pnnspid = wanted.relnamespace
    JOIN publication ON publication.oid = member.pnpubid
"""

_ALL_MEMBERS = _MEMBERS.format(filter=_FILTER, columns=_LIST) + _MEMBERS_BY_SCHEMA

#: Relations whose updates and deletes the server refuses while they are published: those without a replica identity and,
#: from version 18 on, those whose identity is the whole row, with a generated column. A partitioned table must have a
#: primary key, which later partitions get, too. They get neither FULL nor an index that was chosen as identity.
_IS_UNIDENTIFIED = """CASE
        WHEN part.relkind = 'p' THEN part.oid = tree.root AND NOT COALESCE(keys.has_primary, false)
        WHEN part.relreplident = 'd' THEN NOT COALESCE(keys.has_primary, false)
        WHEN part.relreplident = 'i' THEN NOT COALESCE(keys.has_chosen, false)
        WHEN part.relreplident = 'f' THEN {requires_whole_identity} AND EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = part.oid AND attgenerated <> '' AND NOT attisdropped)
        ELSE true END"""

#: One row for each table. Names come as two arrays, or OIDs as one; the other is empty. Only plain reads of the catalog, so
#: that a transaction sees everything as of its snapshot; counts of writes are those of now. Each relation is read once, by
#: its OID. A partition that is being detached has no rows in its table. `texts` is what the text of values depends on: of a
#: type and of the types that it is made of.
_READ = """
WITH RECURSIVE wanted AS MATERIALIZED (
    SELECT class.oid, class.relname, class.relnamespace, class.relkind, class.relnatts, class.reltype, class.reltoastrelid,
           namespace.nspname, namespace.xmin::text AS namespace_mark,
           md5(concat(namespace.nspowner, ' ', namespace.nspacl)) AS rights
    FROM unnest(%(namespaces)s::text[], %(names)s::text[]) AS want (namespace, name)
    JOIN pg_namespace AS namespace ON namespace.nspname = want.namespace
    JOIN pg_class AS class ON class.relnamespace = namespace.oid AND class.relname = want.name
    WHERE class.relkind IN ('r', 'p')
    UNION ALL
    SELECT class.oid, class.relname, class.relnamespace, class.relkind, class.relnatts, class.reltype, class.reltoastrelid,
           namespace.nspname, namespace.xmin::text AS namespace_mark,
           md5(concat(namespace.nspowner, ' ', namespace.nspacl)) AS rights
    FROM unnest(%(oids)s::bigint[]) AS want (oid)
    JOIN pg_class AS class ON class.oid = want.oid::oid
    JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE class.relkind IN ('r', 'p')
), publication AS MATERIALIZED (
    SELECT oid, xmin, pubname, puballtables, pubupdate, pubdelete FROM pg_publication
    WHERE pubname = ANY (%(publications)s::text[])
), member AS ({members}
), membership AS MATERIALIZED (
    SELECT root, string_agg(mark, ', ' ORDER BY pubname, is_listed, mark) AS marks, bool_or(is_listed) AS is_listed,
           bool_or(has_updates) AS has_updates,
           CASE WHEN bool_and(row_filter IS NOT NULL)
                THEN string_agg(DISTINCT row_filter, ' OR ' ORDER BY row_filter) END AS row_filter,
           min(column_list) AS column_list
    FROM member GROUP BY root
), tree AS (
    SELECT oid AS root, oid AS part, relkind, '' COLLATE "C" AS place FROM wanted
    UNION ALL
    SELECT tree.root, child.oid, child.relkind,
           concat_ws(' ', tree.place, inherits.xmin, md5(child.relpartbound::text)) COLLATE "C"
    FROM tree JOIN pg_inherits AS inherits ON inherits.inhparent = tree.part AND NOT inherits.inhdetachpending
    JOIN pg_class AS child ON child.oid = inherits.inhrelid
    WHERE tree.relkind = 'p'
), relations AS MATERIALIZED (
    SELECT tree.root,
           array_agg(concat_ws(',', part.oid, part.relfilenode, place) ORDER BY part.oid)
               FILTER (WHERE part.relkind <> 'p') AS leaves,
           bool_and(part.relpersistence = 'p' AND part.relkind IN ('r', 'p')) AS is_logged,
           bool_or({is_unidentified}) AS is_unidentified,
           md5(string_agg(concat_ws(' ', part.oid, part.relreplident, keys.indexes), ',' ORDER BY part.oid)) AS identity,
           CASE WHEN NOT bool_or(COALESCE(membership.has_updates, false)) THEN
               sum(CASE WHEN membership.has_updates THEN 0
                   ELSE pg_stat_get_tuples_updated(part.oid) + pg_stat_get_tuples_deleted(part.oid) END)::bigint
           END AS writes
    FROM tree JOIN pg_class AS part ON part.oid = tree.part
    LEFT JOIN membership ON membership.root = tree.root
    CROSS JOIN LATERAL (
        SELECT bool_or(indisvalid AND indisprimary AND indimmediate) AS has_primary,
               bool_or(indisvalid AND indisreplident) AS has_chosen,
               string_agg(indexrelid::text, ' ' ORDER BY indexrelid) FILTER (WHERE indisreplident OR indisprimary) AS indexes
        FROM pg_index WHERE indrelid = part.oid
    ) AS keys
    GROUP BY tree.root
), typed AS MATERIALIZED (
    SELECT DISTINCT attrelid AS root, atttypid AS type FROM pg_attribute
    WHERE attrelid = ANY (ARRAY(SELECT oid FROM wanted)) AND attnum > 0 AND atttypid >= {first}
), used AS (
    SELECT root, type FROM typed
    UNION
    SELECT used.root, part.type FROM used CROSS JOIN LATERAL ({parts}) AS part WHERE part.type >= {first}
), texts AS MATERIALIZED (
    SELECT used.root, array_agg(text) AS texts
    FROM used CROSS JOIN LATERAL ({texts}) AS of_type (text) GROUP BY used.root
)
SELECT wanted.nspname::text AS schema, wanted.relname::text AS name, wanted.oid::bigint,
       wanted.relkind = 'p' AS is_partitioned,
       (SELECT row_type.xmin::text FROM pg_type AS row_type WHERE row_type.oid = wanted.reltype) AS row_type,
       wanted.relnatts::int AS column_count, relations.leaves, membership.marks AS membership,
       COALESCE(membership.is_listed, false) AS is_listed,
       CASE WHEN relations.is_logged THEN 'p' ELSE 'u' END AS persistence,
       COALESCE((SELECT md5(string_agg(xmin::text, ' ' ORDER BY attnum)) FROM pg_attribute
                 WHERE attrelid = wanted.oid AND attnum > 0), '') AS columns,
       relations.writes AS unpublished_writes, membership.row_filter, membership.column_list, relations.identity,
       relations.is_unidentified, wanted.reltoastrelid::bigint AS toast, texts.texts AS type_texts,
       wanted.namespace_mark AS namespace, wanted.rights AS namespace_rights,
       CASE WHEN relations.writes IS NULL THEN '' ELSE (
           SELECT concat_ws(' ', extract(epoch FROM pg_stat_get_db_stat_reset_time(oid)),
                            extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()))
           FROM pg_database WHERE datname = current_database()) END AS counted_since
FROM wanted JOIN relations ON relations.root = wanted.oid
LEFT JOIN membership ON membership.root = wanted.oid
LEFT JOIN texts ON texts.root = wanted.oid
"""

#: The types that a type is made of directly: elements of an array, the base of a domain, attributes, bounds of a range.
_TYPE_PARTS = """
        SELECT unnest(ARRAY[typelem, typbasetype]) AS type FROM pg_type WHERE oid = used.type
        UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = used.type
        UNION ALL SELECT rngsubtype FROM pg_range WHERE rngmultitypid = used.type
        UNION ALL SELECT atttypid FROM pg_type JOIN pg_attribute ON attrelid = typrelid
        WHERE pg_type.oid = used.type AND typtype = 'c' AND attnum > 0 AND NOT attisdropped"""

#: For each label of an enum its OID and itself; for a composite type its OID and its attributes.
_TYPE_TEXTS = """
        SELECT concat(oid, ' ', enumlabel) FROM pg_enum WHERE enumtypid = used.type
        UNION ALL
        SELECT concat(pg_type.oid, ' ', string_agg(concat_ws(' ', attnum, atttypid, atttypmod), ',' ORDER BY attnum))
        FROM pg_type JOIN pg_attribute ON attrelid = typrelid
        WHERE pg_type.oid = used.type AND typtype = 'c' AND attnum > 0 AND NOT attisdropped GROUP BY pg_type.oid"""


class Found(NamedTuple):
    """A table of the source under the name that it has now."""

    name: TableId
    fingerprint: Fingerprint


def read_fingerprints(
    connection: "psycopg.Connection[Any]", publications: Sequence[str], tables: Sequence[TableId], oids: Sequence[int] = ()
) -> list[Found]:
    """Return the fingerprints of tables of these names, and of tables of these OIDs under any name."""
    parameters = {
        "oids": list(oids),
        "namespaces": [table.namespace for table in tables],
        "names": [table.name for table in tables],
        "publications": list(publications),
    }
    with connection.cursor(row_factory=kwargs_row(_found)) as cursor:
        return cursor.execute(fingerprint_query(connection.info.server_version), parameters).fetchall()


def fingerprint_query(version: int) -> str:
    """Return the query for a server of this version, as `server_version_num` has it."""
    is_old = version < SCHEMAS_VERSION
    requires_whole_identity = "true" if version >= _GENERATED_IDENTITY_VERSION else "false"
    return _READ.format(
        members=_MEMBERS.format(filter="NULL", columns="NULL") if is_old else _ALL_MEMBERS,
        is_unidentified=_IS_UNIDENTIFIED.format(requires_whole_identity=requires_whole_identity),
        first=FIRST_USER_OID,
        parts=_TYPE_PARTS,
        texts=_TYPE_TEXTS,
    )


def _found(*, schema: str, name: str, leaves: list[str] | None, type_texts: list[str] | None, **fields: Any) -> Found:
    """Return the table of a row of the query, whose other columns are named like the fields of a fingerprint."""
    fingerprint = Fingerprint(
        leaves=tuple(map(_leaf, leaves or ())), type_texts=tuple(sorted(map(_type_text, type_texts or ()))), **fields
    )
    return Found(TableId(schema, name), fingerprint)


def _leaf(text: str) -> Leaf:
    oid, filenode, place = text.split(",")
    return Leaf(oid=int(oid), filenode=int(filenode), place=place)


def _type_text(text: str) -> tuple[str, str]:
    oid, _, of_values = text.partition(" ")
    return oid, of_values
