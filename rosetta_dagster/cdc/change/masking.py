"""Masks tables: their columns, the rows of a stream, and the rows of a copy.

Masking is where values enter the journey, before any is kept or folded: nothing behind it has a value in clear.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from rosetta_dagster.cdc.change.event import Row
from rosetta_dagster.cdc.change.mask import HASH, Mask, hmac_of, mask_of, masked_column
from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, SchemaChangeRefused
from rosetta_dagster.cdc.table_id import TableId

#: The mask of each masked column.
Rules: TypeAlias = Mapping[str, str]

#: Columns of a row by their index, each with its mask.
Steps: TypeAlias = Sequence[tuple[int, Mask]]

_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_LETTERS: Final = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_SPECIAL: Final = re.compile(rb"[\\\t\n\r]")
_SPELT: Final = {b"\\": b"\\\\", b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r"}


class Masking:
    """The masks of a pipeline's tables. The salt is read when it is first needed."""

    def __init__(self, rules: Mapping[TableId, Rules], read_salt: Callable[[], bytes]) -> None:
        self.rules = rules
        self._read_salt = read_salt
        self._salt: bytes | None = None

    def __bool__(self) -> bool:
        """Return whether anything is masked."""
        return bool(self.rules)

    @property
    def salt(self) -> bytes:
        """The salt of hashes; empty when no column is hashed."""
        if self._salt is None:
            is_hashed = any(HASH in rules.values() for rules in self.rules.values())
            self._salt = self._read_salt() if is_hashed else b""
        return self._salt

    def schemas(self, found: Mapping[TableId, TableSchema]) -> dict[TableId, TableSchema]:
        """Return the tables with their masks."""
        return {table: self.schema(schema) for table, schema in found.items()}

    def schema(self, schema: TableSchema) -> TableSchema:
        """Return the table with its masks. Its fingerprint identifies these, and the salt.

        `SchemaChangeRefused` when a column to mask does not exist: it was renamed, perhaps, since it was checked.
        """
        rules = self.rules.get(schema.id)
        if not rules:
            return schema
        if missing := rules.keys() - {*schema.column_names}:
            error = SchemaChangeRefused(
                f"Table {schema.id} has no column {min(missing)}, which mask names: another name would show its values.",
                "Correct mask of the table.",
            )
            error.broken = BrokenTable(schema.id)
            raise error
        masked = masked_shape(schema, rules)
        columns = tuple(self._filled(before, now) for before, now in zip(schema.columns, masked.columns, strict=True))
        fingerprint = schema.fingerprint and replace(schema.fingerprint, mask=_mark(rules, self.salt))
        return replace(masked, columns=columns, fingerprint=fingerprint)

    def steps(self, columns: Iterable[Column]) -> Steps:
        """Return the masks of these columns, which are masked already or not."""
        return [(index, mask_of(column.mask, self.salt)) for index, column in enumerate(columns) if column.mask is not None]

    def _filled(self, before: Column, now: Column) -> Column:
        """Return the column with the masked value that rows from before it have."""
        if now.mask is None or before.fill_value is None:
            return now
        value = mask_of(now.mask, self.salt)(before.fill_value.encode())
        return replace(now, fill_value=None if value is None else value.decode())


#: Masks nothing.
UNMASKED: Final = Masking({}, bytes)


def masked_shape(schema: TableSchema, rules: Rules) -> TableSchema:
    """Return the table with the masked columns' names and types. No salt is needed for it."""
    columns = tuple(
        masked_column(column, rules[column.name]) if column.name in rules else column for column in schema.columns
    )
    return replace(schema, columns=columns)


def unmasked(schema: TableSchema) -> TableSchema:
    """Return the table as the source has it."""
    return replace(schema, columns=tuple(column.unmasked or column for column in schema.columns))


def compared(schema: TableSchema) -> TableSchema:
    """Return the table without its masked columns, whose values cannot be compared with the source's."""
    return replace(schema, columns=tuple(column for column in schema.columns if column.mask is None))


def is_masked(schema: TableSchema) -> bool:
    return any(column.mask is not None for column in schema.columns)


def keeps_masks(known: TableSchema, now: TableSchema) -> bool:
    """Return whether each masked column of the known table still has its name, and no other column has taken it.

    A renamed column would pass unmasked under its new name. Numbers that are not known say nothing.
    """
    numbers = {column.name: column.number for column in now.columns}
    masked = [column for column in known.columns if column.mask is not None]
    return all(
        column.name in numbers and (numbers[column.name] == column.number or 0 in (numbers[column.name], column.number))
        for column in masked
    )


def row_masker(steps: Steps) -> Callable[[Row], Row]:
    """Return what masks a row. NULL, and a value that was not sent again, stay."""

    def masked(row: Row) -> Row:
        values = list(row)
        for index, mask in steps:
            value = values[index]
            if isinstance(value, bytes):
                values[index] = mask(value)
        return tuple(values)

    return masked


def block_masker(steps: Steps) -> Callable[[bytes], bytes]:
    """Return what masks whole lines of COPY's text format."""
    cuts = steps[-1][0] + 1

    def line(text: bytes) -> bytes:
        fields = text.split(b"\t", cuts)
        for index, mask in steps:
            field = fields[index]
            if field != b"\\N":
                value = mask(_ESCAPED.sub(_resolved, field) if b"\\" in field else field)
                fields[index] = b"\\N" if value is None else _SPECIAL.sub(lambda found: _SPELT[found[0]], value)
        return b"\t".join(fields)

    def masked(block: bytes) -> bytes:
        return b"".join([line(text) + b"\n" for text in block.split(b"\n")[:-1]])

    return masked


def _resolved(found: re.Match[bytes]) -> bytes:
    return _LETTERS.get(found[1], found[1])


def _mark(rules: Rules, salt: bytes) -> str:
    """Return what identifies masks and salt, and does not reveal the salt."""
    text = json.dumps(sorted(rules.items()))
    return (hmac_of(salt if HASH in rules.values() else b"")(text.encode()) or b"")[:32].decode()
