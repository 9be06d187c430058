"""Builds the statements that a Snowflake destination runs. Pure functions.

A batch goes through a staging table whose columns are C0, C1, … in the order of the source's columns, so that no column of
the user can clash with one of ours. STEP is the number of the step within the batch; OP is `u` to upsert, `p` to update in
part, `d` to delete, `m` to move to another key, and for a table without a key `k` to keep, `x` to keep as deleted.
UNCHANGED holds a digit for each column, 1 for a value that was not sent; COPIES counts equal rows of a table without a
key; K0, K1, … are the key before a move.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from rosetta_dagster.cdc.destination.snowflake.layout import Layout
from rosetta_dagster.cdc.destination.snowflake.names import quoted
from rosetta_dagster.cdc.destination.snowflake.types import Form, Target
from rosetta_dagster.cdc.table_id import TableId

#: The schema with Rosetta's own tables in the destination's database.
SCHEMA = "ROSETTA"

NOW = "CURRENT_TIMESTAMP()::TIMESTAMP_TZ(6)"

#: Without `NULL_IF = ()` Snowflake loads the text `\\N` as NULL, also from Parquet.
_FORMAT = (
    "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE USE_VECTORIZED_SCANNER = TRUE BINARY_AS_TEXT = FALSE "
    "NULL_IF = ())"
)

CREATE_SCHEMA = f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
CREATE_STAGE = f"CREATE STAGE IF NOT EXISTS {SCHEMA}.STAGE"


def create_namespace(namespace: str) -> str:
    return f"CREATE SCHEMA IF NOT EXISTS {quoted(namespace)}"


def create_table(layout: Layout) -> str:
    """Create a table with the source's columns, types and key. Snowflake records the key and does not enforce it."""
    parts = [
        f"{quoted(name)} "
        + constrained(target.spelled, is_required=index in layout.key, is_compared=layout.is_compared(index))
        for index, (name, target) in enumerate(zip(layout.columns, layout.types, strict=True))
    ]
    if layout.deleted_at is not None:
        parts.append(f"{quoted(layout.deleted_at)} TIMESTAMP_TZ(6)")
    if layout.key:
        parts.append(f"PRIMARY KEY ({_listed(layout.columns[index] for index in layout.key)})")
    kind = "TRANSIENT TABLE" if layout.transient else "TABLE"
    cluster = f" CLUSTER BY ({_listed(layout.cluster_by)})" if layout.cluster_by else ""
    retention = "" if layout.retention_days is None else f" DATA_RETENTION_TIME_IN_DAYS = {layout.retention_days}"
    return f"CREATE {kind} IF NOT EXISTS {quoted(*layout.id)} (\n    {_lines(parts)}\n){cluster}{retention}"


def constrained(type_: str, *, is_required: bool = False, is_compared: bool = False) -> str:
    """Return a column's type with its constraints. A compared text ignores the default collation of the account.

    >>> constrained("VARCHAR", is_required=True, is_compared=True)
    "VARCHAR NOT NULL COLLATE ''"
    """
    required = " NOT NULL" if is_required else ""
    return f"{type_}{required}" + (" COLLATE ''" if is_compared and type_.startswith("VARCHAR") else "")


def _staged_type(layout: Layout, index: int) -> str:
    return constrained(layout.types[index].staged_type, is_compared=layout.is_compared(index))


def comments(layout: Layout, table: str | None, columns: Sequence[str | None]) -> Iterator[str]:
    """The comments that the source has. Where it has none, that of the destination stays."""
    if table is not None:
        yield f"COMMENT ON TABLE {quoted(*layout.id)} IS {constant(table)}"
    for name, comment in zip(layout.columns, columns, strict=True):
        if comment is not None:
            yield f"COMMENT ON COLUMN {quoted(*layout.id, name)} IS {constant(comment)}"


def constant(text: str) -> str:
    """A string constant: Snowflake reads a backslash in it as an escape."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def add_column(table: TableId, name: str, type_: str, default: str | None = None) -> str:
    """Add a column that the source has added. A default gives older rows their value, by metadata alone.

    Any other value of older rows is written with the changes.
    """
    filled = "" if default is None else f" DEFAULT {default}"
    return f"ALTER TABLE {quoted(*table)} ADD COLUMN IF NOT EXISTS {quoted(name)} {type_}{filled}"


def default_of(target: Target, value: str | None) -> str | None:
    """Return a value of PostgreSQL as a constant of the column's type. None where the types could differ.

    >>> default_of(Target(type="NUMBER(10,0)", form=Form.INTEGER), "7"), default_of(Target(type="DATE", form=Form.DATE), "x")
    ('7', None)
    """
    if value is None:
        return None
    if target.form is Form.TEXT and target.type == "VARCHAR":
        return constant(value)
    if target.form is Form.BOOLEAN:
        return {"t": "TRUE", "f": "FALSE"}.get(value)
    is_number = target.form in (Form.INTEGER, Form.DECIMAL) and re.fullmatch(r"-?\d+(\.\d+)?", value)
    return value if is_number else None


def rename_column(table: TableId, old: str, new: str) -> str:
    return f"ALTER TABLE {quoted(*table)} RENAME COLUMN {quoted(old)} TO {quoted(new)}"


def change_type(table: TableId, name: str, type_: str) -> str:
    """Change a type in place. Snowflake supports more digits before the point, and longer texts."""
    return f"ALTER TABLE {quoted(*table)} ALTER COLUMN {quoted(name)} SET DATA TYPE {type_}"


def drop_not_null(table: TableId, name: str) -> str:
    return f"ALTER TABLE {quoted(*table)} ALTER COLUMN {quoted(name)} DROP NOT NULL"


def drop_column(table: TableId, name: str) -> str:
    return f"ALTER TABLE {quoted(*table)} DROP COLUMN IF EXISTS {quoted(name)}"


def truncate(layout: Layout) -> str:
    """Empty the table, or mark all of its rows. TRUNCATE itself would end the transaction."""
    if layout.deleted_at is None:
        return empty(layout.id)
    mark = quoted(layout.deleted_at)
    return f"UPDATE {quoted(*layout.id)} SET {mark} = {NOW} WHERE {mark} IS NULL"


def empty(table: TableId) -> str:
    return f"DELETE FROM {quoted(*table)}"


def any_row(table: TableId) -> str:
    return f"SELECT 1 FROM {quoted(*table)} LIMIT 1"


def count_rows(table: TableId, deleted_at: str | None) -> str:
    """Count rows. Snowflake answers from its partitions' metadata, without reading them."""
    marked = f" - COUNT({quoted(deleted_at)})" if deleted_at else ""
    return f"SELECT COUNT(*){marked} FROM {quoted(*table)}"


def staging_prefix(token: str) -> str:
    """Return the prefix of a pipeline's staging tables."""
    return f"{SCHEMA}.STAGED_{token}_"


def create_staging(staging: str, layout: Layout) -> str:
    """Create an empty staging table. It replaces one with other columns."""
    parts = ["STEP NUMBER(10,0)", "OP VARCHAR COLLATE ''", "UNCHANGED VARCHAR", "COPIES NUMBER(19,0)"]
    parts += [f"C{index} {_staged_type(layout, index)}" for index in range(len(layout.types))]
    parts += [f"K{number} {_staged_type(layout, index)}" for number, index in enumerate(layout.key)]
    return f"CREATE OR REPLACE TRANSIENT TABLE {staging} (\n    {_lines(parts)}\n) DATA_RETENTION_TIME_IN_DAYS = 0"


def empty_staging(staging: str) -> str:
    return f"TRUNCATE TABLE {staging}"


def drop_staging(staging: str) -> str:
    return f"DROP TABLE IF EXISTS {staging}"


def copy_into(table: str, path: str, *, purges: bool = True, forces: bool = False) -> str:
    """Load the files of a path, columns by name. A file that the table holds already is passed over unless forced.

    To match names without their case, Snowflake builds each row as one VARIANT, whose limit the whole row then has.
    """
    return (
        f"COPY INTO {table} FROM @{path}\n{_FORMAT}\n"
        "MATCH_BY_COLUMN_NAME = CASE_SENSITIVE ON_ERROR = ABORT_STATEMENT"
        f"{' PURGE = TRUE' if purges else ''}{' FORCE = TRUE' if forces else ''}"
    )


def remove(path: str) -> str:
    return f"REMOVE @{path}"


def create_key_staging(staging: str, layout: Layout) -> str:
    """Create a staging table for the key columns."""
    parts = [f"C{index} {_staged_type(layout, index)}" for index in layout.key]
    return f"CREATE OR REPLACE TRANSIENT TABLE {staging} (\n    {_lines(parts)}\n) DATA_RETENTION_TIME_IN_DAYS = 0"


def delete_others(layout: Layout, staging: str) -> str:
    """Delete all rows except those with a staged key."""
    table = quoted(*layout.id)
    keys = ", ".join(f"T.{quoted(layout.columns[index])}" for index in layout.key)
    same = " AND ".join(
        f"{layout.types[index].comparable(f'T.{name}')} = {layout.types[index].comparable(f'G.{name}')}"
        for index, name in ((index, quoted(layout.columns[index])) for index in layout.key)
    )
    return (
        f"DELETE FROM {table} AS T USING (\n"
        f"    SELECT {keys} FROM {table} AS T LEFT JOIN {staging} AS S ON {_same_key(layout)}\n"
        f"    WHERE S.C{layout.key[0]} IS NULL\n) AS G\nWHERE {same}"
    )


def fill(layout: Layout, staging: str, columns: Iterable[int]) -> str:
    """Give all rows the values that are staged for added columns."""
    assignments = ", ".join(f"{quoted(layout.columns[index])} = {_cell(layout, index)}" for index in columns)
    return f"UPDATE {quoted(*layout.id)} AS T SET {assignments}\nFROM {staging} AS S\nWHERE S.OP = 'f'"


def insert_staged(layout: Layout, staging: str) -> str:
    """Insert every staged row."""
    cells = ", ".join(target.read(f"S.C{index}") for index, target in enumerate(layout.types))
    return f"INSERT INTO {quoted(*layout.id)} ({_listed(layout.columns)})\nSELECT {cells}\nFROM {staging} AS S"


def merge(layout: Layout, staging: str, step: int, unsent: Collection[int], *, in_part: bool, deletes: bool) -> str:
    """Upsert, update in part and delete by key. `unsent` are the columns of which some value was not sent in this step."""
    whole = [f"{quoted(layout.columns[index])} = {_cell(layout, index)}" for index in layout.others]
    parts = [f"{quoted(layout.columns[index])} = {_masked(layout, index, unsent)}" for index in layout.others]
    mark = quoted(layout.deleted_at) if layout.deleted_at else ""
    clauses = [
        f"WHEN MATCHED AND S.OP = 'd' THEN {f'UPDATE SET {mark} = {NOW}' if mark else 'DELETE'}" if deletes else "",
        f"WHEN MATCHED AND S.OP = 'p' THEN UPDATE SET {', '.join(parts)}" if in_part and parts else "",
        _when_matched(whole, mark),
        f"WHEN NOT MATCHED AND S.OP = 'u' THEN INSERT ({_listed(layout.columns)}) VALUES ({_cells(layout)})",
    ]
    return (
        f"MERGE INTO {quoted(*layout.id)} AS T USING (SELECT * FROM {staging} WHERE STEP = {step}) AS S\n"
        f"ON {_same_key(layout)}\n" + "\n".join(clause for clause in clauses if clause)
    )


def _when_matched(assignments: list[str], mark: str) -> str:
    """Clear the deletion mark of a row that is inserted again."""
    every = [*assignments, f"{mark} = NULL"] if mark else assignments
    return f"WHEN MATCHED AND S.OP = 'u' THEN UPDATE SET {', '.join(every)}" if every else ""


def move(layout: Layout, staging: str, step: int, unsent: Collection[int]) -> list[str]:
    """Give rows another key, and new values to the columns that were sent."""
    table, at = quoted(*layout.id), f"S.STEP = {step} AND {_same_key(layout, 'K')}"
    values = [_masked(layout, index, unsent) for index in range(len(layout.columns))]
    if layout.deleted_at is None:
        assignments = ", ".join(f"{quoted(name)} = {value}" for name, value in zip(layout.columns, values, strict=True))
        return [f"UPDATE {table} AS T SET {assignments}\nFROM {staging} AS S\nWHERE {at}"]
    mark = quoted(layout.deleted_at)
    return [
        # The new key may be that of a row that is marked as deleted.
        delete_staged(layout, staging, step),
        (
            f"INSERT INTO {table} ({_listed(layout.columns)})\nSELECT {', '.join(values)}\n"
            f"FROM {table} AS T JOIN {staging} AS S ON {at}"
        ),
        f"UPDATE {table} AS T SET {mark} = {NOW}\nFROM {staging} AS S\nWHERE {at}",
    ]


def delete_staged(layout: Layout, staging: str, step: int) -> str:
    """Delete the rows with the keys of a step, marked ones too."""
    return f"DELETE FROM {quoted(*layout.id)} AS T USING {staging} AS S\nWHERE S.STEP = {step} AND {_same_key(layout)}"


def keep_copies(layout: Layout, staging: str, step: int) -> str:
    """Stage the rows that stay among the equals of deleted rows, for a table without a key.

    Snowflake has no name for one of several equal rows, so all of them are deleted and the others inserted again.
    """
    cells = [f"C{index}" for index in range(len(layout.columns))]
    staged = [target.comparable(target.read(cell)) for cell, target in zip(cells, layout.types, strict=True)]
    wanted = ", ".join(f"{value} AS {cell}" for value, cell in zip(staged, cells, strict=True))
    groups = ", ".join(str(number + 1) for number in range(len(cells)))
    same = " AND ".join(
        f"EQUAL_NULL({target.comparable(f'T.{quoted(name)}')}, S.{cell})"
        for name, target, cell in zip(layout.columns, layout.types, cells, strict=True)
    )
    partition = ", ".join(f"S.{cell}" for cell in cells)
    live = f" AND T.{quoted(layout.deleted_at)} IS NULL" if layout.deleted_at else ""
    kept = "IFF(PLACE > COPIES, 'k', 'x')" if layout.deleted_at else "'k'"
    only = "" if layout.deleted_at else "\nWHERE PLACE > COPIES"
    return (
        f"INSERT INTO {staging} (STEP, OP, {', '.join(cells)})\n"
        f"SELECT {step}, {kept}, {', '.join(cells)} FROM (\n"
        f"    SELECT {partition}, S.COPIES, ROW_NUMBER() OVER (PARTITION BY {partition} ORDER BY S.COPIES) AS PLACE\n"
        f"    FROM (SELECT {wanted}, SUM(COPIES) AS COPIES FROM {staging}\n"
        f"          WHERE STEP = {step} AND OP = 'd' GROUP BY {groups}) AS S\n"
        f"    JOIN {quoted(*layout.id)} AS T ON {same}{live}\n"
        f") AS FOUND{only}"
    )


def delete_copies(layout: Layout, staging: str, step: int) -> str:
    """Delete every row that equals a deleted one."""
    same = " AND ".join(
        f"EQUAL_NULL({target.comparable(f'T.{quoted(name)}')}, {target.comparable(target.read(f'S.C{index}'))})"
        for index, (name, target) in enumerate(zip(layout.columns, layout.types, strict=True))
    )
    live = f" AND T.{quoted(layout.deleted_at)} IS NULL" if layout.deleted_at else ""
    return (
        f"DELETE FROM {quoted(*layout.id)} AS T USING {staging} AS S\nWHERE S.STEP = {step} AND S.OP = 'd'{live} AND {same}"
    )


def insert_copies(layout: Layout, staging: str, step: int) -> str:
    """Insert the new rows of a table without a key, and again those that stay."""
    columns, values = list(layout.columns), [target.read(f"S.C{index}") for index, target in enumerate(layout.types)]
    ops = "'u', 'k'"
    if layout.deleted_at is not None:
        columns.append(layout.deleted_at)
        values.append(f"IFF(S.OP = 'x', {NOW}, NULL)")
        ops = "'u', 'k', 'x'"
    return (
        f"INSERT INTO {quoted(*layout.id)} ({_listed(columns)})\nSELECT {', '.join(values)}\n"
        f"FROM {staging} AS S WHERE S.STEP = {step} AND S.OP IN ({ops})"
    )


def _cell(layout: Layout, index: int) -> str:
    return layout.types[index].read(f"S.C{index}")


def _cells(layout: Layout) -> str:
    return ", ".join(_cell(layout, index) for index in range(len(layout.columns)))


def _masked(layout: Layout, index: int, unsent: Collection[int]) -> str:
    """Return the new value, or the old one where none was sent. NULL is a value, so COALESCE does not serve."""
    if index not in unsent:
        return _cell(layout, index)
    return f"IFF(SUBSTR(S.UNCHANGED, {index + 1}, 1) = '1', T.{quoted(layout.columns[index])}, {_cell(layout, index)})"


def _same_key(layout: Layout, prefix: str = "C") -> str:
    """Return the condition that a row has the staged key; with `K`, the key before a move."""
    return " AND ".join(
        _equal(layout, index, f"S.C{index}" if prefix == "C" else f"S.K{number}") for number, index in enumerate(layout.key)
    )


def _equal(layout: Layout, index: int, staged: str) -> str:
    target = layout.types[index]
    own = target.comparable(f"T.{quoted(layout.columns[index])}")
    return f"{own} = {target.comparable(target.read(staged))}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def _lines(parts: Sequence[str]) -> str:
    return ",\n    ".join(parts)


def describe_table(table: TableId) -> str:
    """Describe a table's columns. INFORMATION_SCHEMA leaves out the precision of times, and needs a warehouse."""
    return f"DESC TABLE {quoted(*table)}"


def show_schemas(start: str) -> str:
    """List the schemas whose name begins so. SHOW needs no warehouse, unlike INFORMATION_SCHEMA."""
    return f"SHOW TERSE SCHEMAS STARTS WITH {constant(start)}"


def show_tables(namespace: str, start: str) -> str:
    """List the tables of a schema whose name begins so, with their number of rows."""
    return f"SHOW TABLES IN SCHEMA {quoted(namespace)} STARTS WITH {constant(start)}"


def show_views(namespace: str, start: str) -> str:
    """List the views of a schema whose name begins so, with their comments."""
    return f"SHOW VIEWS IN SCHEMA {quoted(namespace)} STARTS WITH {constant(start)}"
