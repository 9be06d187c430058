"""Reads from the source's catalog what its tables look like."""

from collections.abc import Sequence
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.fingerprint import Fingerprint
from rosetta_dagster.cdc.change.pages import Relation
from rosetta_dagster.cdc.change.schema import Column, Identity, OldRowValues, TableSchema
from rosetta_dagster.cdc.source.fingerprint import read_fingerprints
from rosetta_dagster.cdc.source.selections import SELECTIONS_VERSION
from rosetta_dagster.cdc.table_id import TableId

#: One row for each column of the tables. A generated column is left out: its values are not logged.
#: The key is the replica identity's index, else the primary key; of an index only its key columns, without those it
#: includes. What older rows hold in a column is noted where the rows are, as an array of one: of a partitioned table, at its
#: partitions.
#: PostgreSQL identifies no row by a deferrable primary key, nor by an index that was dropped. From version 18 on a column
#: may be NOT NULL for new rows only, until that is validated.
_COLUMNS = """
WITH RECURSIVE wanted AS (
    SELECT class.oid, namespace.nspname, class.relname, class.relreplident, class.relkind
    FROM unnest(%(namespaces)s::text[], %(names)s::text[]) AS want (namespace, name)
    JOIN pg_namespace AS namespace ON namespace.nspname = want.namespace
    JOIN pg_class AS class ON class.relnamespace = namespace.oid AND class.relname = want.name
    WHERE class.relkind IN ('r', 'p')
), keys AS (
    SELECT DISTINCT ON (wanted.oid) wanted.oid, (index.indkey::int2[])[0:index.indnkeyatts - 1] AS attnums,
           CASE wanted.relreplident WHEN 'd' THEN index.indisprimary AND index.indimmediate
                WHEN 'i' THEN index.indisreplident END AS identifies
    FROM wanted JOIN pg_index AS index ON index.indrelid = wanted.oid
    WHERE index.indisvalid AND (index.indisreplident OR index.indisprimary)
    ORDER BY wanted.oid, index.indisreplident DESC
), parts AS (
    SELECT oid AS root, oid AS part FROM wanted
    UNION
    SELECT parts.root, inhrelid FROM parts JOIN wanted ON wanted.oid = parts.root AND wanted.relkind = 'p'
    JOIN pg_inherits ON inhparent = parts.part
), missing AS (
    SELECT parts.root, attname, min(array_to_string(attmissingval, '')) AS value,
           count(DISTINCT attmissingval::text) AS value_count
    FROM parts JOIN pg_attribute ON attrelid = parts.part
    WHERE atthasmissing AND NOT attisdropped
    GROUP BY parts.root, attname
)
SELECT wanted.nspname::text, wanted.relname::text,
       CASE WHEN wanted.relreplident = 'f' THEN 'FULL' WHEN keys.identifies THEN 'KEY' ELSE 'NOTHING' END,
       obj_description(wanted.oid, 'pg_class'),
       attribute.attname::text, format_type(attribute.atttypid, attribute.atttypmod), attribute.atttypid::bigint,
       attribute.attnotnull AND NOT EXISTS (
           SELECT FROM pg_constraint WHERE conrelid = wanted.oid AND contype = 'n' AND NOT convalidated
           AND conkey[1] = attribute.attnum),
       col_description(wanted.oid, attribute.attnum),
       array_position(keys.attnums, attribute.attnum), attribute.attnum::int, attribute.atttypmod,
       CASE WHEN missing.value_count = 1 THEN 'CONSTANT'
            WHEN missing.value_count > 1 OR attribute.atthasdef OR attribute.attidentity <> ''
            THEN 'UNKNOWN' ELSE 'NOTHING' END,
       CASE WHEN missing.value_count = 1 THEN missing.value END
FROM wanted
JOIN pg_attribute AS attribute ON attribute.attrelid = wanted.oid
LEFT JOIN keys ON keys.oid = wanted.oid
LEFT JOIN missing ON missing.root = wanted.oid AND missing.attname = attribute.attname
WHERE attribute.attnum > 0 AND NOT attribute.attisdropped AND attribute.attgenerated = ''{listed}
ORDER BY wanted.nspname, wanted.relname, attribute.attnum
"""

#: Leaves out the columns that a publication does not list.
_LISTED = """
  AND NOT EXISTS (SELECT FROM pg_publication_rel AS member JOIN pg_publication AS publication
                  ON publication.oid = member.prpubid AND publication.pubname = ANY (%(publications)s)
                  WHERE member.prrelid = wanted.oid AND member.prattrs IS NOT NULL
                  AND attribute.attnum <> ALL (member.prattrs::int2[]))"""

#: For each type its base type and its base type's elements; domains may be made of domains.
_TYPES = """
WITH RECURSIVE resolved AS (
    SELECT oid, oid AS base FROM pg_type WHERE oid = ANY (%s::bigint[]::oid[])
    UNION ALL
    SELECT resolved.oid, type.typbasetype FROM resolved JOIN pg_type AS type ON type.oid = resolved.base
    WHERE type.typtype = 'd'
)
SELECT resolved.oid::bigint, resolved.base::bigint,
       CASE WHEN type.typcategory = 'A' THEN type.typelem::bigint ELSE 0 END
FROM resolved JOIN pg_type AS type ON type.oid = resolved.base
WHERE type.typtype <> 'd'
"""

#: The relations that hold the table's rows: itself, or the leaves of a partitioned table; with their sizes in pages.
_RELATIONS = """
SELECT namespace.nspname::text, class.relname::text, pg_relation_filenode(class.oid)::bigint,
       pg_relation_size(class.oid) / current_setting('block_size')::bigint
FROM pg_partition_tree(to_regclass(format('%%I.%%I', %s::text, %s::text))) AS part
JOIN pg_class AS class ON class.oid = part.relid
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE part.isleaf AND class.relkind = 'r'
ORDER BY class.relpages DESC, 1, 2
"""

_ORDINARY = """
SELECT COALESCE(pg_relation_filenode(class.oid), 0)::bigint,
       COALESCE(pg_relation_size(class.oid), 0) / current_setting('block_size')::bigint
FROM pg_class AS class WHERE class.oid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""

#: The file of the transaction's snapshot and the one of now; a partitioned table without partitions has none.
_HAS_ITS_FILE = """
SELECT relfilenode::bigint = COALESCE(pg_relation_filenode(oid), 0)::bigint
FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""


_IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))"


def read_schemas(
    connection: "psycopg.Connection[Any]", tables: Sequence[TableId], publications: Sequence[str] = ()
) -> dict[TableId, TableSchema]:
    """Return what the catalog says of these tables, in their order; a table that does not exist is not among them.

    Fingerprints are of the publications of these names. Columns that one of them does not publish are left out.
    """
    parameters = {
        "namespaces": [table.namespace for table in tables],
        "names": [table.name for table in tables],
        "publications": list(publications),
    }
    listed = _LISTED if connection.info.server_version >= SELECTIONS_VERSION else ""
    rows = connection.execute(_COLUMNS.format(listed=listed), parameters).fetchall()
    types = _types(connection, {row[6] for row in rows})
    elements = _types(connection, {element for _, element in types.values() if element})
    by_table: dict[TableId, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_table.setdefault(TableId(row[0], row[1]), []).append(row)
    fingerprints = dict(read_fingerprints(connection, publications, list(by_table)))
    return {
        table: _schema(
            table, by_table[table], types, {oid: base for oid, (base, _) in elements.items()}, fingerprints.get(table)
        )
        for table in tables
        if table in by_table
    }


def snapshot_relations(connection: "psycopg.Connection[Any]", table: TableId) -> list[tuple[Relation, int]]:
    """The relations that hold the table's rows, each with its size in pages. A table that is gone has none."""
    parts = connection.execute(_RELATIONS, table).fetchall()
    ordinary = [] if parts else connection.execute(_ORDINARY, table).fetchall()
    return [
        *((Relation(TableId(namespace, name), filenode), pages) for namespace, name, filenode, pages in parts),
        *((Relation(table, filenode), pages) for filenode, pages in ordinary),
    ]


def was_rewritten(connection: "psycopg.Connection[Any]", relation: TableId) -> bool:
    """Return whether the relation got another file since the snapshot of the transaction, which sees no rows in it."""
    return connection.execute(_HAS_ITS_FILE, relation).fetchone() != (True,)


def is_partitioned(connection: "psycopg.Connection[Any]", table: TableId) -> bool:
    """Return whether the table's rows are in its partitions."""
    return connection.execute(_IS_PARTITIONED, table).fetchone() == (True,)


def type_name(connection: "psycopg.Connection[Any]", oid: int, modifier: int) -> str:
    """How SQL spells a type."""
    row = connection.execute("SELECT format_type(%s::bigint::oid, %s)", [oid, modifier]).fetchone()
    assert row is not None, "the function returns one row"
    return str(row[0])


def _types(connection: "psycopg.Connection[Any]", oids: set[int]) -> dict[int, tuple[int, int]]:
    """For each type its base type and the type of its elements, 0 when it is no array."""
    rows = connection.execute(_TYPES, [sorted(oids)])
    return {oid: (base, element) for oid, base, element in rows}


def _schema(
    table: TableId,
    rows: list[tuple[Any, ...]],
    types: dict[int, tuple[int, int]],
    elements: dict[int, int],
    fingerprint: Fingerprint | None,
) -> TableSchema:
    keyed = sorted((row[9], row[4]) for row in rows if row[9] is not None)
    return TableSchema(
        id=table,
        columns=tuple(_column(row, types, elements) for row in rows),
        key=tuple(name for _, name in keyed),
        identity=Identity(rows[0][2]),
        comment=rows[0][3],
        fingerprint=fingerprint,
    )


def _column(row: tuple[Any, ...], types: dict[int, tuple[int, int]], elements: dict[int, int]) -> Column:
    base, element = types[row[6]]
    return Column(
        name=row[4],
        type=row[5],
        type_oid=row[6],
        base_oid=base,
        element_oid=elements.get(element, element),
        type_modifier=row[11],
        not_null=row[7],
        comment=row[8],
        number=row[10],
        filling=OldRowValues(row[12]),
        fill_value=row[13],
    )
