"""Decides which columns a table had when Debezium's event was logged, and reads the event's rows by them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from rosetta_dagster.cdc.change.event import Row, UnreadableTable, Value, key_of
from rosetta_dagster.cdc.change.schema import Column, TableSchema, columns_named, key_among
from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.source.debezium.events import UNKNOWN_TYPE, Image, Layout
from rosetta_dagster.cdc.source.debezium.values import has_same_form, reader_for
from rosetta_dagster.cdc.table_id import TableId

#: Reads schemas from the catalog. Tables that no longer exist are missing in the result.
ReadSchemas: TypeAlias = Callable[[Sequence[TableId]], Mapping[TableId, TableSchema]]


class TableDecoder:
    """Reads the rows of one table while their layout stays the same."""

    def __init__(self, schema: TableSchema, layout: Layout, placeholder: str) -> None:
        """The layout has the schema's columns, by name. Raise `ChangeUndecodable` when it has other types."""
        if not all(map(_may_be, schema.columns, layout.types)):
            raise _unfit(schema.id)
        self.schema = schema
        self.layout = layout
        readers = [reader_for(column, form, placeholder) for column, form in zip(schema.columns, layout.forms, strict=True)]
        self._readers = [(index, read) for index, read in enumerate(readers) if read is not None]

    @property
    def converts(self) -> bool:
        """Whether a row differs from its image."""
        return bool(self._readers)

    def row(self, image: list[Value]) -> Row:
        """Return the new row of a change. Raise `ChangeUndecodable` when it does not fit the schema."""
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
        """Return the old row of a change. Raise `ChangeUndecodable` as `row` does."""
        row = self.row(image)
        if None in key_of(self.schema, row):
            # No key has a NULL: the table has another key by now.
            raise _unfit(self.schema.id)
        return row


#: The decoder that read the rows, the old row and the new row.
Decoded: TypeAlias = tuple[TableDecoder, Row | None, Row | None]


class Decoder:
    """Reads the rows of one stream's events, in order. It reads a table's schema again when its columns changed."""

    def __init__(
        self,
        schemas: dict[TableId, TableSchema],
        held_schemas: dict[TableId, TableSchema],
        read_schemas: ReadSchemas,
        placeholder: str,
    ) -> None:
        """`schemas` are the tables as they are now, `held_schemas` as they were when the stream begins."""
        self._read_schemas = read_schemas
        self._placeholder = placeholder
        #: The schemas as last read from the catalog, and the tables that no longer exist.
        self._current = dict(schemas)
        self._gone: set[TableId] = set()
        #: The schemas of the last changes.
        self._before = {**schemas, **held_schemas}
        self._decoders: dict[TableId, TableDecoder] = {}
        #: Tables that were looked up during this transaction. Another look-up would not help with the transaction's changes.
        self._looked_up: set[TableId] = set()
        #: By table and message, so that equal ones are the same object.
        self._unreadable: dict[tuple[TableId, str], UnreadableTable] = {}

    def look_up(self, tables: Sequence[TableId]) -> None:
        """Read these tables' schemas from the catalog. Must be called whenever Debezium has read a table's structure again.

        Debezium's own structure does not show every change of a type, such as more digits of a numeric.
        """
        found = self._read_schemas(tables)
        self._gone = self._gone.union(tables).difference(found)
        for table, schema in found.items():
            # Batches distinguish schemas by the object, so an equal one must be the same object.
            if schema != self._current[table]:
                self._current[table] = schema

    def begin(self) -> None:
        """Begin another transaction."""
        self._looked_up = set()

    def rows(self, layout: Layout, before: Image, after: Image) -> Decoded:
        """Return an event's rows. Raise `ChangeUndecodable` when they do not fit their table."""
        decoder = self._decoders.get(layout.table)
        try:
            if decoder is None or decoder.layout is not layout:
                return self._rows_as(self._schema_of(layout), layout, before, after)
            return _decoded(decoder, before, after)
        except ChangeUndecodable as unfit:
            return self._rows_again(layout, before, after, unfit)

    def schema_before(self, table: TableId) -> TableSchema:
        """Return the table's schema at its last change. A truncate has no columns, and the catalog may be ahead of it."""
        return self._before[table]

    def unreadable(self, table: TableId, error: ChangeUndecodable) -> UnreadableTable:
        """Return what stands for the table in a change for which `rows` has raised this error."""
        return self._unreadable.setdefault((table, str(error)), UnreadableTable.because(table, error))

    def _rows_again(self, layout: Layout, before: Image, after: Image, unfit: ChangeUndecodable) -> Decoded:
        """Read the rows by another schema that the table may have had: types and keys change under the same names."""
        if layout.table not in self._looked_up:
            self._looked_up.add(layout.table)
            self.look_up([layout.table])
        for schema in (self._schema_of(layout), self._before[layout.table]):
            if schema.column_names == layout.columns:
                with suppress(ChangeUndecodable):
                    return self._rows_as(schema, layout, before, after)
        raise unfit from None

    def _rows_as(self, schema: TableSchema, layout: Layout, before: Image, after: Image) -> Decoded:
        """Read the rows by this schema. If they fit, the table has it from now on."""
        decoder = TableDecoder(schema, layout, self._placeholder)
        decoded = _decoded(decoder, before, after)
        self._decoders[schema.id], self._before[schema.id] = decoder, schema
        return decoded

    def _schema_of(self, layout: Layout) -> TableSchema:
        """Return the table as it was when the change was logged. The catalog may be ahead of the stream."""
        known, current = self._before[layout.table], self._current[layout.table]
        columns = columns_named(layout.columns, known, current, is_gone=layout.table in self._gone)
        unknown = [name for name, column in zip(layout.columns, columns, strict=True) if column is None]
        if unknown:
            raise ChangeUndecodable(
                f"Table {layout.table} had columns that the catalog no longer has: {', '.join(unknown)}.",
                "They were added and dropped again before their changes were read. Resync the table.",
            )
        found = [column for column in columns if column is not None]
        if not all(column.number for column in found):
            # Values could end up in other columns.
            raise ChangeUndecodable(
                f"Columns of table {layout.table} were changed again before its changes were read.", "Resync the table."
            )
        return _schema_with(current, known, tuple(map(partial(_as_logged, current, known), found, layout.types)))


def _decoded(decoder: TableDecoder, before: Image, after: Image) -> Decoded:
    row = None if after is None else decoder.row(after)
    return decoder, None if before is None else decoder.old_row(before), row


def _may_be(column: Column, type_oid: int) -> bool:
    """Whether values of this type can be read as the column's."""
    return type_oid in (column.base_oid, UNKNOWN_TYPE) or has_same_form(column, type_oid)


def _as_logged(current: TableSchema, known: TableSchema, column: Column, type_oid: int) -> Column:
    """Return the column with its type when the change was logged: the current one, or the one from before.

    Debezium does not report the type's modifier, so a type that is still the same has its current one. A type that is
    neither of the two is read as one of them if its values have the same form.
    """
    numbered = [each for schema in (current, known) for each in schema.columns if each.number == column.number]
    states = [replace(each, name=column.name) for each in numbered]
    same = [each for each in states if type_oid in (each.base_oid, UNKNOWN_TYPE)]
    return (same or [each for each in states if _may_be(each, type_oid)] or states)[0]


def _unfit(table: TableId) -> ChangeUndecodable:
    return ChangeUndecodable(
        f"A change of table {table} does not fit the columns in the catalog.",
        "The table was altered more than once before the change was read. Resync it.",
    )


def _schema_with(current: TableSchema, known: TableSchema, columns: tuple[Column, ...]) -> TableSchema:
    if columns == current.columns:
        return current
    key = key_among(columns, current) or key_among(columns, known)
    return TableSchema(
        id=current.id,
        columns=columns,
        key=key,
        identity=current.identity,
        comment=current.comment,
        fingerprint=current.fingerprint,
    )
