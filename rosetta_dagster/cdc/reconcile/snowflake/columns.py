"""Divides the columns of a table into those that are hashed by both sides and those that are fetched."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.snowflake.config import ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.layout import Layout, converters
from rosetta_dagster.cdc.destination.snowflake.types import Target
from rosetta_dagster.cdc.destination.snowflake.values import ColumnConverter
from rosetta_dagster.cdc.reconcile.snowflake.forms import is_hashed


@dataclass(frozen=True)
class ComparedColumns:
    """The columns of a table at both sides."""

    schema: TableSchema
    layout: Layout
    policy: ValuePolicy

    @cached_property
    def hashed(self) -> tuple[int, ...]:
        """Return the positions of the columns that both sides hash."""
        return tuple(index for index, target in enumerate(self.layout.types) if is_hashed(target, self.policy))

    @cached_property
    def fetched(self) -> tuple[int, ...]:
        """Return the positions of the other columns."""
        return tuple(index for index in range(len(self.layout.types)) if index not in self.hashed)

    @property
    def fetched_types(self) -> tuple[Target, ...]:
        return tuple(self.layout.types[index] for index in self.fetched)

    @property
    def unhashed_key(self) -> tuple[str, ...]:
        """Return the names of the key's columns that cannot be hashed."""
        return tuple(self.schema.column_names[index] for index in self.layout.key if index in self.fetched)

    @cached_property
    def converters(self) -> tuple[ColumnConverter, ...]:
        """Return how the fetched columns are written."""
        every = converters(self.schema, self.layout, self.policy, Counter())
        return tuple(every[index] for index in self.fetched)
