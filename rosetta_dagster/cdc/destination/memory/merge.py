"""Applies the steps of a batch to a table in memory, and follows what happened to its columns."""

from collections import Counter
from collections.abc import Sequence

from rosetta_dagster.cdc.change.batch import Merge, Move, Recount, Step, TableBatch, Truncate
from rosetta_dagster.cdc.change.event import UNCHANGED, Row
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy
from rosetta_dagster.cdc.destination.evolution import (
    AddColumn,
    ChangeType,
    RenameColumn,
    SchemaChange,
    raise_refused,
    schema_changes,
)
from rosetta_dagster.cdc.destination.memory.database import Table, Values
from rosetta_dagster.cdc.destination.memory.texts import verify
from rosetta_dagster.cdc.errors import SchemaChangeRefused


def apply(table: Table, batch: TableBatch) -> None:
    """Do what the batch says, in order."""
    for step in batch.steps:
        _do(table, batch.table, step)


def upsert(table: Table, schema: TableSchema, rows: Sequence[Row]) -> None:
    """Insert rows, or put them in the place of those that have their keys. A row that was not sent whole only updates."""
    present = table.by_key(schema.key)
    blank: Values = dict.fromkeys(table.columns)
    for row in rows:
        verify(schema, schema.columns, row)
        key = tuple(row[index] for index in schema.key_indexes)
        before = present.get(key)
        if before is not None or UNCHANGED not in row:
            present[key] = {**(before or blank), **table.values(schema, row)}
    table.rows = list(present.values())


def insert(table: Table, schema: TableSchema, rows: Sequence[Row]) -> None:
    """Add rows."""
    blank: Values = dict.fromkeys(table.columns)
    for row in rows:
        verify(schema, schema.columns, row)
        table.rows.append({**blank, **table.values(schema, row)})


def follow(table: Table, before: TableSchema, now: TableSchema, policy: SchemaPolicy) -> None:
    """Give the table the columns of now. `SchemaChangeRefused` when a change cannot be followed."""
    changes = schema_changes(before, now)
    raise_refused(changes, before, now, policy)
    _rename(table, now, changes)
    for change in changes:
        match change:
            case AddColumn(column):
                if column.name in table.columns:
                    raise _in_the_way(now, column.name)
                table.add_column(column)
            case ChangeType(column, _):
                table.columns[column.name] = column.type


def _rename(table: Table, now: TableSchema, changes: Sequence[SchemaChange]) -> None:
    names = {change.old: change.new for change in changes if isinstance(change, RenameColumn)}
    staying = table.columns.keys() - names.keys()
    if taken := sorted(staying & {*names.values()}):
        raise _in_the_way(now, taken[0])
    table.rename_columns(names)


def _in_the_way(schema: TableSchema, name: str) -> SchemaChangeRefused:
    return SchemaChangeRefused(
        f"The table for {schema.id} holds a column {name} already, as of one that was dropped.", "Resync the table."
    )


def _do(table: Table, schema: TableSchema, step: Step) -> None:
    match step:
        case Truncate():
            table.rows = []
        case Merge(rows, deleted):
            gone = set(deleted)
            if gone:
                table.rows = [row for key, row in table.by_key(schema.key).items() if key not in gone]
            upsert(table, schema, rows)
        case Move(old_key, row):
            _move(table, schema, old_key, row)
        case Recount(inserted, deleted):
            _remove(table, schema, deleted)
            insert(table, schema, [row for row, count in inserted for _ in range(count)])


def _move(table: Table, schema: TableSchema, old_key: Row, row: Row) -> None:
    present = table.by_key(schema.key)
    before = present.pop(old_key, None)
    if before is not None:
        after = {**before, **table.values(schema, row)}
        verify(schema, schema.columns, [after[name] for name in schema.column_names])
        present[tuple(after[name] for name in schema.key)] = after
    table.rows = list(present.values())


def _remove(table: Table, schema: TableSchema, deleted: Sequence[tuple[Row, int]]) -> None:
    left = Counter(dict(deleted))
    kept = []
    for values in table.rows:
        row = tuple(values[name] for name in schema.column_names)
        if left[row] > 0:
            left[row] -= 1
        else:
            kept.append(values)
    table.rows = kept
