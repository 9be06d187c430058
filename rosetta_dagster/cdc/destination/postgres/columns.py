"""Decides how the columns of a PostgreSQL destination's table follow those of the source, and runs the statements."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rosetta_dagster.cdc.change.schema import Column, TableSchema, missing_columns
from rosetta_dagster.cdc.destination.evolution import (
    AddColumn,
    ChangeType,
    DropColumn,
    DropNotNull,
    RenameColumn,
    SchemaChange,
    schema_changes,
    widens,
)
from rosetta_dagster.cdc.destination.postgres import sql
from rosetta_dagster.cdc.destination.postgres.catalog import Connection, column_types, not_null_columns, views_on
from rosetta_dagster.cdc.errors import SchemaChangeRefused
from rosetta_dagster.cdc.table_id import TableId

#: A column's name between its old one and its new one.
_RENAMED = "rosetta renames this "


def follow(connection: Connection, target: TableId, changes: Sequence[SchemaChange]) -> None:
    """Make the changes that are still to be made. A person may have made some already."""
    if not changes:
        return
    types = column_types(connection, target)
    _rename(connection, target, types, [change for change in changes if isinstance(change, RenameColumn)])
    for change in changes:
        match change:
            case DropColumn(name) | DropNotNull(name) if name in types:
                connection.execute(sql.drop_not_null(target, name))
            case ChangeType(column, _) if _has_to_change(types.get(column.name, column.type), column.type):
                _refuse_views(connection, target, column)
                connection.execute(sql.change_type(target, column))
            case AddColumn(column) if column.name not in types:
                connection.execute(sql.add_column(target, column))
            case AddColumn(column) if types[column.name] != column.type or _differs(connection, target, column):
                raise _name_taken(target, column.name)


def reshape(connection: Connection, target: TableId, schema: TableSchema, before: TableSchema | None) -> None:
    """Give an empty table the source's columns. Columns that the source has dropped stay, and become nullable.

    `before` is the schema that the table was copied with last; None for a first copy. Only types that have changed at the
    source since are changed: a table that somebody created with other types keeps them.
    """
    types = column_types(connection, target)
    changes = schema_changes(before or schema, schema)
    renames = [change for change in changes if isinstance(change, RenameColumn) and change.old in types]
    _rename(connection, target, types, [*renames, *_making_way(types, renames)])
    for column in missing_columns(list(types), schema):
        connection.execute(sql.add_column(target, replace(column, fill_value=None)))
    old_types = {column.number: column.type for column in before.columns} if before else {}
    for column in schema.columns:
        was = column.type if before is None else old_types.get(column.number)
        if was != column.type != types.get(column.name, column.type):
            _refuse_views(connection, target, column)
            connection.execute(sql.change_type_of_nothing(target, column))


def drop_not_nulls(connection: Connection, target: TableId, schema: TableSchema, *, is_copied_again: bool) -> None:
    """Let columns be NULL that are nullable at the source, and those that a source has dropped since the last copy."""
    required = {column.name for column in schema.columns if column.not_null}
    for name, has_default in not_null_columns(connection, target).items():
        is_extra = name not in schema.column_names
        if name not in required and (not is_extra or (is_copied_again and not has_default)):
            connection.execute(sql.drop_not_null(target, name))


def _refuse_views(connection: Connection, target: TableId, column: Column) -> None:
    """Raise `SchemaChangeRefused` when views use a column whose type has to change: PostgreSQL does not allow that."""
    views = views_on(connection, target, column.name)
    if views:
        raise SchemaChangeRefused(
            f"Column {column.name} of table {target} has to become {column.type}, but "
            f"{', '.join(f'view {view.id}' for view in views)} of the destination uses it.",
            f"Run there: {sql.change_type_under_views(target, column, views).as_string()} Then resync the table.",
        )


def _name_taken(target: TableId, name: str) -> SchemaChangeRefused:
    return SchemaChangeRefused(
        f"A column of the source is called {name} now, but table {target} of the destination already has a column {name}, "
        "such as one that was dropped at the source.",
        "Resync the table.",
    )


def _staying(names: Iterable[str], renames: Iterable[RenameColumn]) -> set[str]:
    """Return the names that these renames leave alone."""
    return set(names) - {rename.old for rename in renames}


def _making_way(names: Iterable[str], renames: Sequence[RenameColumn]) -> list[RenameColumn]:
    """Rename the columns whose names are taken to the names that become free. Each rename takes one and frees one.

    The table is empty, so it makes no difference which column gets which name, and an added column may have found one of its
    name that was dropped at the source.
    """
    taken = {rename.new for rename in renames} & _staying(names, renames)
    free = {rename.old for rename in renames} - {rename.new for rename in renames}
    return [RenameColumn(name, new) for name, new in zip(sorted(taken), sorted(free), strict=False)]


def _rename(connection: Connection, target: TableId, types: dict[str, str], renames: Sequence[RenameColumn]) -> None:
    """Rename columns, which may take each other's names. Updates `types` with them."""
    left = [rename for rename in renames if rename.old in types]
    taken = _staying(types, left)
    moved = {rename.new: types.pop(rename.old) for rename in left}
    for number, rename in enumerate(left):
        if rename.new in taken:
            raise _name_taken(target, rename.new)
        connection.execute(sql.rename_column(target, rename.old, f"{_RENAMED}{number}"))
    for number, rename in enumerate(left):
        connection.execute(sql.rename_column(target, f"{_RENAMED}{number}", rename.new))
    types |= moved


def _differs(connection: Connection, target: TableId, column: Column) -> bool:
    """Return whether any row has another value in the column than older rows have at the source."""
    return connection.execute(sql.any_other_value(target, column)).fetchone() == (True,)


def _has_to_change(present: str, wanted: str) -> bool:
    """Return whether a column's type has to change. It may have been widened ahead, to a third type that holds more."""
    return present != wanted and (widens(present, wanted) or not widens(wanted, present))
