"""Compares one table of a pipeline with Snowflake, and repairs what differs if requested."""

from contextlib import ExitStack
from functools import partial

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, checked
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import connect
from rosetta_dagster.cdc.destination.snowflake.layout import layout_of
from rosetta_dagster.cdc.destination.snowflake.login import log_in_of
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.reconcile.comparison import Outcome, compare
from rosetta_dagster.cdc.reconcile.progress import wait_until_caught_up
from rosetta_dagster.cdc.reconcile.snowflake.columns import ComparedColumns
from rosetta_dagster.cdc.reconcile.snowflake.repair import SnowflakeRepair
from rosetta_dagster.cdc.reconcile.snowflake.sides import SnowflakeSide, SourceSide
from rosetta_dagster.cdc.source import connections


def compared(config: PipelineConfig, row: DestinationConfig, schema: TableSchema, *, repairs: bool) -> Outcome:
    """Compare the table, and repair the rows that differ if `repairs` is set. The pipeline has to be running."""
    source = config.source.connection
    target = checked(SnowflakeDestinationConfig, row.config, f"The config of destination {row.name}")
    columns = _columns(config, target, schema)
    log_in, tag = log_in_of(target), f"rosetta {config.name}"
    open_session = partial(connect, target, log_in, who=f"destination {row.name}", tag=tag)
    with ExitStack() as stack:
        session = stack.enter_context(open_session())
        stack.enter_context(connections.source_errors(source))
        here = stack.enter_context(connections.connect(source))
        clock = stack.enter_context(connections.connect(source))
        sides = SourceSide(here, columns, partial(connections.source_errors, source)), SnowflakeSide(session, columns)
        catch_up = partial(wait_until_caught_up, clock, config.slot_name)
        comparison = compare(*sides, catch_up)
        left = comparison.differences
        if repairs:
            left = SnowflakeRepair(*sides, open_session, config.name).run(left, catch_up)
    return Outcome(comparison, left)


def _columns(config: PipelineConfig, target: SnowflakeDestinationConfig, schema: TableSchema) -> ComparedColumns:
    name = next(each for each in config.tables if each.id == schema.id).target(target.namespace)
    columns = ComparedColumns(schema, layout_of(schema, name, target), target.values)
    if columns.unhashed_key:
        raise ConfigurationError(
            f"Table {schema.id} cannot be compared with Snowflake: its key has the column {columns.unhashed_key[0]}, whose "
            "values have no text that both sides compute.",
            "Compare its number of rows, which rosetta status shows.",
        )
    return columns
