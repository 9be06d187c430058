"""How many rows the source's tables hold: counted, or the planner's estimate for large ones."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.source.catalog import is_partitioned
from rosetta_dagster.cdc.source.fingerprint import read_fingerprints
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


def row_counts(
    connection: "psycopg.Connection[Any]", tables: Sequence[TableId], publications: Sequence[str]
) -> dict[TableId, int]:
    """Return the number of rows of each table that exists, as far as the publications have them."""
    found = dict(read_fingerprints(connection, publications, tables))
    filters = {table: fingerprint.row_filter for table, fingerprint in found.items()}
    counts = {table: _row_count(connection, table, filters.get(table)) for table in tables}
    return {table: count for table, count in counts.items() if count is not None}


def _row_count(connection: "psycopg.Connection[Any]", table: TableId, row_filter: str | None) -> int | None:
    rows = connection.execute(_ESTIMATE, {"namespace": table.namespace, "name": table.name}).fetchall()
    estimates = [estimate for (estimate,) in rows if estimate is not None]
    if not estimates:
        return None
    is_large = max(estimates) > COUNTED_ROWS
    if is_large and row_filter is None:
        return int(max(estimates))
    # A table's own rows are replicated, without those of tables that inherit from it.
    only = sql.SQL("" if is_partitioned(connection, table) else "ONLY ")
    where = sql.SQL(f" WHERE ({row_filter})" if row_filter else "")
    rows_of = sql.SQL("FROM {}{}{}").format(only, sql.Identifier(*table), where)
    statement = sql.SQL("EXPLAIN (FORMAT JSON) SELECT " if is_large else "SELECT count(*) ") + rows_of
    row = connection.execute(statement).fetchone()
    assert row is not None, "each returns one row"
    return int(row[0][0]["Plan"]["Plan Rows"] if is_large else row[0])
