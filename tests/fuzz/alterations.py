"""What happens to the columns of a table, as SQL, and when LIMITATIONS.md lets a table be set aside for it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from .names import literal, quoted
from .tables import Column, Table
from .types import Type

#: Types with the wider ones whose columns are followed.
WIDER: Final = {
    "smallint": ("integer", "bigint", "numeric", "text"),
    "integer": ("bigint", "numeric", "text", "character varying"),
    "bigint": ("numeric", "text"),
    "numeric(12,2)": ("numeric", "text"),
    "numeric": ("text",),
    "character varying(8)": ("text", "character varying"),
    "character varying": ("text",),
    "text": ("character varying",),
    "uuid": ("text",),
    "bit varying(5)": ("bit varying",),
    "timestamp(3)": ("timestamp",),
    "timestamptz(0)": ("timestamptz",),
    "time(2)": ("time",),
}

#: Types that lose something of the values, or have other texts for them, with what is made of them.
NARROWER: Final = {
    "bigint": ("integer", "left({}::text, 5)::integer"),
    "numeric": ("numeric(12,2)", "left({}::text, 1)::numeric(12,2)"),
    "text": ("character varying(8)", "left({}, 8)"),
    "timestamp": ("timestamp(3)", "{}"),
    "timestamptz": ("timestamptz(0)", "{}"),
    "double precision": ("real", "0"),
    "real": ("double precision", "{}"),
    "boolean": ("text", "{}::text"),
}

#: Defaults that differ by row.
VOLATILE: Final = {"uuid": "gen_random_uuid()", "double precision": "random()", "timestamptz": "clock_timestamp()"}

#: Domains with constraints: a column of them has its default written into every row, as a volatile one.
_CHECKED = ("types.whole", "types.nested_whole")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddColumn:
    column: Column
    #: As SQL.
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameColumn:
    mark: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropColumn:
    mark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeType:
    mark: int
    type: Type
    #: What is made of the values, with {} for the column; None: what the server makes of them.
    using: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropNotNull:
    mark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNotNull:
    """A column that is NULL nowhere any more."""

    mark: int
    #: What takes the place of NULL, as SQL.
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDefault:
    """A default that a column gets later; None: it loses it."""

    mark: int
    default: str | None


Alteration: TypeAlias = AddColumn | RenameColumn | DropColumn | ChangeType | DropNotNull | SetNotNull | SetDefault


def constant(column: Column, text: str | None) -> str:
    return f"{literal(text)}::{column.type.sql}"


def alter_statement(change: Alteration, table: Table) -> str:
    """`LookupError` when the column is not there."""
    return f"{_replacement(change, table)}ALTER TABLE {table.sql} {_action(change, table)}"


def _replacement(change: Alteration, table: Table) -> str:
    """What has to happen to the rows before."""
    if not isinstance(change, SetNotNull):
        return ""
    name = quoted(table.column(change.mark).name)
    # IS NULL is also true of a composite value whose fields are all NULL.
    return f"UPDATE {table.sql} SET {name} = {change.value} WHERE {name} IS NOT DISTINCT FROM NULL; "


def _action(change: Alteration, table: Table) -> str:
    if isinstance(change, AddColumn):
        column = change.column
        rest = ("" if change.default is None else f" DEFAULT {change.default}") + (" NOT NULL" if column.not_null else "")
        return f"ADD COLUMN {quoted(column.name)} {column.type.sql}{rest}"
    name = quoted(table.column(change.mark).name)
    match change:
        case RenameColumn():
            return f"RENAME COLUMN {name} TO {quoted(change.name)}"
        case DropColumn():
            return f"DROP COLUMN {name}"
        case ChangeType():
            using = "" if change.using is None else f" USING {change.using.format(name)}"
            return f"ALTER COLUMN {name} TYPE {change.type.sql}{using}"
        case DropNotNull() | SetNotNull():
            return f"ALTER COLUMN {name} {'SET' if isinstance(change, SetNotNull) else 'DROP'} NOT NULL"
        case SetDefault():
            return f"ALTER COLUMN {name} {'DROP DEFAULT' if change.default is None else f'SET DEFAULT {change.default}'}"


def altered(table: Table, change: Alteration) -> Table:
    """The table after the change."""
    if isinstance(change, AddColumn):
        return table.with_column(change.column)
    return replace(table, columns=tuple(new for c in table.columns if (new := _changed(c, change)) is not None))


def _changed(column: Column, change: Alteration) -> Column | None:
    if isinstance(change, AddColumn) or column.mark != change.mark:
        return column
    match change:
        case DropColumn():
            return None
        case RenameColumn():
            return replace(column, name=change.name)
        case ChangeType():
            return replace(column, type=change.type)
        case DropNotNull() | SetNotNull():
            return replace(column, not_null=isinstance(change, SetNotNull))
        case SetDefault():
            return column


#: What Rosetta says of columns that have changed more than once between two changes of the table.
_AGAIN = ("changed again before", "the catalog no longer has", "altered more than once")


def may_be_set_aside(table: Table, changes: Iterable[Alteration], reason: str) -> bool:
    """Whether LIMITATIONS.md lets such changes of the table's columns end in its being set aside for such a reason."""
    changes = list(changes)
    if has_name_again(table, changes) or any(
        isinstance(change, ChangeType) and change.using is not None for change in changes
    ):
        return True
    if _takes_name_of_lost(table, changes) and "as of one that was dropped" in reason:
        return True
    if _loses_defaults(changes) and "not in the stream" in reason:
        return True
    if _drops_widened(changes) and "StringDataRightTruncation" in reason:
        return True
    return len(changes) > 1 and any(text in reason for text in _AGAIN)


def has_name_again(table: Table, changes: Iterable[Alteration]) -> bool:
    """Whether a name of a column that was dropped is given again."""
    lost: set[str] = set()
    for change in changes:
        if isinstance(change, DropColumn) and change.mark in {column.mark for column in table.columns}:
            lost.add(table.column(change.mark).name)
        if (isinstance(change, AddColumn) and change.column.name in lost) or (
            isinstance(change, RenameColumn) and change.name in lost
        ):
            return True
        table = altered(table, change)
    return False


def _takes_name_of_lost(table: Table, changes: Iterable[Alteration]) -> bool:
    """Whether a column takes a name that one had which is dropped later, under another name.

    When all of it happens before a change of the table is read, the destination has the dropped one under its first name.
    """
    changes = list(changes)
    lost = {change.mark for change in changes if isinstance(change, DropColumn)}
    had = {(column.name, column.mark) for column in table.columns}
    for change in changes:
        if not isinstance(change, AddColumn | RenameColumn):
            continue
        name, mark = (
            (change.column.name, change.column.mark) if isinstance(change, AddColumn) else (change.name, change.mark)
        )
        if any(other == name and owner != mark and owner in lost for other, owner in had):
            return True
        had.add((name, mark))
    return False


def _drops_widened(changes: Iterable[Alteration]) -> bool:
    """Whether a column was made wider and is dropped: then nothing tells Debezium's reader how wide it was."""
    wide: set[int] = set()
    for change in changes:
        if isinstance(change, ChangeType):
            wide.add(change.mark)
        if isinstance(change, DropColumn) and change.mark in wide:
            return True
    return False


def _loses_defaults(changes: list[Alteration]) -> bool:
    """Whether a default that older rows have may not be told from one that differs by row."""
    defaults = [change for change in changes if isinstance(change, AddColumn) and change.default is not None]
    is_rewritten = any(isinstance(change, ChangeType) for change in changes)
    return (
        any(isinstance(change, SetDefault) and change.default is not None for change in changes)
        or any(change.default in VOLATILE.values() or change.column.type.sql in _CHECKED for change in defaults)
        or (is_rewritten and bool(defaults))
    )
