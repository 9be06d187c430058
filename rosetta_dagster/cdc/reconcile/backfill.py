"""Brings rows with a condition to the destinations while the stream runs: those that are missing or differ.

Rows are read in the order of their keys, some thousands at a time, so that no snapshot is held for long. Each is written as
a repair writes it: the stream's later changes replace it, and what the stream has just written stays. So a
backfill can end at any time, and a second one brings what the first has not.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, Status, TableState
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.reconcile import sql
from rosetta_dagster.cdc.reconcile.comparison import Difference, Kind
from rosetta_dagster.cdc.reconcile.reconcile import obstacle, opened_sides, read_masked
from rosetta_dagster.cdc.reconcile.repair import repair
from rosetta_dagster.cdc.reconcile.side import Side
from rosetta_dagster.cdc.reconcile.sql import Key
from rosetta_dagster.cdc.source import connections
from rosetta_dagster.cdc.source.preflight import condition_error
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId

#: Rows between two reports. After each such part the stream has to catch up, which takes about a second.
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """How far the backfill of a table at one destination is."""

    destination: str
    table: TableId
    #: Rows with the condition that were read.
    read_count: int = 0
    #: Those of them that the destination did not have, or had otherwise.
    brought_count: int = 0
    #: Those that still differ, since the source keeps changing them: the stream brings them.
    in_flight_count: int = 0
    is_complete: bool = False


def backfill(store: Store, pipeline: str, table: TableId, condition: str) -> Iterator[Backfill]:
    """Bring the rows with the condition to every destination. Yield how far it is after each part of the rows.

    `ConfigurationError` unless the pipeline streams the table, which has a key, and the condition is one.
    """
    config = store.pipeline(pipeline)
    _refuse_unless_streamed(store, pipeline, table)
    source = config.source.connection
    with connections.source_errors(source), connections.connect(source) as connection:
        schema = read_masked(connection, config, [table]).get(table)
        error = condition_error(connection, table, condition)
    if error is not None:
        raise ConfigurationError(
            f"PostgreSQL does not accept the condition for table {table}: {error}.",
            "Give one condition over columns of the table, and functions with their schemas.",
        )
    for row in config.destinations:
        if schema is None or (problem := refusal(row, schema)) is not None:
            raise ConfigurationError(f"Table {table} cannot be backfilled. {problem or ''}".rstrip(), "Resync it instead.")
    for row in config.destinations:
        assert schema is not None, "refused above"
        yield from _at_destination(config, row, schema, condition)


def refusal(row: DestinationConfig, schema: TableSchema) -> str | None:
    """Return why a backfill cannot write the table at this destination; None when it can."""
    if row.type == "SNOWFLAKE":
        return f"Destination {row.name} is Snowflake, and a backfill writes to PostgreSQL only."
    return obstacle(row, schema)


def _refuse_unless_streamed(store: Store, pipeline: str, table: TableId) -> None:
    if store.status(pipeline) is Status.PAUSE:
        raise ConfigurationError(
            f"Pipeline {pipeline} is paused, so it cannot catch up.", f"Start it: rosetta start {pipeline}"
        )
    record = next((record for record in store.tables(pipeline) if record.id == table), None)
    if record is None:
        raise ConfigurationError(f"Pipeline {pipeline} has no table {table}.", f"List them with: rosetta status {pipeline}")
    if record.state is not TableState.STREAMING:
        raise ConfigurationError(
            f"Table {table} is in state {record.state}.", "Wait until it is STREAMING, or resync it if it is set aside."
        )


def _at_destination(
    config: PipelineConfig, row: DestinationConfig, schema: TableSchema, condition: str
) -> Iterator[Backfill]:
    done = Backfill(destination=row.name, table=schema.id)
    with ExitStack() as stack:
        here, there, catch_up = opened_sides(config, row, schema, stack)
        wanted = here.where(condition)
        last: Key | None = None
        while keys := _next_keys(wanted, last):
            last = keys[-1]
            differences = _differences(here, there, keys)
            left = repair(here, there, differences, catch_up)
            done = replace(
                done,
                read_count=done.read_count + len(keys),
                brought_count=done.brought_count + len(differences) - len(left),
                in_flight_count=done.in_flight_count + len(left),
            )
            yield done
    yield replace(done, is_complete=True)


def _next_keys(side: Side, last: Key | None) -> list[Key]:
    with side.errors():
        query = sql.keys_after(side.own_rows, side.schema, last, ROWS_AT_ONCE)
        return [tuple(key) for (key,) in side.connection.execute(query)]


def _differences(here: Side, there: Side, keys: list[Key]) -> list[Difference]:
    """Return the rows that the destination does not have as the source has them now. Those in flight may be among them."""
    wanted, found = here.rows_of(keys), there.rows_of(keys)
    return [
        Difference(key=key, kind=Kind.CHANGED if key in found else Kind.MISSING, found=found.get(key))
        for key, row_hash in wanted.items()
        if found.get(key) != row_hash
    ]
