"""Decides which columns a table had when Debezium's event of it was logged, and reads its rows by them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from rosetta_dagster.cdc.change.event import Row, UnreadableTable, Value, key_of
from rosetta_dagster.cdc.change.schema import Column, TableSchema, columns_named, key_among
from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.source.debezium.events import UNKNOWN_TYPE, Image, Layout
from rosetta_dagster.cdc.source.debezium.values import is_told_alike, reader_for
from rosetta_dagster.cdc.table_id import TableId

#: Reads what the catalog says of tables now; those that are gone are missing.
ReadSchemas: TypeAlias = Callable[[Sequence[TableId]], Mapping[TableId, TableSchema]]


class TableDecoder:
    """Reads the rows of one table as long as they are laid out the same."""

    def __init__(self, schema: TableSchema, layout: Layout, placeholder: str) -> None:
        """The layout has the schema's columns, by name. `ChangeUndecodable` when their types are others."""
        if not all(map(_may_be, schema.columns, layout.types)):
            raise _unfit(schema.id)
        self.schema = schema
        self.layout = layout
        readers = [reader_for(column, form, placeholder) for column, form in zip(schema.columns, layout.forms, strict=True)]
        self._readers = [(index, read) for index, read in enumerate(readers) if read is not None]

    @property
    def converts(self) -> bool:
        """Whether a row is more than its image."""
        return bool(self._readers)

    def row(self, image: list[Value]) -> Row:
        """The row after a change. `ChangeUndecodable` when it is not of this table, as it is known here."""
        values = image.copy()
        try:
            for index, read in self._readers:
                value = values[index]
                if value.__class__ is bytes:
                    values[index] = read(value)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
            # Without the cause, which may quote the value.
            raise _unfit(self.schema.id) from None
        return tuple(values)

    def old_row(self, image: list[Value]) -> Row:
        """The row before a change. `ChangeUndecodable` as for `row`."""
        row = self.row(image)
        if None in key_of(self.schema, row):
            # No key holds NULL: the table is told by other columns by now.
            raise _unfit(self.schema.id)
        return row


#: The decoder by which rows were read, the row before the change and the row after it.
Decoded: TypeAlias = tuple[TableDecoder, Row | None, Row | None]


class Decoder:
    """Reads the rows of one stream's events, in order. Tables whose columns changed are read anew."""

    def __init__(
        self,
        schemas: dict[TableId, TableSchema],
        held_schemas: dict[TableId, TableSchema],
        read_schemas: ReadSchemas,
        placeholder: str,
    ) -> None:
        """The schemas are those of now; the held ones, of tables that have them, those where the stream begins."""
        self._read_schemas = read_schemas
        self._placeholder = placeholder
        #: What the catalog said last, and the tables that it has no more.
        self._current = dict(schemas)
        self._gone: set[TableId] = set()
        #: What tables looked like when they changed last.
        self._before = {**schemas, **held_schemas}
        self._decoders: dict[TableId, TableDecoder] = {}
        #: Tables that were looked up since the transaction was committed: again, the catalog tells no more of its changes.
        self._looked_up: set[TableId] = set()
        #: By table and message: equal ones are one object, as the schemas of changes are.
        self._unreadable: dict[tuple[TableId, str], UnreadableTable] = {}

    def look_up(self, tables: Sequence[TableId]) -> None:
        """Read what the catalog says of these tables now. To be asked for whenever Debezium has read a table anew.

        Types change under the same names, and what Debezium tells does not show it: a number has no more digits than before.
        """
        found = self._read_schemas(tables)
        self._gone = self._gone.union(tables).difference(found)
        for table, schema in found.items():
            # Changes of one batch are told apart by whether they have the same object.
            if schema != self._current[table]:
                self._current[table] = schema

    def begin(self) -> None:
        """What is read from now on is of another transaction."""
        self._looked_up = set()

    def rows(self, layout: Layout, before: Image, after: Image) -> Decoded:
        """The rows that an event tells of. `ChangeUndecodable` when they do not fit their table."""
        decoder = self._decoders.get(layout.table)
        try:
            if decoder is None or decoder.layout is not layout:
                return self._rows_as(self._schema_of(layout), layout, before, after)
            return _decoded(decoder, before, after)
        except ChangeUndecodable as unfit:
            return self._rows_again(layout, before, after, unfit)

    def schema_before(self, table: TableId) -> TableSchema:
        """What the table looked like when it changed last. A truncate tells nothing of it, and it may not be that of now."""
        return self._before[table]

    def unreadable(self, table: TableId, error: ChangeUndecodable) -> UnreadableTable:
        """What stands for the table in a change that `rows` has refused with this error."""
        return self._unreadable.setdefault((table, str(error)), UnreadableTable.because(table, error))

    def _rows_again(self, layout: Layout, before: Image, after: Image, unfit: ChangeUndecodable) -> Decoded:
        """The rows by what else the table may have been: types and keys change under the same names."""
        if layout.table not in self._looked_up:
            self._looked_up.add(layout.table)
            self.look_up([layout.table])
        for schema in (self._schema_of(layout), self._before[layout.table]):
            if schema.column_names == layout.columns:
                with suppress(ChangeUndecodable):
                    return self._rows_as(schema, layout, before, after)
        raise unfit from None

    def _rows_as(self, schema: TableSchema, layout: Layout, before: Image, after: Image) -> Decoded:
        """The rows of the table as it looks from now on. What is known of it stays when they are not of such a table."""
        decoder = TableDecoder(schema, layout, self._placeholder)
        decoded = _decoded(decoder, before, after)
        self._decoders[schema.id], self._before[schema.id] = decoder, schema
        return decoded

    def _schema_of(self, layout: Layout) -> TableSchema:
        """The table as it was when the change was logged: the catalog may be ahead of the stream by now."""
        known, current = self._before[layout.table], self._current[layout.table]
        columns = columns_named(layout.columns, known, current, is_gone=layout.table in self._gone)
        unknown = [name for name, column in zip(layout.columns, columns, strict=True) if column is None]
        if unknown:
            raise ChangeUndecodable(
                f"Table {layout.table} had columns that are in the catalog no more: {', '.join(unknown)}.",
                "They were added and dropped again before their changes were read. Resync the table.",
            )
        found = [column for column in columns if column is not None]
        if not all(column.number for column in found):
            # Values would be read as those of other columns.
            raise ChangeUndecodable(
                f"Columns of table {layout.table} were changed again before its changes were read.", "Resync the table."
            )
        return _schema_with(current, known, tuple(map(partial(_as_logged, current, known), found, layout.types)))


def _decoded(decoder: TableDecoder, before: Image, after: Image) -> Decoded:
    row = None if after is None else decoder.row(after)
    return decoder, None if before is None else decoder.old_row(before), row


def _may_be(column: Column, type_oid: int) -> bool:
    """Whether values of this type can be read as the column's."""
    return type_oid in (column.base_oid, UNKNOWN_TYPE) or is_told_alike(column, type_oid)


def _as_logged(current: TableSchema, known: TableSchema, column: Column, type_oid: int) -> Column:
    """The column with the type that it had when a change was logged: that of now, or the one that is known from before.

    How many digits or letters the type then allowed is not told: as many as it does now, if it is the same. Where it was
    neither type, values that are told alike are read as well.
    """
    numbered = [each for schema in (current, known) for each in schema.columns if each.number == column.number]
    states = [replace(each, name=column.name) for each in numbered]
    same = [each for each in states if type_oid in (each.base_oid, UNKNOWN_TYPE)]
    return (same or [each for each in states if _may_be(each, type_oid)] or states)[0]


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
