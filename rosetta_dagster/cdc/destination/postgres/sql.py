"""The statements that a PostgreSQL destination runs, as pure functions.

A merge goes through a staging table whose columns are c0, c1, … in the order of the source's columns, so that no column of
the user can clash with one of ours. Its first columns say what a row is for: `op` is `u` to upsert, `p` to update in part,
`d` to delete; `unchanged` holds a digit for each column, 1 for a value that was not sent; `copies` counts equal rows of a
table without a key.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from psycopg import sql

from rosetta_dagster.cdc.change.event import UNCHANGED, Key, Row, Value
from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.table_id import TableId

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


def comments(target: TableId, schema: TableSchema) -> Iterator[sql.Composed]:
    """The comments that the source has. Where it has none, that of the destination stays."""
    if schema.comment is not None:
        yield sql.SQL("COMMENT ON TABLE {} IS {}").format(table(target), sql.Literal(schema.comment))
    for column in schema.columns:
        if column.comment is not None:
            place = sql.Identifier(target.namespace, target.name, column.name)
            yield sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(column.comment))


def column_definition(column: Column) -> sql.Composed:
    not_null = sql.SQL(" NOT NULL" if column.not_null else "")
    # The type is the catalog's own spelling (format_type), quoted where it has to be.
    return sql.SQL("{} {}{}").format(sql.Identifier(column.name), sql.SQL(column.type), not_null)


def add_column(target: TableId, column: Column) -> sql.Composed:
    """A column that the source has got meanwhile. It may hold NULL here: rows from before it may have no value for it.

    What they do hold is given as a default, which costs no time however large the table is, and is taken back at once.
    """
    added = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
        table(target), sql.Identifier(column.name), sql.SQL(column.type)
    )
    if column.fill_value is None:
        return added
    return sql.SQL("{} DEFAULT {}; ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT").format(
        added, _typed(column, column.fill_value.encode()), table(target), sql.Identifier(column.name)
    )


def any_other_value(target: TableId, column: Column) -> sql.Composed:
    """Whether a row holds another value in the column than rows from before it do. Not all types have an equality."""
    return sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {}::text IS DISTINCT FROM {}::text)").format(
        table(target),
        sql.Identifier(column.name),
        _typed(column, None if column.fill_value is None else column.fill_value.encode()),
    )


def rename_column(target: TableId, old: str, new: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table(target), sql.Identifier(old), sql.Identifier(new))


def change_type(target: TableId, column: Column) -> sql.Composed:
    """The server converts the values as the source's did."""
    return sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}").format(
        table(target), sql.Identifier(column.name), sql.SQL(column.type)
    )


def change_type_of_nothing(target: TableId, column: Column) -> sql.Composed:
    """The type of a column of a table without rows: there is nothing to convert, so any type can follow any."""
    return change_type(target, column) + sql.SQL(" USING NULL::{}").format(sql.SQL(column.type))


def drop_not_null(target: TableId, name: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table(target), sql.Identifier(name))


def set_primary_key(target: TableId, other: str | None, key: Iterable[str]) -> sql.Composed:
    """Make these columns the primary key, instead of the one of that name when there is one."""
    drop = sql.SQL("") if other is None else sql.SQL("DROP CONSTRAINT {}, ").format(sql.Identifier(other))
    return sql.SQL("ALTER TABLE {} {}ADD PRIMARY KEY ({})").format(table(target), drop, _names(key))


def truncate(target: TableId) -> sql.Composed:
    return sql.SQL("TRUNCATE {}").format(table(target))


def copy_into(target: TableId, schema: TableSchema, *, binary: bool = False) -> sql.Composed:
    options = sql.SQL(" (FORMAT binary)" if binary else "")
    return sql.SQL("COPY {} ({}) FROM STDIN{}").format(table(target), _names(schema.column_names), options)


class StagingType(NamedTuple):
    """The type of a column of a staging table."""

    name: str
    #: Whether values may be so large that they are stored apart from their row.
    may_be_large: bool


def create_staging(staging: str, types: Sequence[StagingType]) -> sql.Composed:
    """A temporary table with a column of each type, emptied at each commit.

    Large values are not compressed: what is read once more and thrown away is not worth the time.
    """
    cells = [sql.Identifier(f"c{number}") for number in range(len(types))]
    columns = _COMMA.join(sql.SQL("{} {}").format(cell, sql.SQL(each.name)) for cell, each in zip(cells, types, strict=True))
    create = sql.SQL(
        "CREATE TEMPORARY TABLE {} (\n"
        "    op \"char\" DEFAULT 'u', unchanged text, copies bigint, {}\n) ON COMMIT DELETE ROWS"
    ).format(sql.Identifier(staging), columns)
    large = [cell for cell, each in zip(cells, types, strict=True) if each.may_be_large]
    if not large:
        return create
    external = _COMMA.join(sql.SQL("ALTER {} SET STORAGE EXTERNAL").format(cell) for cell in large)
    return sql.SQL("{};\nALTER TABLE pg_temp.{} {}").format(create, sql.Identifier(staging), external)


def drop_staging(staging: str) -> sql.Composed:
    return sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(sql.Identifier(staging))


def empty_staging(staging: str) -> sql.Composed:
    return sql.SQL("TRUNCATE pg_temp.{}").format(sql.Identifier(staging))


def create_load_staging(staging: str, target: TableId) -> sql.Composed:
    """A temporary table like the target, for rows of which some may be there already."""
    return sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT * FROM {} WITH NO DATA").format(
        sql.Identifier(staging), table(target)
    )


def replace_from(staging: str, target: TableId, schema: TableSchema) -> sql.Composed:
    """Rows of a table like the target, each in the place of the one that has its key."""
    return sql.SQL(
        "INSERT INTO {} AS t ({})\nOVERRIDING SYSTEM VALUE\nSELECT {} FROM pg_temp.{}\nON CONFLICT ({}) {}"
    ).format(
        table(target),
        _names(schema.column_names),
        _names(schema.column_names),
        sql.Identifier(staging),
        _names(schema.key),
        _when_there(schema),
    )


def delete_others(staging: str, target: TableId, schema: TableSchema) -> sql.Composed:
    """Delete the rows whose keys a table like the target does not hold."""
    same_key = _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier("s", name), sql.Identifier("t", name)) for name in schema.key
    )
    return sql.SQL("DELETE FROM {} AS t WHERE NOT EXISTS (SELECT FROM pg_temp.{} AS s WHERE {})").format(
        table(target), sql.Identifier(staging), same_key
    )


def copy_keys_into(target: TableId, schema: TableSchema) -> sql.Composed:
    return sql.SQL("COPY {} ({}) FROM STDIN").format(table(target), _names(schema.key))


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

    Without an alias of its own a table named `excluded` could not be told from the rows that are refused. In the key's
    order: neighbours in the index are mostly neighbours in the table, which saves a fifth of the time.
    """
    return sql.SQL(
        "INSERT INTO {} AS t ({})\nOVERRIDING SYSTEM VALUE\nSELECT {}\n"
        "FROM pg_temp.{} AS s WHERE s.op = 'u' ORDER BY {}\nON CONFLICT ({}) {}"
    ).format(
        table(target),
        _names(schema.column_names),
        _staged(range(len(schema.columns))),
        sql.Identifier(staging),
        _staged(schema.key_indexes),
        _names(schema.key),
        _when_there(schema),
    )


def _when_there(schema: TableSchema) -> sql.Composable:
    assignments = _COMMA.join(
        sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in schema.column_names if name not in schema.key
    )
    return sql.SQL("DO UPDATE SET {}").format(assignments) if assignments.as_string() else sql.SQL("DO NOTHING")


def insert_values(target: TableId, schema: TableSchema) -> sql.Composed:
    """Insert whole rows, up to where they follow; after them comes `on_conflict`."""
    return sql.SQL("INSERT INTO {} AS t ({})\nOVERRIDING SYSTEM VALUE\nVALUES").format(
        table(target), _names(schema.column_names)
    )


def on_conflict(schema: TableSchema) -> sql.Composed:
    """Put the rows in the place of those that have their keys."""
    return sql.SQL("ON CONFLICT ({}) {}").format(_names(schema.key), _when_there(schema))


def delete_keys(target: TableId, schema: TableSchema) -> sql.Composed:
    """Delete the rows with these keys, up to where the list of keys follows."""
    return sql.SQL("DELETE FROM {} WHERE ({}) IN").format(table(target), _names(schema.key))


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
    return sql.SQL("UPDATE {} SET {}\nWHERE {}").format(table(target), assignments, _has_key(schema, old_key))


def _has_key(schema: TableSchema, key: Key) -> sql.Composed:
    return _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier(name), _typed(schema.columns[index], value))
        for name, index, value in zip(schema.key, schema.key_indexes, key, strict=True)
    )


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


def any_row(target: TableId) -> sql.Composed:
    return sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table(target))


def count_rows(target: TableId) -> sql.Composed:
    return sql.SQL("SELECT count(*) FROM {}").format(table(target))
