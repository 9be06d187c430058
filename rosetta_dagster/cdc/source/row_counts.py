"""How many rows the source's tables hold: counted, or the planner's estimate for large ones."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.source.catalog import is_partitioned
from rosetta_dagster.cdc.table_id import TableId

#: Larger tables are not counted row by row.
COUNTED_ROWS = 1_000_000

_ESTIMATE = """
SELECT sum(greatest(class.reltuples, 0))::bigint
FROM pg_partition_tree(to_regclass(format('%%I.%%I', %(namespace)s::text, %(name)s::text))) AS part
JOIN pg_class AS class ON class.oid = part.relid AND part.isleaf
UNION ALL
SELECT greatest(reltuples, 0)::bigint FROM pg_class
WHERE oid = to_regclass(format('%%I.%%I', %(namespace)s::text, %(name)s::text)) AND relkind = 'r'
"""


def row_counts(connection: "psycopg.Connection[Any]", tables: Sequence[TableId]) -> dict[TableId, int]:
    """The rows of each table that exists."""
    counts = {table: _row_count(connection, table) for table in tables}
    return {table: count for table, count in counts.items() if count is not None}


def _row_count(connection: "psycopg.Connection[Any]", table: TableId) -> int | None:
    rows = connection.execute(_ESTIMATE, {"namespace": table.namespace, "name": table.name}).fetchall()
    estimates = [estimate for (estimate,) in rows if estimate is not None]
    if not estimates:
        return None
    if max(estimates) > COUNTED_ROWS:
        return int(max(estimates))
    # A table's own rows are replicated, without those of tables that inherit from it.
    only = sql.SQL("" if is_partitioned(connection, table) else "ONLY ")
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}{}").format(only, sql.Identifier(*table))).fetchone()
    assert row is not None, "an aggregate returns one row"
    return int(row[0])
