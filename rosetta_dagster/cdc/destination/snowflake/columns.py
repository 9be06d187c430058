"""Reads a Snowflake table's columns, and decides whether a column can hold a type or become it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.types import Target
from rosetta_dagster.cdc.table_id import TableId

#: Characters of a VARCHAR that was given no length; accounts differ.
_UNLIMITED = 16 * 1024 * 1024

_WITH_FRACTION = ("TIME", "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ")


class PresentColumn(NamedTuple):
    """A column of a Snowflake table."""

    name: str
    #: As SQL spells it: `NUMBER(10,0)`, `VARCHAR`.
    type: str
    #: Digits of a NUMBER, and those behind the point.
    precision: int = 0
    scale: int = 0
    not_null: bool = False
    has_default: bool = False

    def holds(self, target: Target) -> bool:
        """Return whether the column holds every value of this type."""
        digits = _digits(target)
        if digits is None or not self.precision:
            return self.type == target.type
        return self.scale == digits[1] and self.precision >= digits[0]

    def can_become(self, target: Target) -> bool:
        """Return whether Snowflake can change the type in place. It can add digits before the point."""
        digits = _digits(target)
        return digits is not None and bool(self.precision) and self.scale == digits[1] and self.precision < digits[0]

    @property
    def limits(self) -> bool:
        """Return whether it is a text with a length limit."""
        return self.type.startswith("VARCHAR(")


def read_columns(session: Session, target: TableId) -> dict[str, PresentColumn]:
    """Return the columns of a table in order, by name; none when the table is missing."""
    return {column.name: column for column in map(_column, session.execute(sql.PRESENT_COLUMNS, [*target]))}


def _column(row: tuple[Any, ...]) -> PresentColumn:
    name, kind, precision, scale, fraction, length, nullable, default = row
    is_number = kind == "NUMBER"
    return PresentColumn(
        name=name,
        type=_spelled(kind, precision, scale, fraction, length),
        precision=int(precision) if is_number else 0,
        scale=int(scale) if is_number else 0,
        not_null=nullable == "NO",
        has_default=default is not None,
    )


def _spelled(kind: str, precision: Any, scale: Any, fraction: Any, length: Any) -> str:
    if kind == "NUMBER":
        return f"NUMBER({precision},{scale})"
    if kind == "TEXT":
        return "VARCHAR" if length is None or int(length) >= _UNLIMITED else f"VARCHAR({length})"
    return f"{kind}({fraction})" if kind in _WITH_FRACTION and fraction is not None else kind


def _digits(target: Target) -> tuple[int, int] | None:
    """Return precision and scale of a NUMBER; None for another type."""
    name, _, limits = target.type.rstrip(")").partition("(")
    if name != "NUMBER":
        return None
    precision, scale = limits.split(",")
    return int(precision), int(scale)


def renames(wanted: Mapping[str, str], present: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the pending renames, ordered so that each new name is free, and the old names that cannot be renamed.

    `wanted` maps old names to new ones. Renames that were made already, as before a crash, are left out.

    >>> renames({"A": "B", "B": "C"}, ["A", "B"])
    ([('B', 'C'), ('A', 'B')], [])
    >>> renames({"A": "B", "B": "A"}, ["A", "B"])
    ([], ['A', 'B'])
    """
    names, done = set(present), []
    # This name exists because another column took it; its own column was renamed already.
    taken = {new for old, new in wanted.items() if old not in names and new in names}
    left = {old: new for old, new in wanted.items() if old in names and old not in taken and old != new}
    while free := next(((old, new) for old, new in left.items() if new not in names), None):
        old, new = free
        names.symmetric_difference_update({old, new})
        done.append(free)
        del left[old]
    return done, sorted(left)
