"""Decides which column changes of a source a destination can follow, and describes those that it cannot."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from rosetta_dagster.cdc.change.fingerprint import is_filled_with_null, is_rewritten
from rosetta_dagster.cdc.change.schema import Column, OldRowValues, TableSchema
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy
from rosetta_dagster.cdc.errors import ColumnValuesUnknown, SchemaChangeRefused


@dataclass(frozen=True, slots=True)
class AddColumn:
    """The source has added a column."""

    column: Column

    def __str__(self) -> str:
        return f"column {self.column.name} was added"


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """The source has renamed a column."""

    old: str
    new: str

    def __str__(self) -> str:
        return f"column {self.old} was renamed to {self.new}"


@dataclass(frozen=True, slots=True)
class DropColumn:
    """The source has dropped a column. The destination keeps it with its values, and makes it nullable."""

    name: str

    def __str__(self) -> str:
        return f"column {self.name} was dropped"


@dataclass(frozen=True, slots=True)
class ChangeType:
    """The source has changed the type of a column."""

    column: Column
    old_type: str

    def __str__(self) -> str:
        return f"column {self.column.name} was changed from {self.old_type} to {self.column.type}"


@dataclass(frozen=True, slots=True)
class DropNotNull:
    """The source has made a column nullable."""

    name: str

    def __str__(self) -> str:
        return f"column {self.name} may be NULL"


SchemaChange: TypeAlias = AddColumn | RenameColumn | DropColumn | ChangeType | DropNotNull


def schema_changes(before: TableSchema, now: TableSchema) -> tuple[SchemaChange, ...]:
    """Return the column changes from one schema to the next. A column is identified by its number.

    Renames come first, since a column may take a name that a renamed one had.
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
    """Raise `SchemaChangeRefused` when one of the changes cannot be followed, or when the policy is to follow none."""
    changes = list(changes)
    unknown = [f"{change}, {why}" for change in changes if (why := _unknown_values(change, before, now))]
    reasons = [reason for change in changes if (reason := _reason(change, before, now)) is not None]
    if policy is SchemaPolicy.STOP_TABLE:
        # A column that accepts more values looks the same to its readers.
        reasons += [str(change) for change in changes if not isinstance(change, DropNotNull)]
    if any(not column.number for column in now.columns):
        reasons.append("a column was changed again before its changes were read")
    if reasons or unknown:
        raise (SchemaChangeRefused if reasons else ColumnValuesUnknown)(
            f"The columns of table {now.id} have changed at the source: {'; '.join(dict.fromkeys(reasons + unknown))}.",
            "Resync the table: its columns are changed at the destination and its rows are copied again.",
        )


def _unknown_values(change: SchemaChange, before: TableSchema, now: TableSchema) -> str | None:
    """Return why a copy of the table alone knows what older rows hold in the column; None when it is certain."""
    then, current = before.fingerprint, now.fingerprint
    match change:
        case AddColumn(column) if column.filling is OldRowValues.NOTHING and then is not None and current is not None:
            is_known = not column.not_null and is_filled_with_null(column.number, then, current)
        case AddColumn(column):
            is_known = column.filling is not OldRowValues.UNKNOWN
        case ChangeType():
            # A rewrite may have been for the new type only, or for values that USING computed.
            is_known = then is None or current is None or not is_rewritten(then, current)
        case _:
            is_known = True
    return None if is_known else "whose values in existing rows are not in the stream"


def _reason(change: SchemaChange, before: TableSchema, now: TableSchema) -> str | None:
    """Return why a change cannot be followed; None when it can."""
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

#: Types whose values have one text form under all session settings. `boolean` has two: `t` becomes `true`.
_PLAIN = (*_INTEGERS, *_TEXTS, "numeric", "uuid")


def widens(old: str, new: str) -> bool:
    """Return whether every value of the old type keeps its meaning in the new type. Types as SQL spells them.

    That holds for the server's conversion and for reading the old value's text as the new type, since changes from before
    the column was altered still have that text. So `real` does not widen to `double precision`.

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
    """Return whether limits widen, as `(10,2)` to `(12,2)` or to none. Another scale would round."""
    if not new:
        return True
    return len(old) == len(new) and old[0] <= new[0] and old[1:] == new[1:]


def _parts(sql_type: str) -> tuple[str, tuple[int, ...]]:
    """Return the type's name and the limits in its parentheses."""
    found = re.fullmatch(r"(.*?)\(([\d, ]+)\)(.*)", sql_type)
    if found is None:
        return sql_type, ()
    return found[1] + found[3], tuple(int(number) for number in found[2].split(","))
