"""Lists the tables of a source database, and decides for each whether it can be replicated."""

from dataclasses import dataclass

from rosetta_dagster.cdc.config.pipeline import SourceConfig
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.table_id import TableId

_TABLES = """
SELECT namespace.nspname::text, class.relname::text, class.relkind::text, class.relpersistence::text,
       (SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree(class.oid)) AS partitioned_bytes,
       pg_total_relation_size(class.oid) AS bytes,
       greatest(CASE WHEN class.relkind = 'p'
                     THEN (SELECT sum(greatest(leaf.reltuples, 0)) FROM pg_partition_tree(class.oid) AS part
                           JOIN pg_class AS leaf ON leaf.oid = part.relid WHERE part.isleaf)
                     ELSE class.reltuples END, 0)::bigint AS rows,
       class.relreplident::text,
       COALESCE((SELECT array_agg(attname::text ORDER BY array_position(index.indkey::int2[], attnum))
                 FROM pg_attribute WHERE attrelid = class.oid AND attnum = ANY (index.indkey)), '{}') AS key,
       has_schema_privilege(namespace.oid, 'USAGE') AND has_table_privilege(class.oid, 'SELECT') AS may_read
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
LEFT JOIN pg_index AS index ON index.indrelid = class.oid AND index.indisvalid
    AND CASE class.relreplident WHEN 'i' THEN index.indisreplident ELSE index.indisprimary AND index.indimmediate END
WHERE class.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT class.relispartition AND class.relpersistence <> 't'
  AND namespace.nspname <> 'information_schema' AND namespace.nspname !~ '^pg_'
ORDER BY 1, 2
"""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A relation of the source, with all its partitions."""

    id: TableId
    byte_count: int
    #: Estimated by the planner.
    row_count: int
    key: tuple[str, ...]
    is_replicable: bool
    #: Why it cannot be replicated, or what is left out; empty when there is nothing to say.
    remark: str = ""


def source_tables(source: SourceConfig) -> list[SourceTable]:
    """Return the tables of a source, by name."""
    with source_errors(source.connection), connect(source.connection) as connection:
        rows = connection.execute(_TABLES).fetchall()
    return [_table(*row) for row in rows]


def _table(
    namespace: str, name: str, kind: str, persistence: str, partitioned_bytes: int | None, byte_count: int,
    row_count: int, identity: str, key: list[str], may_read: bool,
) -> SourceTable:  # fmt: skip
    is_replicable, remark = _verdict(kind, persistence, identity, bool(key), may_read)
    return SourceTable(
        id=TableId(namespace, name),
        byte_count=partitioned_bytes or byte_count,
        row_count=row_count,
        key=tuple(key),
        is_replicable=is_replicable,
        remark=remark,
    )


def _verdict(kind: str, persistence: str, identity: str, has_key: bool, may_read: bool) -> tuple[bool, str]:  # noqa: FBT001
    if kind in _KINDS:
        return False, f"It is {_KINDS[kind]}: its changes are not in the WAL."
    if persistence == "u":
        return False, "It is UNLOGGED. Run: ALTER TABLE … SET LOGGED"
    if not may_read:
        return False, "This role may not read it. Run: GRANT SELECT ON … TO …"
    if identity == "f" or (identity in "di" and has_key):
        return True, ""
    return True, "No replica identity: inserts only. Add a primary key, or run: ALTER TABLE … REPLICA IDENTITY FULL"
