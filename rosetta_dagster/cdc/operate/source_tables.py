"""Lists the tables of a source database, and decides for each whether it can be replicated."""

from dataclasses import dataclass
from typing import Any

from psycopg.rows import dict_row

from rosetta_dagster.cdc.config.pipeline import SourceConfig
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.preflight.finding import quoted
from rosetta_dagster.cdc.table_id import TableId

_TABLES = """
SELECT namespace.nspname::text AS namespace, class.relname::text AS name, class.relkind::text AS kind,
       class.relpersistence::text AS persistence,
       (SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree(class.oid)) AS partitioned_bytes,
       pg_total_relation_size(class.oid) AS bytes,
       CASE WHEN class.relkind = 'p'
            THEN (SELECT sum(leaf.reltuples) FILTER (WHERE leaf.reltuples >= 0) FROM pg_partition_tree(class.oid) AS part
                  JOIN pg_class AS leaf ON leaf.oid = part.relid WHERE part.isleaf)
            -- Negative until the table is analyzed; zero at a server before version 14.
            WHEN class.reltuples >= 0 THEN class.reltuples END::bigint AS rows,
       class.relreplident::text AS identity,
       COALESCE((SELECT array_agg(attname::text ORDER BY array_position(index.indkey::int2[], attnum))
                 FROM pg_attribute WHERE attrelid = class.oid AND attnum = ANY (index.indkey)), '{}') AS key,
       has_schema_privilege(namespace.oid, 'USAGE') AS may_enter, has_table_privilege(class.oid, 'SELECT') AS may_read,
       current_user::text AS role
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
LEFT JOIN pg_index AS index ON index.indrelid = class.oid AND index.indisvalid
    AND CASE class.relreplident WHEN 'i' THEN index.indisreplident ELSE index.indisprimary AND index.indimmediate END
WHERE class.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT class.relispartition AND class.relpersistence <> 't'
  AND namespace.nspname <> 'information_schema' AND namespace.nspname !~ '^pg_'
ORDER BY 1, 2
"""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}

_INSERTS_ONLY = "No replica identity: inserts only. Add a primary key, or run: ALTER TABLE {} REPLICA IDENTITY FULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A relation of the source, with all its partitions."""

    id: TableId
    byte_count: int
    #: Estimated by the planner; None when the table was never analyzed.
    row_count: int | None
    key: tuple[str, ...]
    is_replicable: bool
    #: Why it cannot be replicated, or what is left out; empty when there is nothing to say.
    remark: str = ""


def source_tables(source: SourceConfig) -> list[SourceTable]:
    """Return the tables of a source, by name."""
    with source_errors(source.connection), connect(source.connection) as connection:
        rows = connection.cursor(row_factory=dict_row).execute(_TABLES).fetchall()
    return [_table(row) for row in rows]


def _table(row: dict[str, Any]) -> SourceTable:
    obstacle = _obstacle(row)
    return SourceTable(
        id=TableId(row["namespace"], row["name"]),
        byte_count=row["partitioned_bytes"] or row["bytes"],
        row_count=row["rows"],
        key=tuple(row["key"]),
        is_replicable=obstacle is None,
        remark=obstacle or ("" if _is_identified(row) else _INSERTS_ONLY.format(_quoted(row))),
    )


def _obstacle(row: dict[str, Any]) -> str | None:
    if row["kind"] in _KINDS:
        return f"It is {_KINDS[row['kind']]}: its changes are not in the WAL."
    if row["persistence"] == "u":
        return f"It is UNLOGGED. Run: ALTER TABLE {_quoted(row)} SET LOGGED"
    role = quoted(row["role"])
    if not row["may_enter"]:
        return f"This role may not use its schema. Run: GRANT USAGE ON SCHEMA {quoted(row['namespace'])} TO {role}"
    return None if row["may_read"] else f"This role may not read it. Run: GRANT SELECT ON {_quoted(row)} TO {role}"


def _quoted(row: dict[str, Any]) -> str:
    return quoted(row["namespace"], row["name"])


def _is_identified(row: dict[str, Any]) -> bool:
    return row["identity"] == "f" or (row["identity"] in ("d", "i") and bool(row["key"]))
