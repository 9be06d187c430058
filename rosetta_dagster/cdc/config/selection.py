"""Decides which columns and rows of a table are wanted: all, those that are listed, or all but those that are excluded."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a pipeline replicates of a table. At most one of `columns` and `exclude` is given."""

    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: A condition in SQL; None for all rows.
    where: str | None = None

    def __bool__(self) -> bool:
        """Return whether anything is left out."""
        return bool(self.columns or self.exclude or self.where)

    @property
    def has_column_rule(self) -> bool:
        return bool(self.columns or self.exclude)

    def missing_columns(self, existing: Collection[str]) -> list[str]:
        """Return the columns that it names and the table does not have."""
        return [name for name in (*self.columns, *self.exclude) if name not in existing]

    def selected(self, existing: Sequence[str]) -> list[str]:
        """Return the columns of the table that are wanted, in the table's order."""
        return [name for name in existing if name not in self.exclude and (not self.columns or name in self.columns)]
