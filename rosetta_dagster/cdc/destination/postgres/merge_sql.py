"""Builds the statements that merge changes and copied rows into a PostgreSQL destination's tables. Pure functions.

Changes pass through a staging table whose columns are c0, c1, … in the order of the source's columns, so that no column of
the user can clash with one of ours. `op` says what a staged row is for: `u` to upsert, `p` to update only some columns, `d`
to delete. `unchanged` has a digit for each column, 1 for a value that was not sent. `copies` counts equal rows of a table
without a key.

These three columns do not fit beside 1,600 others, nor always beside a row that fills a page. Then the staging table is
wide: it holds a row's values as one array of texts, which PostgreSQL can store out of line.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from psycopg import sql

from rosetta_dagster.cdc.change.event import UNCHANGED, Key, Row
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.postgres.catalog import StagingType, Unassignable
from rosetta_dagster.cdc.destination.postgres.sql import names, table, typed
from rosetta_dagster.cdc.table_id import TableId

_COMMA = sql.SQL(", ")
_AND = sql.SQL(" AND ")

#: PostgreSQL allows 1,600 columns; a staging table has three of its own.
COLUMN_LIMIT = 1597

#: For a table whose every column may be assigned to.
ASSIGNABLE = Unassignable()


class Staging(NamedTuple):
    """A staging table. Its columns have these types."""

    name: str
    types: Sequence[StagingType] = ()
    is_wide: bool = False

    @property
    def table(self) -> sql.Composable:
        return sql.SQL("pg_temp.{}").format(sql.Identifier(self.name))

    def cell(self, index: int) -> sql.Composable:
        """Return the staged value of a column, in a row aliased `s`."""
        if not self.is_wide:
            return sql.Identifier("s", f"c{index}")
        return sql.SQL("s.cells[{}]::{}").format(sql.Literal(index + 1), sql.SQL(self.types[index].plain_name))

    def cells(self, indexes: Iterable[int]) -> sql.Composed:
        return _COMMA.join(self.cell(index) for index in indexes)


def create_staging(staging: Staging) -> sql.Composed:
    """Create a staging table, which is emptied at each commit.

    Large values are not compressed: compressing what is read once costs more than it saves.
    """
    if staging.is_wide:
        columns: sql.Composable = sql.SQL("cells text[]")
        large: list[sql.Composable] = [sql.Identifier("cells")]
    else:
        cells = [sql.Identifier(f"c{number}") for number in range(len(staging.types))]
        typed_cells = zip(cells, staging.types, strict=True)
        columns = _COMMA.join(sql.SQL("{} {}").format(cell, sql.SQL(each.name)) for cell, each in typed_cells)
        large = [cell for cell, each in zip(cells, staging.types, strict=True) if each.may_be_large]
    create = sql.SQL(
        "CREATE TEMPORARY TABLE {} (\n"
        "    op \"char\" DEFAULT 'u', unchanged text, copies bigint, {}\n) ON COMMIT DELETE ROWS"
    ).format(sql.Identifier(staging.name), columns)
    if not large:
        return create
    external = _COMMA.join(sql.SQL("ALTER {} SET STORAGE EXTERNAL").format(cell) for cell in large)
    return sql.SQL("{};\nALTER TABLE {} {}").format(create, staging.table, external)


def drop_staging(name: str) -> sql.Composed:
    return sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(sql.Identifier(name))


def empty_staging(staging: Staging) -> sql.Composed:
    return sql.SQL("TRUNCATE {}").format(staging.table)


def copy_into_staging(staging: Staging, columns: Iterable[str]) -> sql.Composed:
    return sql.SQL("COPY {} ({}) FROM STDIN").format(staging.table, names(columns))


def insertable(schema: TableSchema, fixed: Unassignable) -> list[int]:
    """Return where the columns are that an INSERT may give a value."""
    return [index for index, name in enumerate(schema.column_names) if name not in fixed.generated]


def _names_at(schema: TableSchema, indexes: Iterable[int]) -> list[str]:
    return [schema.column_names[index] for index in indexes]


def _assigned(schema: TableSchema, fixed: Unassignable) -> list[int]:
    """Return where the columns are that an UPDATE of a row with the same key assigns to."""
    left_out = {*schema.key, *fixed.generated, *fixed.identity}
    return [index for index, name in enumerate(schema.column_names) if name not in left_out]


def _identities(schema: TableSchema, fixed: Unassignable) -> list[int]:
    return [index for index, name in enumerate(schema.column_names) if name in fixed.identity and name not in schema.key]


def _same_key(staging: Staging, schema: TableSchema) -> sql.Composed:
    return _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier("t", name), staging.cell(index))
        for name, index in zip(schema.key, schema.key_indexes, strict=True)
    )


def delete_by_key(target: TableId, staging: Staging, schema: TableSchema) -> sql.Composed:
    return sql.SQL("DELETE FROM {} AS t\nUSING {} AS s\nWHERE s.op = 'd' AND {}").format(
        table(target), staging.table, _same_key(staging, schema)
    )


def upsert(target: TableId, staging: Staging, schema: TableSchema, fixed: Unassignable = ASSIGNABLE) -> sql.Composed:
    """Insert whole rows, or let them replace the rows with their keys.

    The alias keeps a table named `excluded` apart from the rows that conflict. Rows are written in the key's order, since
    neighbours in the index are mostly neighbours in the table: this saves a fifth of the time.
    """
    indexes = insertable(schema, fixed)
    return sql.SQL(
        "INSERT INTO {} AS t ({})\nOVERRIDING SYSTEM VALUE\nSELECT {}\n"
        "FROM {} AS s WHERE s.op = 'u' ORDER BY {}\nON CONFLICT ({}) {}"
    ).format(
        table(target),
        names(_names_at(schema, indexes)),
        staging.cells(indexes),
        staging.table,
        staging.cells(schema.key_indexes),
        names(schema.key),
        _when_key_exists(schema, fixed),
    )


def _when_key_exists(schema: TableSchema, fixed: Unassignable) -> sql.Composable:
    assigned = _names_at(schema, _assigned(schema, fixed))
    if not assigned:
        return sql.SQL("DO NOTHING")
    assignments = _COMMA.join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in assigned)
    return sql.SQL("DO UPDATE SET {}").format(assignments)


def reinsert_with_identity(
    target: TableId, staging: Staging, schema: TableSchema, fixed: Unassignable
) -> sql.Composed | None:
    """Insert rows again whose GENERATED ALWAYS identity has another value by now, which no UPDATE may assign.

    Only the identity is new; the statement that follows writes the other columns. None when there is no such column.
    Columns that only the destination has get their defaults.
    """
    identities = _identities(schema, fixed)
    if not identities:
        return None
    indexes = insertable(schema, fixed)
    columns = names(_names_at(schema, indexes))
    changed = sql.SQL(" OR ").join(
        sql.SQL("{} IS DISTINCT FROM {}").format(sql.Identifier("t", schema.column_names[index]), staging.cell(index))
        for index in identities
    )
    values = _COMMA.join(
        staging.cell(index) if index in identities else sql.Identifier("t", schema.column_names[index]) for index in indexes
    )
    return sql.SQL(
        "WITH deleted ({0}) AS (\n    DELETE FROM {1} AS t USING {2} AS s\n"
        "    WHERE s.op IN ('u', 'p') AND {3} AND ({4})\n    RETURNING {5}\n)\n"
        "INSERT INTO {1} ({0})\nOVERRIDING SYSTEM VALUE\nSELECT {0} FROM deleted"
    ).format(columns, table(target), staging.table, _same_key(staging, schema), changed, values)


def insert_values(target: TableId, schema: TableSchema) -> sql.Composed:
    """Insert whole rows: the statement up to the rows, after which comes `on_conflict`."""
    return sql.SQL("INSERT INTO {} AS t ({})\nOVERRIDING SYSTEM VALUE\nVALUES").format(
        table(target), names(schema.column_names)
    )


def on_conflict(schema: TableSchema) -> sql.Composed:
    """Let inserted rows replace the rows that have their keys."""
    return sql.SQL("ON CONFLICT ({}) {}").format(names(schema.key), _when_key_exists(schema, ASSIGNABLE))


def delete_keys(target: TableId, schema: TableSchema) -> sql.Composed:
    """Delete the rows with these keys: the statement up to the list of keys."""
    return sql.SQL("DELETE FROM {} WHERE ({}) IN").format(table(target), names(schema.key))


def update_in_part(
    target: TableId, staging: Staging, schema: TableSchema, unsent: Collection[int], fixed: Unassignable = ASSIGNABLE
) -> sql.Composed | None:
    """Update rows of which some values were not sent; `unsent` are the columns where that happens in this batch.

    None when no column may be assigned to.
    """
    assigned = _assigned(schema, fixed)
    if not assigned:
        return None
    assignments = _COMMA.join(_assignment(staging, index, schema.column_names[index], index in unsent) for index in assigned)
    return sql.SQL("UPDATE {} AS t SET {}\nFROM {} AS s\nWHERE s.op = 'p' AND {}").format(
        table(target), assignments, staging.table, _same_key(staging, schema)
    )


def _assignment(staging: Staging, index: int, name: str, may_be_unsent: bool) -> sql.Composed:  # noqa: FBT001 - private
    if not may_be_unsent:
        return sql.SQL("{} = {}").format(sql.Identifier(name), staging.cell(index))
    return sql.SQL("{} = CASE substr(s.unchanged, {}, 1) WHEN '1' THEN {} ELSE {} END").format(
        sql.Identifier(name), sql.Literal(index + 1), sql.Identifier("t", name), staging.cell(index)
    )


def move(target: TableId, schema: TableSchema, old_key: Key, row: Row, fixed: Unassignable = ASSIGNABLE) -> sql.Composed:
    """Give one row another key, and new values to the columns that were sent.

    The values are literals: with parameters, a percent sign in a column's name would be read as a placeholder.
    """
    if fixed.identity:
        return _reinsert(target, schema, old_key, row, fixed)
    assignments = _COMMA.join(
        sql.SQL("{} = {}").format(sql.Identifier(column.name), typed(column, value))
        for column, value in zip(schema.columns, row, strict=True)
        if value is not UNCHANGED and column.name not in fixed.generated
    )
    return sql.SQL("UPDATE {} SET {}\nWHERE {}").format(table(target), assignments, _has_key(schema, old_key))


def _reinsert(target: TableId, schema: TableSchema, old_key: Key, row: Row, fixed: Unassignable) -> sql.Composed:
    """Delete the row and insert it with its new values: no UPDATE may assign an identity that is GENERATED ALWAYS."""
    indexes = insertable(schema, fixed)
    values = _COMMA.join(
        sql.Identifier(schema.column_names[index]) if row[index] is UNCHANGED else typed(schema.columns[index], row[index])
        for index in indexes
    )
    return sql.SQL(
        "WITH deleted ({0}) AS (\n    DELETE FROM {1} WHERE {2} RETURNING {3}\n)\n"
        "INSERT INTO {1} ({0})\nOVERRIDING SYSTEM VALUE\nSELECT {0} FROM deleted"
    ).format(names(_names_at(schema, indexes)), table(target), _has_key(schema, old_key), values)


def _has_key(schema: TableSchema, key: Key) -> sql.Composed:
    return _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier(name), typed(schema.columns[index], value))
        for name, index, value in zip(schema.key, schema.key_indexes, key, strict=True)
    )


def insert_copies(target: TableId, staging: Staging, schema: TableSchema, fixed: Unassignable = ASSIGNABLE) -> sql.Composed:
    """Insert each staged row `copies` times, into a table without a key."""
    indexes = insertable(schema, fixed)
    return sql.SQL(
        "INSERT INTO {} ({})\nOVERRIDING SYSTEM VALUE\nSELECT {}\n"
        "FROM {} AS s, generate_series(1, s.copies)\nWHERE s.op = 'u'"
    ).format(table(target), names(_names_at(schema, indexes)), staging.cells(indexes), staging.table)


def delete_copies(target: TableId, staging: Staging, schema: TableSchema, fixed: Unassignable = ASSIGNABLE) -> sql.Composed:
    """Delete `copies` rows equal to each staged row, from a table without a key.

    Rows are compared by their text: not every type has an equality operator, and some operators call different values
    equal. A ctid alone would identify a row in each partition.
    """
    indexes = insertable(schema, fixed)
    target_row = _COMMA.join(sql.Identifier("t", name) for name in _names_at(schema, indexes))
    return sql.SQL(
        "DELETE FROM {0} WHERE (tableoid, ctid) IN (\n"
        '    SELECT "relation", "place" FROM (\n'
        '        SELECT t.tableoid AS "relation", t.ctid AS "place", s.copies,\n'
        "               row_number() OVER (PARTITION BY s.ctid ORDER BY t.tableoid, t.ctid) AS number\n"
        "        FROM {1} AS s JOIN {0} AS t ON ROW({2})::text = ROW({3})::text\n"
        "        WHERE s.op = 'd'\n"
        "    ) AS found WHERE number <= copies)"
    ).format(table(target), staging.table, target_row, staging.cells(indexes))


def create_load_staging(staging: str, target: TableId) -> sql.Composed:
    """Create a temporary table like the target, for copied rows that cannot go straight into it."""
    return sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT * FROM {} WITH NO DATA").format(
        sql.Identifier(staging), table(target)
    )


def insert_loaded(
    staging: str, target: TableId, schema: TableSchema, fixed: Unassignable = ASSIGNABLE, *, replacing: bool = True
) -> sql.Composed:
    """Insert rows of a table like the target. With `replacing`, each replaces the row that has its key."""
    columns = names(_names_at(schema, insertable(schema, fixed)))
    statement = sql.SQL("INSERT INTO {0} AS t ({1})\nOVERRIDING SYSTEM VALUE\nSELECT {1} FROM pg_temp.{2}").format(
        table(target), columns, sql.Identifier(staging)
    )
    if not replacing:
        return statement
    return sql.SQL("{}\nON CONFLICT ({}) {}").format(statement, names(schema.key), _when_key_exists(schema, fixed))


def delete_reidentified(staging: str, target: TableId, schema: TableSchema, fixed: Unassignable) -> sql.Composed | None:
    """Delete rows whose GENERATED ALWAYS identity is another one among the loaded rows. None without such a column."""
    identities = _names_at(schema, _identities(schema, fixed))
    if not identities:
        return None
    changed = sql.SQL(" OR ").join(
        sql.SQL("{} IS DISTINCT FROM {}").format(sql.Identifier("t", name), sql.Identifier("s", name)) for name in identities
    )
    return sql.SQL("DELETE FROM {} AS t USING pg_temp.{} AS s WHERE {} AND ({})").format(
        table(target), sql.Identifier(staging), _same_names(schema.key), changed
    )


def delete_others(staging: str, target: TableId, schema: TableSchema) -> sql.Composed:
    """Delete the rows whose keys a table like the target does not hold."""
    return sql.SQL("DELETE FROM {} AS t WHERE NOT EXISTS (SELECT FROM pg_temp.{} AS s WHERE {})").format(
        table(target), sql.Identifier(staging), _same_names(schema.key)
    )


def _same_names(columns: Iterable[str]) -> sql.Composed:
    return _AND.join(sql.SQL("{} = {}").format(sql.Identifier("s", name), sql.Identifier("t", name)) for name in columns)
