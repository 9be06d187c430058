"""What the columns of a table at Snowflake are, and whether one can hold what is wanted of it."""

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
    """A column of a table at Snowflake."""

    name: str
    #: As SQL spells it: `NUMBER(10,0)`, `VARCHAR`.
    type: str
    #: Digits of a NUMBER, and those behind the point.
    precision: int = 0
    scale: int = 0
    not_null: bool = False
    has_default: bool = False

    def holds(self, target: Target) -> bool:
        """Whether it takes what a column of this type takes."""
        digits = _digits(target)
        if digits is None or not self.precision:
            return self.type == target.type
        return self.scale == digits[1] and self.precision >= digits[0]

    def can_become(self, target: Target) -> bool:
        """Whether Snowflake changes the type in place: it adds digits before the point, and nothing else that is needed."""
        digits = _digits(target)
        return digits is not None and bool(self.precision) and self.scale == digits[1] and self.precision < digits[0]

    @property
    def limits(self) -> bool:
        """Whether it is a text with a length."""
        return self.type.startswith("VARCHAR(")


def read_columns(session: Session, target: TableId) -> dict[str, PresentColumn]:
    """The columns of a table in their order, by name; none when there is no such table."""
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
    """Precision and scale of a NUMBER; None for another type."""
    name, _, limits = target.type.rstrip(")").partition("(")
    if name != "NUMBER":
        return None
    precision, scale = limits.split(",")
    return int(precision), int(scale)


def renames(wanted: Mapping[str, str], present: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The renames that are still to be done, in an order in which each name is free, and the old names that are stuck.

    `wanted` maps old names to new ones. What was done already, as before a crash, is left out.

    >>> renames({"A": "B", "B": "C"}, ["A", "B"])
    ([('B', 'C'), ('A', 'B')], [])
    >>> renames({"A": "B", "B": "A"}, ["A", "B"])
    ([], ['A', 'B'])
    """
    names, done = set(present), []
    # A name that is there since another column took it is no column that waits for its own.
    taken = {new for old, new in wanted.items() if old not in names and new in names}
    left = {old: new for old, new in wanted.items() if old in names and old not in taken and old != new}
    while free := next(((old, new) for old, new in left.items() if new not in names), None):
        old, new = free
        names.symmetric_difference_update({old, new})
        done.append(free)
        del left[old]
    return done, sorted(left)
