"""Tells how a destination differs from its source: types, keys, and rows, by queries of its own."""

from collections import Counter
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.testing import digest

_COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY 1
"""

_Connection: TypeAlias = "psycopg.Connection[Any]"

#: How much of a value is shown.
_SHOWN = 200


def difference(source: _Connection, destination: _Connection, table: TableId) -> str | None:
    """What is not the same; None when all is."""
    expected, found = (set(connection.execute(_COLUMNS, table).fetchall()) for connection in (source, destination))
    # A column that was added arrives with the first change that has it.
    late = [name for name, _ in expected - found]
    if found - expected or (late and not _is_null(source, table, late)):
        return f"columns differ: {sorted(expected ^ found)}"
    if not late and digest(source, table) == digest(destination, table):
        return None
    return _rows_difference(source, destination, table, sorted(name for name, _ in found))


def _is_null(connection: _Connection, table: TableId, names: list[str]) -> bool:
    """Whether no row holds a value of these columns."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE num_nonnulls({}) > 0").format(
        sql.Identifier(*table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    return connection.execute(query).fetchone() == (0,)


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
