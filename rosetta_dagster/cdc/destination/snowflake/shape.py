"""Decides which DDL a Snowflake table needs so that a batch with several of its schemas fits into one transaction.

DDL is not transactional in Snowflake. So a table gets everything that the schemas of a batch need before the batch is
written, and rows of an older schema are written under the column names of the last one. A crash between DDL and data is
recoverable: statements that were run already are left out, and names that run ahead of the data are recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rosetta_dagster.cdc.change.schema import Column, OldRowValues, TableSchema
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy
from rosetta_dagster.cdc.destination.evolution import raise_refused, schema_changes
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.columns import PresentColumn, renames
from rosetta_dagster.cdc.destination.snowflake.layout import Layout
from rosetta_dagster.cdc.errors import SchemaChangeRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The changes to a table that come before the changes of a batch."""

    #: The source name that each column has after the statements, by column number.
    names: Mapping[int, str] = field(default_factory=dict)
    #: Whether columns are renamed.
    renames: bool = False
    statements: tuple[str, ...] = ()
    #: The added columns whose older rows have to be filled, by number.
    fills: frozenset[int] = frozenset()


def names_after(schemas: Sequence[TableSchema], ahead: Mapping[int, str]) -> dict[int, str]:
    """Return each column's name after the last schema. A name that runs ahead stays until a schema has reached it."""
    names: dict[int, str] = {}
    passed: dict[int, set[str]] = {}
    for schema in schemas:
        for column in schema.columns:
            names[column.number] = column.name
            passed.setdefault(column.number, set()).add(column.name)
    return names | {number: name for number, name in ahead.items() if number in names and name not in passed[number]}


def shape_of(  # noqa: PLR0917 - what a table was, is, and is to be
    schemas: Sequence[TableSchema],
    layout: Layout,
    spelled: Mapping[int, str],
    before: Mapping[int, str],
    present: Mapping[str, PresentColumn],
    names: Mapping[int, str],
) -> Shape:
    """Return what takes a table from the first schema to the last.

    `layout` has the columns of all schemas in the order of their numbers. `spelled` are their names at Snowflake, `before`
    the current names of the first schema's columns. Raise `SchemaChangeRefused` for what Snowflake cannot do in place.
    """
    done, stuck = renames({before[number]: spelled[number] for number in before}, present)
    if stuck:
        raise _refused(schemas[-1], f"column {stuck[0]} has a name that another column has at the destination")
    by_name = after_renames(present, done)
    statements = [sql.rename_column(layout.id, old, new) for old, new in done]
    optional = {number for number in before if _may_be_null(number, schemas)}
    fills: set[int] = set()
    for number, target, column in zip(sorted(spelled), layout.types, every_column(schemas), strict=True):
        name = spelled[number]
        found = by_name.get(name)
        default = sql.default_of(target, column.fill_value) if column.filling is OldRowValues.CONSTANT else None
        if found is None:
            type_ = sql.constrained(target.spelled, is_compared=not schemas[-1].key)
            statements.append(sql.add_column(layout.id, name, type_, default))
        else:
            if found.not_null and number in optional:
                statements.append(sql.drop_not_null(layout.id, name))
            if _has_new_type(number, schemas) and not found.holds(target):
                if not found.can_become(target):
                    raise _refused(schemas[-1], f"{name} is {found.type} at Snowflake and cannot become {target.type}")
                statements.append(sql.change_type(layout.id, name, target.spelled))
        # A column that exists already may be from an attempt that ended before its values were written.
        is_filled = default is not None or column.filling is not OldRowValues.CONSTANT
        if number not in before and (found is not None or not is_filled):
            fills.add(number)
    return Shape(names=names, renames=bool(done), statements=tuple(statements), fills=frozenset(fills))


def every_column(schemas: Sequence[TableSchema]) -> list[Column]:
    """Return the columns of all schemas in their latest form, in the order of their numbers."""
    columns = {column.number: column for schema in schemas for column in schema.columns}
    return [columns[number] for number in sorted(columns)]


def verify(schemas: Sequence[TableSchema], policy: SchemaPolicy, names: Mapping[int, str]) -> None:
    """Raise `SchemaChangeRefused` when a change from one schema to the next cannot be followed."""
    for before, now in pairwise(schemas):
        raise_refused(schema_changes(before, now), before, now, policy)
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    if twice:
        raise _refused(schemas[-1], f"column {min(twice)} has the name of one that was dropped")


def after_renames(present: Mapping[str, PresentColumn], done: Sequence[tuple[str, str]]) -> dict[str, PresentColumn]:
    """Return the columns of a table by their names after these renames."""
    columns = dict(present)
    for old, new in done:
        columns[new] = columns.pop(old)
    return columns


def _may_be_null(number: int, schemas: Sequence[TableSchema]) -> bool:
    """Return whether a NOT NULL column of the first schema is nullable or missing in a later one."""
    states = [next((column.not_null for column in schema.columns if column.number == number), False) for schema in schemas]
    return states[0] and not all(states)


def _has_new_type(number: int, schemas: Sequence[TableSchema]) -> bool:
    return len({column.type for schema in schemas for column in schema.columns if column.number == number}) > 1


def _refused(table: TableSchema, reason: str) -> SchemaChangeRefused:
    return SchemaChangeRefused(
        f"The columns of table {table.id} have changed at the source: {reason}.",
        "Resync the table: its columns are changed at the destination and its rows copied again.",
    )
