"""Decides the Snowflake form of a source table: its name, and the name and type of each column."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.snowflake.config import Deletes, SnowflakeDestinationConfig, ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.names import Names
from rosetta_dagster.cdc.destination.snowflake.types import Target, length_of, target_of
from rosetta_dagster.cdc.destination.snowflake.values import ColumnConverter, Touched
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A table of the destination; its columns are in the order of the source's."""

    #: As Snowflake spells it.
    id: TableId
    columns: tuple[str, ...]
    types: tuple[Target, ...]
    #: Where the key's columns stand, in the key's order.
    key: tuple[int, ...]
    #: The column with the time when a row was deleted; None when deleted rows are removed.
    deleted_at: str | None = None
    #: The columns by which Snowflake clusters a created table.
    cluster_by: tuple[str, ...] = ()
    transient: bool = False
    retention_days: int | None = None

    def is_compared(self, index: int) -> bool:
        """Return whether rows are found by this column: one of the key, or any of a table without a key."""
        return index in self.key or not self.key

    @property
    def others(self) -> tuple[int, ...]:
        """Return the positions of the columns outside the key."""
        return tuple(index for index in range(len(self.columns)) if index not in self.key)


def layout_of(
    schema: TableSchema, target: TableId, config: SnowflakeDestinationConfig, renamed: Mapping[int, str] | None = None
) -> Layout:
    """Return the table's form under this configuration. `renamed` holds names that columns have already, by column number.

    Raise `DestinationRejected` when two columns would have the same name.
    """
    names, by_now = Names(config.preserve_case), renamed or {}
    is_soft = config.deletes is Deletes.SOFT
    extra = (config.deleted_at_column,) if is_soft else ()
    columns = [by_now.get(column.number, column.name) if column.number else column.name for column in schema.columns]
    spelled = names.distinct((*columns, *extra), f"table {schema.id}")
    numbers = config.values.numbers
    return Layout(
        id=names.table(target),
        columns=tuple(spelled[: len(schema.columns)]),
        types=tuple(
            _column_type(
                target_of(column, numbers.get(f"{schema.id}.{column.name}")), config, in_key=column.name in schema.key
            )
            for column in schema.columns
        ),
        key=schema.key_indexes,
        deleted_at=spelled[-1] if is_soft else None,
        cluster_by=tuple(names.of(name) for name in (config.cluster_by or {}).get(str(schema.id), ())),
        transient=config.transient,
        retention_days=config.retention_days,
    )


def _column_type(target: Target, config: SnowflakeDestinationConfig, *, in_key: bool) -> Target:
    return replace(target, must_parse=in_key, length=length_of(target, config.values.value_limit_bytes))


def places(schema: TableSchema) -> list[str]:
    """Return how messages name each column."""
    return [f"table {schema.id}, column {column.name}" for column in schema.columns]


def converters(
    schema: TableSchema, layout: Layout, policy: ValuePolicy, touched: Counter[Touched]
) -> tuple[ColumnConverter, ...]:
    """Return a converter for each column. They count substituted values in `touched`."""
    return tuple(
        ColumnConverter(
            place=place,
            target=target,
            policy=policy,
            is_key=index in layout.key,
            touched=touched,
        )
        for index, (place, target) in enumerate(zip(places(schema), layout.types, strict=True))
    )
