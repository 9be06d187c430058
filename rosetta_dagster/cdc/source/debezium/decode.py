"""Turns Debezium's envelopes into changes."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from rosetta_dagster.cdc.errors import BrokenTable, ChangeUndecodable
from rosetta_dagster.cdc.event import Change, Operation, Row, UnreadableTable, Value, key_of
from rosetta_dagster.cdc.schema import Column, Identity, TableId, TableSchema, columns_named, key_among
from rosetta_dagster.cdc.source.debezium.positions import PositionCounter
from rosetta_dagster.cdc.source.debezium.values import converter_for

#: One event as Debezium's JSON converter prints it, parsed.
Envelope: TypeAlias = dict[str, Any]
#: The columns of a row before or after a change.
Image: TypeAlias = dict[str, Any] | None
#: Reads what the catalog says of a table now; None when the table is gone.
ReadSchema: TypeAlias = Callable[[TableId], TableSchema | None]

_OPERATIONS = {"c": Operation.INSERT, "u": Operation.UPDATE, "d": Operation.DELETE, "t": Operation.TRUNCATE}


class TableDecoder:
    """Reads the rows of one table as long as its columns stay the same."""

    def __init__(self, schema: TableSchema, placeholder: str) -> None:
        self.schema = schema
        self.names = schema.column_names
        self._converters = [converter_for(column, placeholder) for column in schema.columns]
        #: Only the key is logged of an old row, unless all of it is. For another column that may not be NULL Debezium makes
        #: up a value, which may be one that it does not tell exactly.
        self._old_converters = [
            convert if schema.identity is Identity.FULL or not schema.key or column.name in schema.key else _nothing
            for column, convert in zip(schema.columns, self._converters, strict=True)
        ]

    def rows(self, before: Image, after: Image) -> tuple[Row | None, Row | None]:
        """The old row and the new one. `ChangeUndecodable` when they are not of this table, as it is known here."""
        try:
            old_row = _row(self._old_converters, before) if before else None
            row = _row(self._converters, after) if after else None
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
            # Without the cause, which may quote the value.
            raise _unfit(self.schema.id) from None
        if old_row is not None and None in key_of(self.schema, old_row):
            # No key holds NULL: the table is told by other columns by now.
            raise _unfit(self.schema.id)
        return old_row, row


def _nothing(_: object) -> None:
    return None


def _row(converters: list[Callable[[Any], Value]], image: dict[str, Any]) -> Row:
    """The row of a before or after image that has just the columns of these converters, in their order."""
    return tuple(
        [None if value is None else convert(value) for convert, value in zip(converters, image.values(), strict=True)]
    )


class Decoder:
    """Turns the envelopes of one stream into changes, in order. Tables whose columns changed are read anew."""

    def __init__(
        self,
        schemas: dict[TableId, TableSchema],
        held_schemas: dict[TableId, TableSchema],
        read_schema: ReadSchema,
        positions: PositionCounter,
        placeholder: str,
    ) -> None:
        """The schemas are those of now; the held ones, of tables that have them, those where the stream begins."""
        self._read_schema = read_schema
        self._positions = positions
        self._placeholder = placeholder
        self._before = {**schemas, **held_schemas}
        self._tables = {
            (table.namespace, table.name): TableDecoder(schema, placeholder) for table, schema in schemas.items()
        }
        #: What the catalog said of tables since the transaction was committed: read again, it tells no more of its changes.
        self._catalog: dict[TableId, TableSchema | None] = {}
        self._xid = 0
        #: By table and message: equal ones are one object, as the schemas of changes are.
        self._unreadable: dict[tuple[TableId, str], UnreadableTable] = {}

    def change(self, envelope: Envelope) -> Change:
        """The change that the envelope stands for. `ChangeUndecodable` when it does not fit its table."""
        source = envelope["source"]
        before, after = envelope.get("before"), envelope.get("after")
        xid, lsn = source["txId"], source["lsn"]
        if xid != self._xid:
            self._xid, self._catalog = xid, {}
        schema, old_row, row = self._rows(source, before, after)
        position = self._positions.position(xid, lsn, source["sequence"])
        return Change(position, xid, _OPERATIONS[envelope["op"]], schema, row, old_row)

    def unreadable(self, envelope: Envelope, error: ChangeUndecodable) -> Change:
        """The change that `change` has refused with this error, in its place."""
        source = envelope["source"]
        table = TableId(source["schema"], source["table"])
        schema = self._unreadable.setdefault((table, str(error)), _unreadable(table, error))
        position = self._positions.position(source["txId"], source["lsn"], source["sequence"])
        return Change(position, source["txId"], _OPERATIONS[envelope["op"]], schema, None, None)

    def _rows(self, source: dict[str, Any], before: Image, after: Image) -> tuple[TableSchema, Row | None, Row | None]:
        decoder, image = self._tables[source["schema"], source["table"]], after or before
        if image is not None and tuple(image) != decoder.names:
            table = TableId(source["schema"], source["table"])
            return self._rows_as(self._schema_of(table, tuple(image)), before, after)
        try:
            return decoder.schema, *decoder.rows(before, after)
        except ChangeUndecodable as unfit:
            # Types and keys change under the same names.
            table = TableId(source["schema"], source["table"])
            for schema in (self._schema_of(table, decoder.names), self._before[table]):
                with suppress(ChangeUndecodable):
                    return self._rows_as(schema, before, after)
            raise unfit from None

    def _rows_as(self, schema: TableSchema, before: Image, after: Image) -> tuple[TableSchema, Row | None, Row | None]:
        """The rows of the table as it looks from now on. What is known of it stays when they are not of such a table."""
        decoder = TableDecoder(schema, self._placeholder)
        rows = decoder.rows(before, after)
        self._tables[schema.id], self._before[schema.id] = decoder, schema
        return schema, *rows

    def _schema_of(self, table: TableId, names: tuple[str, ...]) -> TableSchema:
        """The table as it was when the change was logged: the catalog may be ahead of the stream by now."""
        known = self._before[table]
        if table not in self._catalog:
            self._catalog[table] = self._read_schema(table)
        current = self._catalog[table] or known
        columns = columns_named(names, known, current)
        unknown = [name for name, column in zip(names, columns, strict=True) if column is None]
        if unknown:
            raise ChangeUndecodable(
                f"Table {table} had columns that are in the catalog no more: {', '.join(unknown)}.",
                "They were added and dropped again before their changes were read. Resync the table.",
            )
        return _schema_with(current, known, tuple(column for column in columns if column is not None))


def _unreadable(table: TableId, error: ChangeUndecodable) -> UnreadableTable:
    error.broken = BrokenTable(table)
    return UnreadableTable(id=table, columns=(), key=(), identity=Identity.NOTHING, error=error)


def _unfit(table: TableId) -> ChangeUndecodable:
    return ChangeUndecodable(
        f"A change of table {table} does not fit the columns that the catalog tells of.",
        "The table was altered more than once before the change was read. Resync it.",
    )


def _schema_with(current: TableSchema, known: TableSchema, columns: tuple[Column, ...]) -> TableSchema:
    if columns == current.columns:
        return current
    key = key_among(columns, current) or key_among(columns, known)
    return TableSchema(id=current.id, columns=columns, key=key, identity=current.identity, comment=current.comment)


def joined_key_change(deleted: Change, inserted: Change) -> Change | None:
    """The update that Debezium tells as a delete and an insert, since it changed the key; None when it is none.

    Both halves carry the LSN of the one WAL record that the update wrote, and no two statements share one.
    """
    if not (
        deleted.operation is Operation.DELETE
        and inserted.operation is Operation.INSERT
        and deleted.table.id == inserted.table.id
        and deleted.position.lsn == inserted.position.lsn
        and deleted.xid == inserted.xid
    ):
        return None
    for half in (deleted, inserted):
        if isinstance(half.table, UnreadableTable):
            return Change(deleted.position, deleted.xid, Operation.UPDATE, half.table, None, None)
    if deleted.table is not inserted.table:
        return None
    return inserted._replace(position=deleted.position, operation=Operation.UPDATE, old_row=deleted.old_row)
