"""The statements that a PostgreSQL destination runs, as pure functions.

A merge goes through a staging table whose columns are c0, c1, … in the order of the source's columns, so that no column of
the user can clash with one of ours. Its first columns say what a row is for: `op` is `u` to upsert, `p` to update in part,
`d` to delete; `unchanged` holds a digit for each column, 1 for a value that was not sent; `copies` counts equal rows of a
table without a key.
"""

from collections.abc import Collection, Iterable

from psycopg import sql

from rosetta_dagster.cdc.event import UNCHANGED, Key, Row, Value
from rosetta_dagster.cdc.schema import Column, TableId, TableSchema

_COMMA = sql.SQL(", ")
_AND = sql.SQL(" AND ")


def table(target: TableId) -> sql.Composable:
    return sql.Identifier(target.namespace, target.name)


def _names(columns: Iterable[str]) -> sql.Composed:
    return _COMMA.join(map(sql.Identifier, columns))


def _staged(indexes: Iterable[int], alias: str = "s") -> sql.Composed:
    return _COMMA.join(_cell(index, alias) for index in indexes)


def _cell(index: int, alias: str = "s") -> sql.Composable:
    return sql.Identifier(alias, f"c{index}")


def create_namespace(namespace: str) -> sql.Composed:
    return sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(namespace))


def create_table(target: TableId, schema: TableSchema) -> sql.Composed:
    """The table as the source has it: columns, types, NOT NULL and the key; no defaults, no other constraints."""
    parts: list[sql.Composable] = [column_definition(column) for column in schema.columns]
    if schema.key:
        parts.append(sql.SQL("PRIMARY KEY ({})").format(_names(schema.key)))
    body = sql.SQL(",\n    ").join(parts)
    return sql.SQL("CREATE TABLE IF NOT EXISTS {} (\n    {}\n)").format(table(target), body)


def column_definition(column: Column) -> sql.Composed:
    not_null = sql.SQL(" NOT NULL" if column.not_null else "")
    # The type is the catalog's own spelling (format_type), quoted where it has to be.
    return sql.SQL("{} {}{}").format(sql.Identifier(column.name), sql.SQL(column.type), not_null)


def add_column(target: TableId, column: Column) -> sql.Composed:
    """A column that the source has got meanwhile. It may hold NULL here: rows from before it have no value for it."""
    return sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
        table(target),
        sql.Identifier(column.name),
        sql.SQL(column.type),
    )


def truncate(target: TableId) -> sql.Composed:
    return sql.SQL("TRUNCATE {}").format(table(target))


def copy_into(target: TableId, schema: TableSchema) -> sql.Composed:
    return sql.SQL("COPY {} ({}) FROM STDIN").format(table(target), _names(schema.column_names))


def create_staging(staging: str, types: Iterable[str]) -> sql.Composed:
    """A temporary table with a column of each type, emptied at each commit."""
    cells = _COMMA.join(sql.SQL("{} {}").format(sql.Identifier(f"c{n}"), sql.SQL(name)) for n, name in enumerate(types))
    return sql.SQL(
        "CREATE TEMPORARY TABLE {} (\n"
        "    op \"char\" DEFAULT 'u', unchanged text, copies bigint, {}\n) ON COMMIT DELETE ROWS"
    ).format(sql.Identifier(staging), cells)


def drop_staging(staging: str) -> sql.Composed:
    return sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(sql.Identifier(staging))


def empty_staging(staging: str) -> sql.Composed:
    return sql.SQL("TRUNCATE pg_temp.{}").format(sql.Identifier(staging))


def copy_into_staging(staging: str, columns: Iterable[str]) -> sql.Composed:
    return sql.SQL("COPY pg_temp.{} ({}) FROM STDIN").format(sql.Identifier(staging), _names(columns))


def _same_key(schema: TableSchema) -> sql.Composed:
    return _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier("t", name), _cell(index))
        for name, index in zip(schema.key, schema.key_indexes, strict=True)
    )


def delete_by_key(target: TableId, staging: str, schema: TableSchema) -> sql.Composed:
    return sql.SQL("DELETE FROM {} AS t\nUSING pg_temp.{} AS s\nWHERE s.op = 'd' AND {}").format(
        table(target), sql.Identifier(staging), _same_key(schema)
    )


def upsert(target: TableId, staging: str, schema: TableSchema) -> sql.Composed:
    """Insert whole rows, or put them in the place of the rows with their keys.

    In the key's order: neighbours in the index are mostly neighbours in the table, which saves a fifth of the time.
    """
    assignments = _COMMA.join(
        sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in schema.column_names if name not in schema.key
    )
    action = sql.SQL("DO UPDATE SET {}").format(assignments) if assignments.as_string() else sql.SQL("DO NOTHING")
    return sql.SQL(
        "INSERT INTO {} ({})\nOVERRIDING SYSTEM VALUE\nSELECT {}\n"
        "FROM pg_temp.{} AS s WHERE s.op = 'u' ORDER BY {}\nON CONFLICT ({}) {}"
    ).format(
        table(target),
        _names(schema.column_names),
        _staged(range(len(schema.columns))),
        sql.Identifier(staging),
        _staged(schema.key_indexes),
        _names(schema.key),
        action,
    )


def update_in_part(target: TableId, staging: str, schema: TableSchema, unsent: Collection[int]) -> sql.Composed:
    """Update rows of which some values were not sent; `unsent` are the columns where that happens in this batch."""
    assignments = _COMMA.join(
        _assignment(index, name, index in unsent) for index, name in enumerate(schema.column_names) if name not in schema.key
    )
    return sql.SQL("UPDATE {} AS t SET {}\nFROM pg_temp.{} AS s\nWHERE s.op = 'p' AND {}").format(
        table(target), assignments, sql.Identifier(staging), _same_key(schema)
    )


def _assignment(index: int, name: str, may_be_unsent: bool) -> sql.Composed:  # noqa: FBT001 - private, named at the call
    if not may_be_unsent:
        return sql.SQL("{} = {}").format(sql.Identifier(name), _cell(index))
    return sql.SQL("{} = CASE substr(s.unchanged, {}, 1) WHEN '1' THEN {} ELSE {} END").format(
        sql.Identifier(name), sql.Literal(index + 1), sql.Identifier("t", name), _cell(index)
    )


def move(target: TableId, schema: TableSchema, old_key: Key, row: Row) -> sql.Composed:
    """Give one row another key, and new values to the columns that were sent.

    The values stand in the statement: with parameters, a percent sign in a column's name would be taken for one.
    """
    assignments = _COMMA.join(
        sql.SQL("{} = {}").format(sql.Identifier(column.name), _typed(column, value))
        for column, value in zip(schema.columns, row, strict=True)
        if value is not UNCHANGED
    )
    condition = _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier(name), _typed(schema.columns[index], value))
        for name, index, value in zip(schema.key, schema.key_indexes, old_key, strict=True)
    )
    return sql.SQL("UPDATE {} SET {}\nWHERE {}").format(table(target), assignments, condition)


def _typed(column: Column, value: Value) -> sql.Composed:
    """A value's text, read by the server as the column's type."""
    text = value.decode() if isinstance(value, bytes) else None
    return sql.SQL("{}::text::{}").format(sql.Literal(text), sql.SQL(column.type))


def insert_copies(target: TableId, staging: str, schema: TableSchema) -> sql.Composed:
    """Insert each staged row as many times as it came, into a table without a key."""
    return sql.SQL(
        "INSERT INTO {} ({})\nOVERRIDING SYSTEM VALUE\nSELECT {}\n"
        "FROM pg_temp.{} AS s, generate_series(1, s.copies)\nWHERE s.op = 'u'"
    ).format(table(target), _names(schema.column_names), _staged(range(len(schema.columns))), sql.Identifier(staging))


def delete_copies(target: TableId, staging: str, schema: TableSchema) -> sql.Composed:
    """Delete as many rows equal to each staged row as went, of a table without a key.

    Rows are compared by their text: not every type has an equality, and a type's own may call different values equal.
    A ctid alone would name a row in each partition.
    """
    target_row = _COMMA.join(sql.Identifier("t", name) for name in schema.column_names)
    return sql.SQL(
        "DELETE FROM {0} WHERE (tableoid, ctid) IN (\n"
        '    SELECT "relation", "place" FROM (\n'
        '        SELECT t.tableoid AS "relation", t.ctid AS "place", s.copies,\n'
        "               row_number() OVER (PARTITION BY s.ctid ORDER BY t.tableoid, t.ctid) AS number\n"
        "        FROM pg_temp.{1} AS s JOIN {0} AS t ON ROW({2})::text = ROW({3})::text\n"
        "        WHERE s.op = 'd'\n"
        "    ) AS found WHERE number <= copies)"
    ).format(table(target), sql.Identifier(staging), target_row, _staged(range(len(schema.columns))))


STATE_TABLES = """
CREATE SCHEMA IF NOT EXISTS rosetta;
CREATE TABLE IF NOT EXISTS rosetta.streams (
    pipeline           text PRIMARY KEY,
    system_identifier  text NOT NULL,
    slot_name          text NOT NULL,
    engine             text,
    transaction_lsn    pg_lsn,
    lsn                pg_lsn,
    ordinal            bigint,
    xid                bigint,
    noted_lsn          pg_lsn,
    updated_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rosetta.streams IS
    'The last change that Rosetta applied here, per pipeline. Written in the transaction of the data; do not change.';
CREATE TABLE IF NOT EXISTS rosetta.copies (
    pipeline      text NOT NULL REFERENCES rosetta.streams ON DELETE CASCADE,
    table_schema  text NOT NULL,
    table_name    text NOT NULL,
    lsn           pg_lsn NOT NULL,
    snapshot      text NOT NULL,
    finished_at   timestamptz,
    PRIMARY KEY (pipeline, table_schema, table_name)
);
COMMENT ON TABLE rosetta.copies IS
    'The tables that Rosetta copied here, and the point of the source''s stream that each copy stands for.';
"""

READ_STREAM = """
SELECT system_identifier, slot_name, noted_lsn::text, engine, transaction_lsn::text, lsn::text, ordinal, xid
FROM rosetta.streams WHERE pipeline = %s
"""

ADD_STREAM = """
INSERT INTO rosetta.streams (pipeline, system_identifier, slot_name) VALUES (%s, %s, %s)
"""

READ_COPIES = """
SELECT table_schema, table_name, lsn::text, snapshot, finished_at IS NOT NULL FROM rosetta.copies WHERE pipeline = %s
"""

START_COPY = """
INSERT INTO rosetta.copies (pipeline, table_schema, table_name, lsn, snapshot) VALUES (%s, %s, %s, %s::pg_lsn, %s)
ON CONFLICT (pipeline, table_schema, table_name)
DO UPDATE SET lsn = EXCLUDED.lsn, snapshot = EXCLUDED.snapshot, finished_at = NULL
"""

FINISH_COPY = """
UPDATE rosetta.copies SET finished_at = now() WHERE pipeline = %s AND table_schema = %s AND table_name = %s
"""

#: Moves the watermark only from the one that this run knows: two runs can never both write.
MOVE_WATERMARK = """
UPDATE rosetta.streams
SET engine = %s, transaction_lsn = %s::pg_lsn, lsn = %s::pg_lsn, ordinal = %s, xid = %s, updated_at = now()
WHERE pipeline = %s AND (transaction_lsn, lsn, ordinal) IS NOT DISTINCT FROM (%s::pg_lsn, %s::pg_lsn, %s::bigint)
"""


#: Up to where the slot may move; written before it does.
NOTE = "UPDATE rosetta.streams SET noted_lsn = greatest(noted_lsn, %s::pg_lsn) WHERE pipeline = %s"

#: The source may be another cluster by now, after a failover or a restore.
FORGET_WATERMARK = """
UPDATE rosetta.streams
SET system_identifier = '', slot_name = '', noted_lsn = NULL,
    engine = NULL, transaction_lsn = NULL, lsn = NULL, ordinal = NULL, xid = NULL
WHERE pipeline = %s
"""

FORGET_COPIES = "UPDATE rosetta.copies SET finished_at = NULL WHERE pipeline = %s"

IDENTIFY_STREAM = """
UPDATE rosetta.streams SET system_identifier = %s, slot_name = %s WHERE pipeline = %s AND slot_name = ''
"""


def any_row(target: TableId) -> sql.Composed:
    return sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table(target))


def count_rows(target: TableId) -> sql.Composed:
    return sql.SQL("SELECT count(*) FROM {}").format(table(target))
