"""Decides whether the catalog rows that fingerprints are made of may have changed, by a digest of their OIDs and `xmin`.

The fingerprints of fifty tables cost the source one to two milliseconds, their digest half of one. With the same digest the
fingerprints are the same. With another one they may be, since a `GRANT` updates a row of the catalog as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.fingerprint import Fingerprint
from rosetta_dagster.cdc.source.fingerprint import SCHEMAS_VERSION
from rosetta_dagster.cdc.table_id import TableId

#: Known tables are read by their OIDs, and missing ones by their names. A rename, a move, another owner, another file and
#: another replica identity update the row of `pg_class`; counts of writes and when they were reset are no catalog rows.
_READ = """
WITH RECURSIVE tree (oid, mark) AS (
    SELECT unnest(%(partitioned)s::bigint[])::oid, ''
    UNION ALL
    SELECT inhrelid, concat(inherits.xmin, ' ', inherits.inhdetachpending)
    FROM tree JOIN pg_inherits AS inherits ON inherits.inhparent = tree.oid
), known AS MATERIALIZED (
    SELECT %(tables)s::bigint[]::oid[] AS tables, %(tables)s::bigint[]::oid[] || ARRAY(SELECT oid FROM tree) AS relations,
           %(types)s::bigint[]::oid[] AS types
)
SELECT md5(concat_ws('|',
    array(SELECT concat(oid, ' ', xmin) FROM pg_class WHERE oid = ANY ((SELECT relations FROM known)::oid[]) ORDER BY oid),
    array(SELECT concat(oid, ' ', mark) FROM tree ORDER BY oid),
    array(SELECT xmin FROM pg_attribute WHERE attnum > 0 AND attrelid = ANY ((SELECT tables || ARRAY(
        SELECT typrelid FROM pg_type WHERE oid = ANY (types)) FROM known)::oid[]) ORDER BY attrelid, attnum),
    array(SELECT concat(oid, ' ', xmin) FROM pg_enum WHERE enumtypid IN (
        SELECT enumtypid FROM pg_enum WHERE oid = ANY ((SELECT types FROM known)::oid[])) ORDER BY oid),
    array(SELECT concat(indexrelid, ' ', xmin)
          FROM pg_index WHERE indrelid = ANY ((SELECT relations FROM known)::oid[]) ORDER BY indexrelid),
    array(SELECT concat(oid, ' ', xmin) FROM pg_publication WHERE pubname = ANY (%(publications)s::text[]) ORDER BY oid),
    array(SELECT concat(oid, ' ', xmin)
          FROM pg_publication_rel WHERE prrelid = ANY ((SELECT tables FROM known)::oid[]) ORDER BY oid),
    {schemas},
    array(SELECT concat(oid, ' ', xmin) FROM pg_namespace WHERE nspname = ANY (%(known_namespaces)s::text[]) ORDER BY oid),
    array(SELECT class.oid FROM unnest(%(namespaces)s::text[], %(names)s::text[]) AS missing (namespace, name)
          JOIN pg_namespace AS namespace ON namespace.nspname = missing.namespace
          JOIN pg_class AS class ON class.relnamespace = namespace.oid AND class.relname = missing.name ORDER BY class.oid),
    (SELECT concat_ws(' ', sum(pg_stat_get_tuples_updated(counted.oid) + pg_stat_get_tuples_deleted(counted.oid)),
                      max(pg_stat_get_db_stat_reset_time(database.oid)), max(pg_stat_get_bgwriter_stat_reset_time()))
     FROM unnest(%(counted)s::bigint[]::oid[]) AS counted (oid)
     JOIN pg_database AS database ON database.datname = current_database())
))
"""

_SCHEMAS = "array(SELECT concat(oid, ' ', xmin) FROM pg_publication_namespace ORDER BY oid)"


def read_digest(
    connection: "psycopg.Connection[Any]",
    publications: Sequence[str],
    tables: Sequence[TableId],
    known: Mapping[TableId, Fingerprint],
) -> str:
    """Return the digest of what the fingerprints of these tables are read from. `known` are those that exist."""
    query = digest_query(connection.info.server_version)
    row = connection.execute(query, _parameters(publications, tables, known)).fetchone()
    assert row is not None, "the query returns one row"
    return str(row[0])


def digest_query(version: int) -> str:
    """Return the query for a server of this version, as `server_version_num` has it."""
    return _READ.format(schemas=_SCHEMAS if version >= SCHEMAS_VERSION else "'{}'")


def _parameters(
    publications: Sequence[str], tables: Sequence[TableId], known: Mapping[TableId, Fingerprint]
) -> dict[str, Sequence[str] | Sequence[int]]:
    fingerprints = [known[table] for table in tables if table in known]
    missing = [table for table in tables if table not in known]
    return {
        "publications": list(publications),
        "namespaces": [table.namespace for table in missing],
        "names": [table.name for table in missing],
        "known_namespaces": sorted({table.namespace for table in tables if table in known}),
        "tables": [each.oid for each in fingerprints],
        "partitioned": [each.oid for each in fingerprints if each.is_partitioned],
        "types": sorted({int(oid) for each in fingerprints for oid, _ in each.type_texts}),
        "counted": [oid for each in fingerprints if each.unpublished_writes is not None for oid in sorted(each.storage)],
    }
