"""Answers SHOW SCHEMAS, TABLES and VIEWS: fakesnow 0.12.1 leaves out conditions, comments and row counts."""

import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from fakesnow.rowtype import ColumnInfo

from rosetta_dagster.embedded.snowflake.emulator import results
from rosetta_dagster.embedded.snowflake.emulator.errors import missing
from rosetta_dagster.embedded.snowflake.emulator.results import Result
from rosetta_dagster.embedded.snowflake.emulator.session import Session

#: fakesnow 0.12.1 keeps no times of creation. Everything is old.
_CREATED = datetime.fromtimestamp(0, UTC)

_SCHEMAS = "SELECT schema_name, NULL, NULL FROM information_schema.schemata WHERE catalog_name = ? ORDER BY 1"

_OBJECTS = """
SELECT table_name, (
    SELECT comment FROM _fs_global._fs_information_schema._fs_tables_ext
    WHERE ext_table_catalog = table_catalog AND ext_table_schema = table_schema AND ext_table_name = table_name
) FROM system.information_schema.tables
WHERE table_catalog = ? AND table_schema = ? AND table_type = ? ORDER BY 1
"""

_TYPES = {"TABLES": "BASE TABLE", "VIEWS": "VIEW"}


def show_schemas(session: Session, match: "re.Match[str]") -> Result:
    rows = session.duckdb.execute(_SCHEMAS, [session.connection.database]).fetchall()
    return _shown([[name, None, None] for name, *_ in rows if _begins(name, match)])


def show_objects(session: Session, match: "re.Match[str]") -> Result:
    """Return tables or views of a schema with their comments and, for tables, their number of rows.

    Raises:
        SnowflakeError: 002043 when the schema is missing.

    """
    database, schema = session.connection.database, _identifier(match["name"])
    schemas = {name for name, *_ in session.duckdb.execute(_SCHEMAS, [database]).fetchall()}
    if schema not in schemas:
        raise missing("Schema", schema)
    kind = match["kind"].upper()
    rows = session.duckdb.execute(_OBJECTS, [database, schema, _TYPES[kind]]).fetchall()
    found = [(name, comment) for name, comment in rows if _begins(name, match)]
    return _shown([[name, comment or "", _count(session, schema, name, kind)] for name, comment in found])


def _count(session: Session, schema: str, name: str, kind: str) -> int | None:
    if kind == "VIEWS":
        return None
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (session.connection.database or "", schema, name))
    count: Any = session.duckdb.execute(f"SELECT COUNT(*) FROM {quoted}").fetchone()  # noqa: S608 - quoted
    return int(count[0])


def _begins(name: str, match: "re.Match[str]") -> bool:
    start = match["start"]
    return start is None or name.startswith(start.replace("''", "'").replace("\\\\", "\\"))


def _identifier(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.upper()


def _shown(rows: list[list[Any]]) -> Result:
    names, comments, counts = ([row[at] for row in rows] for at in range(3))
    table = pa.table({
        "created_on": pa.array([_CREATED] * len(rows), pa.timestamp("us", "UTC")),
        "name": pa.array(names, pa.string()),
        "comment": pa.array(comments, pa.string()),
        "rows": pa.array(counts, pa.int64()),
    })  # fmt: skip
    created: ColumnInfo = {**results.text("created_on"), "type": "timestamp_tz", "scale": 9, "precision": 0}
    count: ColumnInfo = {**results.text("rows"), "type": "fixed", "scale": 0, "precision": 38}
    return Result(rows=table, rowtype=[created, results.text("name"), results.text("comment"), count])
