"""What a table of the source is: its name, its columns, and what identifies its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from rosetta_dagster.cdc.change.fingerprint import Fingerprint
from rosetta_dagster.cdc.table_id import TableId


class Identity(StrEnum):
    """What PostgreSQL logs of the old row of an update or delete (`pg_class.relreplident`)."""

    #: The key columns: the primary key, or the index of REPLICA IDENTITY USING INDEX.
    KEY = "KEY"
    #: The whole row (REPLICA IDENTITY FULL).
    FULL = "FULL"
    #: Nothing: the source refuses updates and deletes of such a table while it is published.
    NOTHING = "NOTHING"


class OldRowValues(StrEnum):
    """The values that a column added to a table has in the rows from before it."""

    #: NULL in every row.
    NOTHING = "NOTHING"
    #: The same value in every row: the column was added with a constant default.
    CONSTANT = "CONSTANT"
    #: Possibly a different value in each row, which no stream carries: the column has a default that was computed for each
    #: row, or one that it was given later. The catalog does not distinguish these.
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a source table."""

    name: str
    #: The type as SQL spells it, modifier included: `numeric(12,2)`, `character varying(40)`, `integer[]`.
    type: str
    #: OID of the type; for a domain that of the domain.
    type_oid: int
    #: OID of the type that decides the text form: a domain's base type, else the type itself.
    base_oid: int
    #: OID of an array's elements (a domain's included, resolved); 0 when the type is not an array.
    element_oid: int = 0
    #: The type's modifier as the catalog holds it; -1 for none.
    type_modifier: int = -1
    not_null: bool = False
    comment: str | None = None
    #: The column's number in its table (`attnum`): renaming keeps it, and no later column gets it. 0 when it is not known,
    #: as for a column that was added and dropped before its changes were read.
    number: int = 0
    #: The column's values in rows from before it. The name is part of the state that destinations store.
    filling: OldRowValues = OldRowValues.NOTHING
    #: The text of that value when it is the same in every row.
    fill_value: str | None = None
    #: What its values are masked by; None: by nothing.
    mask: str | None = None
    #: The source's own column, if it is masked.
    unmasked: "Column | None" = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    """The columns of a source table, and its key. Rows are tuples in the order of the columns."""

    id: TableId
    columns: tuple[Column, ...]
    #: Names of the columns that identify a row, in the key's order; empty for a table without a key.
    key: tuple[str, ...]
    identity: Identity
    comment: str | None = None
    #: The table's catalog fingerprint when its columns were read; None if unknown.
    fingerprint: Fingerprint | None = field(default=None, repr=False, compare=False)
    #: The indexes of the key's columns in a row.
    key_indexes: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = self.column_names
        object.__setattr__(self, "key_indexes", tuple(names.index(name) for name in self.key))

    def on_timeline(self, timeline: int) -> Self:
        """Return the schema as read from this timeline of the source's log."""
        fingerprint = self.fingerprint
        return replace(self, fingerprint=fingerprint and replace(fingerprint, timeline=timeline))

    @property
    def is_partitioned(self) -> bool:
        """Whether the rows are in partitions, so that the table itself has none."""
        return self.fingerprint is not None and self.fingerprint.is_partitioned

    @property
    def row_filter(self) -> str | None:
        """The condition of the rows that are replicated; None for all."""
        return None if self.fingerprint is None else self.fingerprint.row_filter

    @property
    def mask_digest(self) -> str | None:
        """What identifies the masks of the columns and their salt; None when nothing is masked."""
        return None if self.fingerprint is None else self.fingerprint.mask

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def with_fingerprint(known: TableSchema, now: TableSchema) -> TableSchema | None:
    """Return the known schema with the fingerprint of now; None when its columns may have changed in between."""
    before, after = known.fingerprint, now.fingerprint
    if after is None or [_identity(column) for column in known.columns] != [_identity(column) for column in now.columns]:
        return None
    if before is not None and (before.oid, before.column_count) != (after.oid, after.column_count):
        return None
    return replace(known, fingerprint=replace(after, timeline=after.timeline or (before.timeline if before else 0)))


def following(known: TableSchema, now: TableSchema) -> TableSchema:
    """Return the schema of now with the fingerprint that its rows are still to be verified by.

    A change of columns that the stream carries says nothing of what happened around it: only a copy, and a comparison that
    finds nothing missing, move the fingerprint. `column_count` is what new columns are recognized by. The types of new
    columns are known as they are now.
    """
    before, after = known.fingerprint, now.fingerprint
    if before is None or after is None:
        return now
    type_texts = tuple(sorted({**dict(after.type_texts), **dict(before.type_texts)}.items()))
    return replace(now, fingerprint=replace(before, column_count=after.column_count, type_texts=type_texts))


def has_reused_name(before: TableSchema, now: TableSchema) -> bool:
    """Return whether another column has a name now: one was dropped and added again, or columns exchanged their names."""
    numbers = {column.name: column.number for column in before.columns}
    return any(numbers.get(column.name, column.number) != column.number for column in now.columns)


def _identity(column: Column) -> tuple[int, str, int, int, bool]:
    return column.number, column.name, column.type_oid, column.type_modifier, column.not_null


def missing_columns(known: Sequence[str], schema: TableSchema) -> tuple[Column, ...]:
    """Return the schema's columns whose names are not known, in order."""
    return tuple(column for column in schema.columns if column.name not in known)


def columns_named(
    names: Sequence[str], known: TableSchema, current: TableSchema, *, is_gone: bool = False
) -> tuple[Column | None, ...]:
    """Return the columns that a table had when a change was logged, by their names; None for one that neither schema has.

    The change was logged between the states `known` and `current` of the table. Both may have a column of one name, and not
    the same one: it was dropped and added again, or columns exchanged their names. If only one table can have had these
    names, it was that one. If several can have had them, the current columns are preferred where that is possible. Otherwise
    the numbers are unknown (0). If the table no longer exists, it may have lost columns that `current` has.
    """
    for schema in (current, known):
        if tuple(names) == schema.column_names:
            return schema.columns
    possible = _tables_between(names, known, current)
    by_name = {column.name: column for column in (*known.columns, *current.columns)}
    newest = tuple(by_name.get(name) for name in names)
    if len(possible) == 1:
        return possible[0]
    # No possibility: a column had a third name, or `known` comes from a destination that is ahead of the change.
    if newest in possible or (not possible and _may_be_a_table(newest, () if is_gone else current.columns)):
        return newest
    return tuple(column and replace(column, number=0) for column in newest)


def key_among(columns: Sequence[Column], schema: TableSchema) -> tuple[str, ...]:
    """Return the schema's key by the names that its columns have among these; empty when one is missing.

    A key column may have another name here, and another column may have the key's name. Columns are identified by their
    numbers if all are known, else by their names.
    """
    keyed = [schema.columns[index] for index in schema.key_indexes]
    if all(column.number for column in (*columns, *keyed)):
        names = {column.number: column.name for column in columns}
        key = tuple(names.get(column.number, "") for column in keyed)
    else:
        key = schema.key
    return key if {column.name for column in columns}.issuperset(key) else ()


def _may_be_a_table(columns: Sequence[Column | None], now: Sequence[Column]) -> bool:
    """Whether the numbers ascend, as in every table, and no current column is missing that is older than one of these.

    A current column existed as soon as a column with a greater number did. A column that was generated at that time is an
    exception: then the answer is no without need.
    """
    numbers = [column.number for column in columns if column is not None]
    older = {column.number for column in now if column.number <= max(numbers, default=0)}
    return numbers == sorted(set(numbers)) and older.issubset(numbers)


def _tables_between(names: Sequence[str], known: TableSchema, current: TableSchema) -> list[tuple[Column, ...]]:
    """Return all lists of columns with these names that a table can have had between the two schemas.

    A column keeps its number, and an added column gets a greater number than all before. So the table had first columns of
    `known`, namely those that still exist and maybe some that were dropped since, and then the first few columns added
    since. Each column is assumed to have had its name in one of the two schemas.
    """
    now = {column.number: column for column in current.columns}
    added = current.columns[sum(column.number in now for column in known.columns) :]
    begun: list[tuple[Column, ...]] = [()]
    for column in known.columns:
        kept = now.get(column.number)
        longer = [(*columns, found) for columns in begun for found in _next_of(names, columns, kept or column, column)]
        begun = longer if kept else begun + longer
    ended = [(*columns, *added[: max(0, len(names) - len(columns))]) for columns in begun]
    return [columns for columns in ended if tuple(column.name for column in columns) == tuple(names)]


def _next_of(names: Sequence[str], columns: tuple[Column, ...], *states: Column) -> list[Column]:
    """Return the first of these states of one column that has the next name; an empty list when none has it."""
    name = names[len(columns)] if len(columns) < len(names) else None
    return [column for column in states if column.name == name][:1]
