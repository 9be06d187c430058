"""Decides how a Snowflake table differs from the source's, and which statement ends each difference."""

from collections.abc import Iterator, Mapping

from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.destination.base import Drift
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.columns import PresentColumn
from rosetta_dagster.cdc.destination.snowflake.layout import Layout
from rosetta_dagster.cdc.destination.snowflake.types import Target


def drift_of(schema: TableSchema, layout: Layout, present: Mapping[str, PresentColumn]) -> Iterator[Drift]:
    """Return the differences of one table, in the order of the destination's columns."""
    if not present:
        yield _drift(schema, layout, f"Table {layout.id} is missing.", sql.create_table(layout))
        return
    wanted = dict(zip(layout.columns, zip(schema.columns, layout.types, strict=True), strict=True))
    for found in present.values():
        if found.name in wanted:
            yield from _column_drift(schema, layout, found, *wanted[found.name])
        elif found.name != layout.deleted_at:
            yield _extra_column(schema, layout, found)
    for name, (_, target) in wanted.items():
        if name not in present:
            yield _drift(schema, layout, f"Column {name} is missing.", sql.add_column(layout.id, name, target.spelled))


def _column_drift(
    schema: TableSchema, layout: Layout, found: PresentColumn, column: Column, target: Target
) -> Iterator[Drift]:
    if found.type != target.type or found.length < target.length:
        yield _type_drift(schema, layout, found, target)
    if found.not_null and not column.not_null:
        statement = sql.drop_not_null(layout.id, found.name)
        yield _drift(schema, layout, f"Column {found.name} is NOT NULL here only.", statement, breaks=True)


def _type_drift(schema: TableSchema, layout: Layout, found: PresentColumn, target: Target) -> Drift:
    in_place = found.can_become(target) or (found.limits and target.type == "VARCHAR")
    problem = f"Column {found.name} is {found.spelled}, and would be made {target.spelled}."
    statement = sql.change_type(layout.id, found.name, target.spelled)
    if not in_place:
        problem = f"{problem} Snowflake does not change it in place: resync the table after the statement."
        both = (sql.drop_column(layout.id, found.name), sql.add_column(layout.id, found.name, target.spelled))
        statement = "; ".join(both)
    return _drift(schema, layout, problem, statement, breaks=in_place)


def _extra_column(schema: TableSchema, layout: Layout, found: PresentColumn) -> Drift:
    refuses_rows = found.not_null and not found.has_default
    problem = f"Column {found.name} is not at the source{', and is NOT NULL' if refuses_rows else ''}."
    return _drift(schema, layout, problem, sql.drop_column(layout.id, found.name), breaks=refuses_rows)


def _drift(schema: TableSchema, layout: Layout, problem: str, statement: str, *, breaks: bool = False) -> Drift:
    return Drift(table=schema.id, target=str(layout.id), problem=problem, statement=statement, breaks=breaks)
