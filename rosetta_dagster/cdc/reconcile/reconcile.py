"""Reconciles the tables of a pipeline with each destination: compares them, and repairs what differs if requested."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, cast

import psycopg

from rosetta_dagster.cdc.change.masking import block_masker, is_masked, masked_shape
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.masks import masking_of
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, checked
from rosetta_dagster.cdc.destination.postgres.config import PostgresDestinationConfig
from rosetta_dagster.cdc.destination.registry import kind_of
from rosetta_dagster.cdc.errors import (
    ConfigurationError,
    DestinationRejected,
    DestinationUnavailable,
    NotCaughtUp,
    RosettaError,
)
from rosetta_dagster.cdc.postgres.connections import connect
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.reconcile.comparison import Comparison, Difference, Outcome, compare
from rosetta_dagster.cdc.reconcile.progress import wait_until_caught_up
from rosetta_dagster.cdc.reconcile.repair import repair
from rosetta_dagster.cdc.reconcile.side import Side
from rosetta_dagster.cdc.source import connections
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.publications import publications_of
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The result for one table at one destination."""

    destination: str
    table: TableId
    #: None when it could not be compared.
    comparison: Comparison | None = None
    #: Rows that still differ after the repair; all that differ if none was requested.
    left: tuple[Difference, ...] = field(default=())
    #: Why it could not be compared.
    problem: str | None = None
    #: Masked columns, which were not compared: their values at the source are others.
    left_out: tuple[str, ...] = field(default=())

    @property
    def repaired_count(self) -> int:
        return len(self.comparison.differences) - len(self.left) if self.comparison else 0


def reconcile(
    config: PipelineConfig, *, tables: Collection[TableId] = (), repairs: bool = False
) -> Iterator[Reconciliation]:
    """Compare these tables, or all, with every destination. Yield each result when it is known.

    `repairs` decides whether the rows that differ are repaired. The pipeline has to be running: `NotCaughtUp` otherwise.
    """
    source = config.source.connection
    wanted = [table.id for table in config.tables if not tables or table.id in tables]
    if unknown := set(tables) - set(wanted):
        raise ConfigurationError(
            f"Pipeline {config.name} has no table {', '.join(map(str, sorted(unknown)))}.", "Name tables as the source does."
        )
    with connections.source_errors(source), connections.connect(source) as connection:
        schemas = read_masked(connection, config, wanted)
    for row in config.destinations:
        for table in wanted:
            yield _table(config, row, table, schemas.get(table), repairs=repairs)


def read_masked(
    connection: "psycopg.Connection[Any]", config: PipelineConfig, tables: Sequence[TableId]
) -> dict[TableId, TableSchema]:
    """Return these tables with their masked columns as the destinations have them. No salt is needed for it."""
    found = read_schemas(connection, tables, publications_of(config))
    return {table: masked_shape(schema, config.masks.get(table, {})) for table, schema in found.items()}


def _table(
    config: PipelineConfig, row: DestinationConfig, table: TableId, schema: TableSchema | None, *, repairs: bool
) -> Reconciliation:
    problem = obstacle(row, schema) or _incomplete(config, table)
    if problem is not None or schema is None:
        return Reconciliation(destination=row.name, table=table, problem=problem)
    try:
        comparison, left = _compared_by(row.type)(config, row, schema, repairs=repairs)
    except NotCaughtUp:
        raise
    except RosettaError as error:
        return Reconciliation(destination=row.name, table=table, problem=str(error))
    left_out = tuple(column.name for column in schema.columns if column.mask is not None)
    return Reconciliation(destination=row.name, table=table, comparison=comparison, left=left, left_out=left_out)


def obstacle(row: DestinationConfig, schema: TableSchema | None) -> str | None:
    """Return why the table cannot be compared row by row at this destination; None when it can."""
    if not kind_of(row.type, row.name).is_reconciled:
        return f"Destinations of type {row.type} cannot be compared row by row."
    if schema is None:
        return "The source has no such table."
    if row.type != "POSTGRES" and is_masked(schema):
        return "It has masked columns; such tables are compared row by row at PostgreSQL destinations only."
    if any(column.mask is not None and column.name in schema.key for column in schema.columns):
        return "A column of the table's key is masked, so that its rows cannot be found by the source's keys."
    return None if schema.key else "The table has no key that identifies its rows."


def _incomplete(config: PipelineConfig, table: TableId) -> str | None:
    if table not in config.partly_copied:
        return None
    return (
        "It began without some of its rows (initial, copy_where): those that the destination does not have may never have "
        "been copied. To compare all rows, remove initial and copy_where, and resync the table."
    )


def _with_postgres(config: PipelineConfig, row: DestinationConfig, schema: TableSchema, *, repairs: bool) -> Outcome:
    with ExitStack() as stack:
        here, there, catch_up = opened_sides(config, row, schema, stack)
        comparison = compare(here, there, catch_up)
        left = repair(here, there, comparison.differences, catch_up) if repairs else comparison.differences
    return Outcome(comparison, left)


def opened_sides(
    config: PipelineConfig, row: DestinationConfig, schema: TableSchema, stack: ExitStack
) -> tuple[Side, Side, Callable[[], Lsn]]:
    """Return the table at the source and at the destination, and what waits until the destination has caught up.

    The destination is PostgreSQL. The schema has the table's masks: rows of the source are masked by it. The stack closes
    the connections.
    """
    source = config.source.connection
    target = checked(PostgresDestinationConfig, row.config, f"The config of destination {row.name}")
    translation = Translation(
        who=f"destination {row.name}", unavailable=DestinationUnavailable, rejected=DestinationRejected
    )
    name = next(each for each in config.tables if each.id == schema.id).target(target.namespace)
    there = stack.enter_context(connect(target, translation))
    stack.enter_context(connections.source_errors(source))
    here = stack.enter_context(connections.connect(source))
    clock = stack.enter_context(connections.connect(source))
    there.execute(connections.TEXT_FORMS)
    errors, mask = partial(connections.source_errors, source), _mask(config, schema)
    return (
        Side(here, schema.id, schema, errors, row_filter=schema.row_filter, mask=mask),
        Side(there, name, schema, partial(translated, translation)),
        partial(wait_until_caught_up, clock, config.slot_name),
    )


def _mask(config: PipelineConfig, schema: TableSchema) -> Callable[[bytes], bytes] | None:
    """Return what masks rows of the table, which needs the salt once it is called; None when nothing is masked."""
    masking = masking_of(config)

    def masked(block: bytes) -> bytes:
        return block_masker(masking.steps(schema.columns))(block)

    return masked if is_masked(schema) else None


def _with_snowflake(config: PipelineConfig, row: DestinationConfig, schema: TableSchema, *, repairs: bool) -> Outcome:
    # It loads a driver that not every installation has. The kind names what is missing.
    kind_of(row.type, row.name).describe(row.name, row.config)
    module = import_module("rosetta_dagster.cdc.reconcile.snowflake.reconcile")
    return cast(Outcome, module.compared(config, row, schema, repairs=repairs))


def _compared_by(type_: str) -> Callable[..., Outcome]:
    return _with_snowflake if type_ == "SNOWFLAKE" else _with_postgres
