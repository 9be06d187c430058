"""Decides whether the columns of tables can be masked as they are to be, before any value is copied."""

from collections.abc import Iterator, Mapping

from rosetta_dagster.cdc.change.mask import misfit
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.masks import masking_of
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.config.wording import nearest
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, problem
from rosetta_dagster.cdc.table_id import TableId


def about_masks(config: PipelineConfig, schemas: Mapping[TableId, TableSchema]) -> Iterator[Finding]:
    """Yield what keeps columns from being masked. `schemas` have every column that is logged."""
    try:
        _ = masking_of(config).salt
    except ConfigurationError as error:
        yield problem(Check.MASK, error.message, error.remedy)
    for table, rules in config.masks.items():
        if table in schemas:
            for column, name in rules.items():
                yield from _about_column(schemas[table], column, name)


def _about_column(table: TableSchema, name: str, mask: str) -> Iterator[Finding]:
    column = next((each for each in table.columns if each.name == name), None)
    if column is None:
        near = nearest(name, table.column_names)
        # A column that was renamed would arrive unmasked under its new name.
        yield problem(
            Check.MASK,
            f"Table {table.id} has no column {name}, which mask names{f'; did you mean {near}' if near else ''}.",
            "Correct mask of the table; names are case-sensitive.",
            table.id,
        )
    elif why := misfit(column, mask, is_key=name in table.key):
        yield problem(
            Check.MASK,
            f"Column {name} of table {table.id} cannot have the mask {mask}: {why}.",
            "Give it another mask, or exclude it.",
            table.id,
        )
