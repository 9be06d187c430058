"""What a table of the source looks like: its name, its columns, and how its rows are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

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
    #: The column's number in its table (`attnum`): it stays when the column is renamed, and is never given twice. 0 when
    #: it is not known, as of a column that came and went before its changes were read.
    number: int = 0
    #: The column's values in rows from before it. The name is part of the state that destinations store.
    filling: OldRowValues = OldRowValues.NOTHING
    #: The text of that value when it is the same in every row.
    fill_value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    """The columns of a source table in order, and its key. Rows are tuples in this order."""

    id: TableId
    columns: tuple[Column, ...]
    #: Names of the columns that identify a row, in the key's order; empty for a table without a key.
    key: tuple[str, ...]
    identity: Identity
    comment: str | None = None
    #: Where the key's columns stand in a row.
    key_indexes: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = self.column_names
        object.__setattr__(self, "key_indexes", tuple(names.index(name) for name in self.key))

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def missing_columns(known: Sequence[str], schema: TableSchema) -> tuple[Column, ...]:
    """The columns of the schema that are not among the known names, in order."""
    return tuple(column for column in schema.columns if column.name not in known)


def columns_named(
    names: Sequence[str], known: TableSchema, current: TableSchema, *, is_gone: bool = False
) -> tuple[Column | None, ...]:
    """The columns that a table had when a change was logged, by their names; None for one that neither schema has.

    The change was logged after the table was as in `known`, and not after it was as in `current`. A name may stand for a
    column of each: one that was dropped and given again, or names that columns took from each other. Where the table can
    have been one only, it was that one. Where it can have been several, it has the columns of now if that is one of them:
    then it shows that one was dropped and added again. Else the numbers are not known. When the table is gone, it may have
    lost columns that `current` still has.
    """
    for schema in (current, known):
        if tuple(names) == schema.column_names:
            return schema.columns
    possible = _tables_between(names, known, current)
    by_name = {column.name: column for column in (*known.columns, *current.columns)}
    newest = tuple(by_name.get(name) for name in names)
    if len(possible) == 1:
        return possible[0]
    # With none, a column had a third name; or `known` is what one destination holds, and the change older.
    if newest in possible or (not possible and _may_be_a_table(newest, () if is_gone else current.columns)):
        return newest
    return tuple(column and replace(column, number=0) for column in newest)


def key_among(columns: Sequence[Column], schema: TableSchema) -> tuple[str, ...]:
    """The key of the schema by the names that its columns have among these; nothing when one is not there.

    A key column may have another name here, and another column the key's. Where numbers are not known, names have to do.
    """
    keyed = [schema.columns[index] for index in schema.key_indexes]
    if all(column.number for column in (*columns, *keyed)):
        names = {column.number: column.name for column in columns}
        key = tuple(names.get(column.number, "") for column in keyed)
    else:
        key = schema.key
    return key if {column.name for column in columns}.issuperset(key) else ()


def _may_be_a_table(columns: Sequence[Column | None], now: Sequence[Column]) -> bool:
    """Whether the numbers ascend, as they do in every table, and no column is missing that is older than one of these.

    What is there now was there as soon as a column of a greater number was; but for one that was generated then, for which a
    table is refused without need.
    """
    numbers = [column.number for column in columns if column is not None]
    older = {column.number for column in now if column.number <= max(numbers, default=0)}
    return numbers == sorted(set(numbers)) and older.issubset(numbers)


def _tables_between(names: Sequence[str], known: TableSchema, current: TableSchema) -> list[tuple[Column, ...]]:
    """What columns of these names a table can have had on its way from one schema to the other.

    A column keeps its number, and one that is added gets a greater one than all before. So the table began with columns of
    `known`, those that are there now and maybe some that were dropped since, and ended with the first few of those added
    since. Each is supposed to have had the name that it has in one of the two schemas.
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
    """The first of these states of one column that has the name which comes after these columns; none when none has."""
    name = names[len(columns)] if len(columns) < len(names) else None
    return [column for column in states if column.name == name][:1]
