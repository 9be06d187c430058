"""Tells how a destination differs from its source: types, keys, and rows, by queries of its own."""

from collections import Counter
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.testing import digest

_COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY 1
"""

_Connection: TypeAlias = "psycopg.Connection[Any]"

#: How much of a value is shown.
_SHOWN = 200


def difference(
    source: _Connection, destination: _Connection, table: TableId, *, as_of: "psycopg.Connection[Any] | None" = None
) -> str | None:
    """What is not the same; None when all is. Of two destinations the columns count that the table has at the source."""
    wanted, expected, found = (
        dict(connection.execute(_COLUMNS, table).fetchall()) for connection in (as_of or source, source, destination)
    )
    expected = {name: kind for name, kind in expected.items() if name in wanted}
    wrong = {name: (kind, found.get(name)) for name, kind in expected.items() if found.get(name) != kind}
    if wrong:
        return f"columns differ: {wrong}"
    # The destination keeps columns that were dropped.
    if as_of is None and expected == found and digest(source, table) == digest(destination, table):
        return None
    return _rows_difference(source, destination, table, sorted(expected))


def _rows_difference(source: _Connection, destination: _Connection, table: TableId, names: list[str]) -> str | None:
    cells = sql.SQL(", ").join(map(sql.Identifier, names))
    query = sql.SQL("SELECT ROW({})::text FROM {}").format(cells, sql.Identifier(*table))
    expected, found = (Counter(row for (row,) in each.execute(query)) for each in (source, destination))
    missing, surplus = expected - found, found - expected
    if not missing and not surplus:
        return None
    shown = [f"  only at the source: {row[:_SHOWN]}" for row in list(missing)[:3]]
    shown += [f"  only at the destination: {row[:_SHOWN]}" for row in list(surplus)[:3]]
    return "\n".join([f"rows differ ({missing.total()} missing, {surplus.total()} too many), columns {names}:", *shown])
