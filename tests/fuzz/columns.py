"""Knows what the columns of the tables are by now: a session sees what it has altered itself, and what others committed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg

from .tables import Column, Table

_COLUMNS = """
SELECT attnum::int, attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""


class Columns:
    """The columns of a workload's tables. A column is the same as long as its number is."""

    def __init__(self, connection: "psycopg.Connection[Any]", tables: Sequence[Table]) -> None:
        self._tables = tables
        self._by_number: list[dict[int, Column]] = [{} for _ in tables]
        for index, table in enumerate(tables):
            for column in table.columns:
                self.added(connection, index, column)

    def added(self, connection: "psycopg.Connection[Any]", index: int, column: Column) -> None:
        """The column is there. A number that one had whose transaction was rolled back is given again."""
        for number, name, _ in connection.execute(_COLUMNS, self._tables[index].id):
            if name == column.name:
                self._by_number[index][number] = column

    def replaced(self, connection: "psycopg.Connection[Any]", index: int, table: Table) -> None:
        """Another table has the name, with the same columns under other numbers."""
        self._by_number[index] = {}
        for column in table.columns:
            self.added(connection, index, column)

    def now(self, session: "psycopg.Connection[Any]") -> list[Table]:
        """The tables as the session sees them."""
        return [self._now(session, index, table) for index, table in enumerate(self._tables)]

    def _now(self, session: "psycopg.Connection[Any]", index: int, table: Table) -> Table:
        found = session.execute(_COLUMNS, table.id).fetchall()
        known = self._by_number[index]
        return replace(
            table,
            columns=tuple(
                replace(known[number], name=name, type=replace(known[number].type, sql=kind))
                for number, name, kind in found
                if number in known
            ),
        )
