"""Answers DESC TABLE: fakesnow 0.12.1 returns no rows for a missing table, and nine digits of a second for every time."""

from typing import Any

from sqlglot import Expr, exp

from rosetta_dagster.embedded.snowflake.emulator import results
from rosetta_dagster.embedded.snowflake.emulator.errors import missing
from rosetta_dagster.embedded.snowflake.emulator.results import Result
from rosetta_dagster.embedded.snowflake.emulator.session import Session

_COLUMNS = """
SELECT column_name,
       CASE WHEN data_type = 'NUMBER' THEN 'NUMBER(' || numeric_precision || ',' || numeric_scale || ')'
            WHEN data_type = 'TEXT' THEN 'VARCHAR(' || COALESCE(character_maximum_length, 16777216) || ')'
            WHEN data_type = 'BINARY' THEN 'BINARY(' || COALESCE(character_maximum_length, 8388608) || ')'
            WHEN data_type LIKE 'TIME%' THEN data_type || '(6)'
            ELSE data_type END,
       'COLUMN', CASE WHEN is_nullable = 'YES' THEN 'Y' ELSE 'N' END, column_default, 'N', 'N'
FROM _fs_global._fs_information_schema._fs_columns
WHERE table_catalog = ? AND table_schema = ? AND table_name = ? ORDER BY ordinal_position
"""

_NAMES = ["name", "type", "kind", "null?", "default", "primary key", "unique key"]


def is_table_description(statement: Expr) -> bool:
    return (
        isinstance(statement, exp.Describe)
        and str(statement.args.get("kind")).upper() == "TABLE"
        and statement.this.db.upper() != "INFORMATION_SCHEMA"
    )


def describe_table(session: Session, statement: Expr) -> Result:
    """Return the columns of a table.

    Raises:
        SnowflakeError: 002003 when the table is missing.

    """
    place, rows = _columns(session, statement.this)
    if not rows:
        raise missing("Table", ".".join(part for part in place if part))
    return results.texts(_NAMES, rows)


def column_types(session: Session, table: Expr) -> dict[str, str]:
    """Return the type of each column of a table, as DESC TABLE shows it."""
    return {row[0]: row[1] for row in _columns(session, table)[1]}


def _columns(session: Session, table: Expr) -> tuple[list[str | None], list[tuple[Any, ...]]]:
    parts = [_name(table.args.get(part)) for part in ("catalog", "db", "this")]
    defaults = (session.connection.database, session.connection.schema, None)
    place = [part or default for part, default in zip(parts, defaults, strict=True)]
    return place, session.duckdb.execute(_COLUMNS, place).fetchall()


def _name(identifier: Expr | None) -> str | None:
    if identifier is None:
        return None
    return identifier.name if identifier.args.get("quoted") else identifier.name.upper()
