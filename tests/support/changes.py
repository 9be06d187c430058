"""Makes the schemas and changes that the tests are about."""

from dataclasses import replace
from typing import TypeAlias

from rosetta_dagster.cdc.change.columns import ChangeColumns, Form, Kind
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Key, Operation, Row, Unchanged, UnreadableTable
from rosetta_dagster.cdc.change.position import Position
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.errors import TerminalError
from rosetta_dagster.cdc.table_id import TableId

#: A value as a test writes it.
Text: TypeAlias = str | None | Unchanged

SOMEWHERE = Position(1, 1, 0)


def column(name: str, sql_type: str = "text", *, oid: int = 25, not_null: bool = False, number: int = 0) -> Column:
    return Column(name=name, type=sql_type, type_oid=oid, base_oid=oid, not_null=not_null, number=number)


def table(
    *names: str, key: tuple[str, ...] = ("id",), identity: Identity = Identity.KEY, name: str = "items"
) -> TableSchema:
    columns = tuple(column(each, not_null=each in key, number=number) for number, each in enumerate(names, 1))
    return TableSchema(id=TableId("public", name), columns=columns, key=key, identity=identity)


def only(schema: TableSchema, *names: str) -> TableSchema:
    """The table after the other columns were dropped."""
    by_name = {column.name: column for column in schema.columns}
    return replace(schema, columns=tuple(by_name[name] for name in names))


def unreadable(schema: TableSchema, error: TerminalError) -> UnreadableTable:
    """What stands for the table in a change that cannot be read."""
    return UnreadableTable(id=schema.id, columns=(), key=(), identity=Identity.NOTHING, error=error)


def row(*texts: Text) -> Row:
    return tuple(text.encode() if isinstance(text, str) else text for text in texts)


def key_row(schema: TableSchema, key: Key) -> Row:
    """What PostgreSQL logs of an old row under REPLICA IDENTITY DEFAULT: only the key."""
    values = dict(zip(schema.key_indexes, key, strict=True))
    return tuple(values.get(index) for index in range(len(schema.columns)))


def insert(schema: TableSchema, *texts: Text, at: Position = SOMEWHERE, xid: int = 1) -> Change:
    return Change(*at, xid, Operation.INSERT, schema, row(*texts), None)


def update(schema: TableSchema, *texts: Text, old: Row | None = None, at: Position = SOMEWHERE, xid: int = 1) -> Change:
    return Change(*at, xid, Operation.UPDATE, schema, row(*texts), old)


def rekey(schema: TableSchema, old_key: tuple[str, ...], *texts: Text) -> Change:
    """An update that changed the key."""
    return update(schema, *texts, old=key_row(schema, row(*old_key)))


def delete(schema: TableSchema, *key: str, at: Position = SOMEWHERE, xid: int = 1) -> Change:
    """A delete of which only the key was logged."""
    return Change(*at, xid, Operation.DELETE, schema, None, key_row(schema, row(*key)))


def delete_whole(schema: TableSchema, *texts: Text) -> Change:
    """A delete of which the whole row was logged."""
    return Change(*SOMEWHERE, 1, Operation.DELETE, schema, None, row(*texts))


def truncate(schema: TableSchema) -> Change:
    return Change(*SOMEWHERE, 1, Operation.TRUNCATE, schema, None, None)


def columns_of(*changes: Change) -> ChangeColumns:
    """The same changes as columns, in one transaction; their positions are lost."""
    columns = ChangeColumns()
    columns.begin(1, 1)
    kinds: dict[tuple[Operation, int, Form], Kind] = {}
    for change in changes:
        form, kept = _kept(change)
        known = change.operation, id(change.table), form
        columns.kinds.append(kinds.setdefault(known, Kind(change.operation, change.table, form)))
        columns.kept.append(kept)
        columns.lsns.append(bytes(8))
    return columns


def _kept(change: Change) -> tuple[Form, object]:
    if change.row is None:
        return (Form.NOTHING, None) if change.old_row is None else (Form.OLD_ROW, change.old_row)
    if change.old_row is not None:
        return Form.BOTH, (change.old_row, change.row)
    return (Form.PARTIAL if UNCHANGED in change.row else Form.WHOLE), change.row
