"""Builds the statements that create, alter and read the tables of a PostgreSQL destination. Pure functions."""

from collections.abc import Iterable, Iterator, Sequence

from psycopg import sql

from rosetta_dagster.cdc.change.event import Value
from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.destination.postgres.catalog import View
from rosetta_dagster.cdc.table_id import TableId

_COMMA = sql.SQL(", ")


def table(target: TableId) -> sql.Composable:
    """Return the quoted name of a table."""
    return sql.Identifier(target.namespace, target.name)


def names(columns: Iterable[str]) -> sql.Composed:
    """Return a list of quoted names."""
    return _COMMA.join(map(sql.Identifier, columns))


def create_namespace(namespace: str) -> sql.Composed:
    return sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(namespace))


def create_table(target: TableId, schema: TableSchema) -> sql.Composed:
    """Create a table with the source's columns, types, NOT NULL and key; without defaults and other constraints."""
    parts: list[sql.Composable] = [column_definition(column) for column in schema.columns]
    if schema.key:
        parts.append(sql.SQL("PRIMARY KEY ({})").format(names(schema.key)))
    body = sql.SQL(",\n    ").join(parts)
    return sql.SQL("CREATE TABLE IF NOT EXISTS {} (\n    {}\n)").format(table(target), body)


def comments(target: TableId, schema: TableSchema) -> Iterator[sql.Composed]:
    """Copy the comments that the source has. Where it has none, that of the destination stays."""
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
    """Add a column that the source has added. It is nullable here, since older rows may have no value for it.

    A constant value of older rows is given as a default and removed at once, which takes no time even for a large table.
    """
    added = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
        table(target), sql.Identifier(column.name), sql.SQL(column.type)
    )
    if column.fill_value is None:
        return added
    return sql.SQL("{} DEFAULT {}; ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT").format(
        added, typed(column, column.fill_value.encode()), table(target), sql.Identifier(column.name)
    )


def any_other_value(target: TableId, column: Column) -> sql.Composed:
    """Select whether any row has another value in the column than its older rows have at the source.

    Values are compared as text, since not every type has an equality operator.
    """
    return sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {}::text IS DISTINCT FROM {}::text)").format(
        table(target),
        sql.Identifier(column.name),
        typed(column, None if column.fill_value is None else column.fill_value.encode()),
    )


def rename_column(target: TableId, old: str, new: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table(target), sql.Identifier(old), sql.Identifier(new))


def change_type(target: TableId, column: Column) -> sql.Composed:
    """Change the type of a column. The server converts the values as the source did."""
    return sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}").format(
        table(target), sql.Identifier(column.name), sql.SQL(column.type)
    )


def change_type_of_nothing(target: TableId, column: Column) -> sql.Composed:
    """Change the type of a column of an empty table. Without values to convert, any type can become any other."""
    return change_type(target, column) + sql.SQL(" USING NULL::{}").format(sql.SQL(column.type))


def drop_not_null(target: TableId, name: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table(target), sql.Identifier(name))


def set_primary_key(target: TableId, other: str | None, key: Iterable[str]) -> sql.Composed:
    """Make these columns the primary key, in place of the constraint of that name when one is given."""
    drop = sql.SQL("") if other is None else sql.SQL("DROP CONSTRAINT {}, ").format(sql.Identifier(other))
    return sql.SQL("ALTER TABLE {} {}ADD PRIMARY KEY ({})").format(table(target), drop, names(key))


def drop_constraint(target: TableId, constraint: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table(target), sql.Identifier(constraint))


def change_type_under_views(target: TableId, column: Column, views: Sequence[View]) -> sql.Composed:
    """Change the type of a column that views use: drop them, and create them again with the definitions they have."""
    drops = [sql.SQL("DROP {} {};").format(_kind(view), table(view.id)) for view in reversed(views)]
    creates = [
        sql.SQL("CREATE {} {} AS {}").format(_kind(view), table(view.id), sql.SQL(view.definition.strip())) for view in views
    ]
    alter = sql.SQL("{};").format(change_type(target, column))
    return sql.SQL(" ").join([sql.SQL("BEGIN;"), *drops, alter, *creates, sql.SQL("COMMIT;")])


def _kind(view: View) -> sql.SQL:
    return sql.SQL("MATERIALIZED VIEW" if view.is_materialized else "VIEW")


def truncate(target: TableId) -> sql.Composed:
    return sql.SQL("TRUNCATE {}").format(table(target))


def copy_into(target: TableId, schema: TableSchema, *, binary: bool = False) -> sql.Composed:
    options = sql.SQL(" (FORMAT binary)" if binary else "")
    return sql.SQL("COPY {} ({}) FROM STDIN{}").format(table(target), names(schema.column_names), options)


def copy_keys_into(target: TableId, schema: TableSchema) -> sql.Composed:
    return sql.SQL("COPY {} ({}) FROM STDIN").format(table(target), names(schema.key))


def typed(column: Column, value: Value) -> sql.Composed:
    """Return a value's text, read by the server as the column's type."""
    text = value.decode() if isinstance(value, bytes) else None
    return sql.SQL("{}::text::{}").format(sql.Literal(text), sql.SQL(column.type))


def any_row(target: TableId) -> sql.Composed:
    return sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table(target))


def count_rows(target: TableId) -> sql.Composed:
    return sql.SQL("SELECT count(*) FROM {}").format(table(target))
