"""Decides what the columns of a destination need when those of the source have changed, and what cannot be followed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from rosetta_dagster.cdc.change.fingerprint import is_filled_with_null
from rosetta_dagster.cdc.change.schema import Column, Filling, TableSchema
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy
from rosetta_dagster.cdc.errors import ColumnValuesUnknown, SchemaChangeRefused


@dataclass(frozen=True, slots=True)
class AddColumn:
    """The source has a column more."""

    column: Column

    def __str__(self) -> str:
        return f"column {self.column.name} was added"


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """A column has another name."""

    old: str
    new: str

    def __str__(self) -> str:
        return f"column {self.old} was renamed to {self.new}"


@dataclass(frozen=True, slots=True)
class DropColumn:
    """The source has a column less. A destination keeps it, with the values it holds, and lets it be NULL."""

    name: str

    def __str__(self) -> str:
        return f"column {self.name} was dropped"


@dataclass(frozen=True, slots=True)
class ChangeType:
    """A column has another type."""

    column: Column
    old_type: str

    def __str__(self) -> str:
        return f"column {self.column.name} was changed from {self.old_type} to {self.column.type}"


@dataclass(frozen=True, slots=True)
class DropNotNull:
    """A column may be NULL now."""

    name: str

    def __str__(self) -> str:
        return f"column {self.name} may be NULL"


SchemaChange: TypeAlias = AddColumn | RenameColumn | DropColumn | ChangeType | DropNotNull


def schema_changes(before: TableSchema, now: TableSchema) -> tuple[SchemaChange, ...]:
    """What happened to the columns from one schema to the next. Columns are the same when their numbers are.

    Renames come first: a column may take the name of one that got another.
    """
    old = {column.number: column for column in before.columns}
    new = {column.number: column for column in now.columns}
    kept = [(old[number], column) for number, column in new.items() if number in old]
    return (
        *(RenameColumn(was.name, column.name) for was, column in kept if was.name != column.name),
        *(DropColumn(column.name) for number, column in old.items() if number not in new),
        *(ChangeType(column, was.type) for was, column in kept if was.type != column.type),
        *(DropNotNull(column.name) for was, column in kept if was.not_null and not column.not_null),
        *(AddColumn(column) for number, column in new.items() if number not in old),
    )


def raise_refused(changes: Iterable[SchemaChange], before: TableSchema, now: TableSchema, policy: SchemaPolicy) -> None:
    """`SchemaChangeRefused` when one of the changes cannot be followed, or when the policy is to follow none."""
    changes = list(changes)
    unknown = [
        f"{change}, and the values that it has in older rows are not in the stream"
        for change in changes
        if isinstance(change, AddColumn) and not _is_known(change.column, before, now)
    ]
    reasons = [reason for change in changes if (reason := _reason(change, before, now)) is not None]
    if policy is SchemaPolicy.STOP_TABLE:
        # What makes a column accept more changes nothing that a reader sees.
        reasons += [str(change) for change in changes if not isinstance(change, DropNotNull)]
    if any(not column.number for column in now.columns):
        reasons.append("a column was changed again before its changes were read")
    if reasons or unknown:
        raise (SchemaChangeRefused if reasons else ColumnValuesUnknown)(
            f"The columns of table {now.id} have changed at the source: {'; '.join(dict.fromkeys(reasons + unknown))}.",
            "Resync the table: its columns are changed at the destination and its rows are copied again.",
        )


def _is_known(column: Column, before: TableSchema, now: TableSchema) -> bool:
    """Return whether it is certain what rows from before the column was added hold in it."""
    if column.filling is not Filling.NOTHING or before.fingerprint is None or now.fingerprint is None:
        return column.filling is not Filling.UNKNOWN
    return not column.not_null and is_filled_with_null(column.number, before.fingerprint, now.fingerprint)


def _reason(change: SchemaChange, before: TableSchema, now: TableSchema) -> str | None:
    """Why a change cannot be followed; None when it can."""
    match change:
        case AddColumn(column) if column.name in before.column_names and column.name in _dropped(before, now):
            return f"{change} after one of this name was dropped"
        case ChangeType(column, old_type) if not widens(old_type, column.type):
            return f"{change}, which may have changed the values of older rows"
        case _:
            return None


def _dropped(before: TableSchema, now: TableSchema) -> set[str]:
    left = {column.number for column in now.columns}
    return {column.name for column in before.columns if column.number not in left}


_INTEGERS = ("smallint", "integer", "bigint")
_TEXTS = ("text", "character varying")

#: Types whose values have one text form, whatever the settings of a session are. `boolean` has two: `t` becomes `true`.
_PLAIN = (*_INTEGERS, *_TEXTS, "numeric", "uuid")


def widens(old: str, new: str) -> bool:
    """Whether every value of the old type is one of the new, so that the server's own conversion changes none.

    Nor does reading the old value's text as the new type: changes from before the column was altered still have it. A `real`
    is no `double precision` therefore. Types as SQL spells them.

    >>> widens("integer", "bigint"), widens("character varying(10)", "text"), widens("numeric(8,2)", "numeric(8,3)")
    (True, True, False)
    """
    (old_name, old_limits), (new_name, new_limits) = _parts(old), _parts(new)
    if new in _TEXTS and old_name in _PLAIN:
        return True
    if old_name in _INTEGERS and new_name in _INTEGERS:
        return _INTEGERS.index(old_name) <= _INTEGERS.index(new_name)
    if old_name in _INTEGERS and new == "numeric":
        return True
    return old_name == new_name and _widens_limits(old_limits, new_limits)


def _widens_limits(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """`(10,2)` to `(12,2)`, or to no limit. Another scale would round."""
    if not new:
        return True
    return len(old) == len(new) and old[0] <= new[0] and old[1:] == new[1:]


def _parts(sql_type: str) -> tuple[str, tuple[int, ...]]:
    """The type's name and the limits in its parentheses."""
    found = re.fullmatch(r"(.*?)\(([\d, ]+)\)(.*)", sql_type)
    if found is None:
        return sql_type, ()
    return found[1] + found[3], tuple(int(number) for number in found[2].split(","))
