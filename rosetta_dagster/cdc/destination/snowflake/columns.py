"""Reads a Snowflake table's columns, and decides whether a column can hold a type or become it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.types import DEFAULT_LENGTH, Target
from rosetta_dagster.cdc.table_id import TableId

_NUMBER = re.compile(r"NUMBER\((\d+),(\d+)\)")
_LENGTH = re.compile(r"(?:VARCHAR|BINARY)\((\d+)\)")


class PresentColumn(NamedTuple):
    """A column of a Snowflake table."""

    name: str
    #: As SQL spells it: `NUMBER(10,0)`, `VARCHAR`.
    type: str
    #: Digits of a NUMBER, and those behind the point.
    precision: int = 0
    scale: int = 0
    #: Characters of a VARCHAR, bytes of a BINARY.
    length: int = 0
    not_null: bool = False
    has_default: bool = False

    def holds(self, target: Target) -> bool:
        """Return whether the column holds every value of this type."""
        digits = _digits(target)
        if digits is None or not self.precision:
            return self.type == target.type and self.length >= target.length
        return self.scale == digits[1] and self.precision >= digits[0]

    def can_become(self, target: Target) -> bool:
        """Return whether Snowflake can change the type in place. It can add digits before the point, and length."""
        digits = _digits(target)
        if digits is None:
            return self.type == target.type and self.length < target.length
        return bool(self.precision) and self.scale == digits[1] and self.precision < digits[0]

    @property
    def spelled(self) -> str:
        """Return the type with a length that is not in `type`."""
        return f"{self.type}({self.length})" if self.length and "(" not in self.type else self.type

    @property
    def limits(self) -> bool:
        """Return whether it is a text with a length limit."""
        return self.type.startswith("VARCHAR(")


def read_columns(session: Session, target: TableId) -> dict[str, PresentColumn]:
    """Return the columns of a table in order, by name; none when the table is missing."""
    rows = session.describe(sql.describe_table(target))
    return {column.name: column for column in map(_column, rows)}


def _column(row: Mapping[str, Any]) -> PresentColumn:
    name, type_ = row["name"], row["type"]
    spelled = _spelled(type_)
    found, length = _NUMBER.fullmatch(spelled), _LENGTH.match(type_)
    return PresentColumn(
        name=name,
        type=spelled,
        precision=int(found[1]) if found else 0,
        scale=int(found[2]) if found else 0,
        length=int(length[1]) if length else 0,
        not_null=row["null?"] == "N",
        has_default=row["default"] is not None,
    )


def _spelled(type_: str) -> str:
    """Return a type of DESC TABLE as SQL spells it, without its collation and without a length that limits nothing.

    >>> _spelled("VARCHAR(16777216) COLLATE 'en-ci'"), _spelled("VARCHAR(3)"), _spelled("TIME(6)")
    ('VARCHAR', 'VARCHAR(3)', 'TIME(6)')
    """
    plain = type_.partition(" COLLATE ")[0]
    name, _, limit = plain.rstrip(")").partition("(")
    is_unlimited = name == "VARCHAR" and limit.isdigit() and int(limit) >= DEFAULT_LENGTH
    return name if is_unlimited or name == "BINARY" else plain


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
