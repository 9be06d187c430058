"""One run of a pipeline, start to stop: make ready, copy what is not copied yet, stream until told to stop."""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.types import TypeDefinition
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, PostgresConnection, TableState
from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import DestinationUnavailable, SlotInvalid, TerminalError
from rosetta_dagster.cdc.report import Phase, Reporter
from rosetta_dagster.cdc.run.gc_policy import RareCollections
from rosetta_dagster.cdc.source.base import Source
from rosetta_dagster.cdc.source.catalog import read_schemas, type_name
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.debezium.stream import DebeziumSource
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputSource
from rosetta_dagster.cdc.source.preflight import preflight, raise_findings
from rosetta_dagster.cdc.source.publications import ensure_publication
from rosetta_dagster.cdc.source.slots import (
    SlotState,
    SnapshotStopped,
    read_slot,
    release_slot,
    source_identity,
)
from rosetta_dagster.cdc.source.type_definitions import read_type_definitions
from rosetta_dagster.cdc.stream.broken_tables import BrokenTables
from rosetta_dagster.cdc.stream.copies import close_latecomers, copy_with_new_slot, launch_latecomers
from rosetta_dagster.cdc.stream.replica import Replica
from rosetta_dagster.cdc.stream.replicate import replicate
from rosetta_dagster.cdc.table_id import TableId

#: Beyond every LSN.
_NEVER = 1 << 64

#: Seconds that a run which is told to stop goes on with what it is doing at a destination. Its process ends after 30.
STOP_PATIENCE = 10.0


class _Overdue:
    """Whether the run was told to stop long ago."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._noticed_at: float | None = None

    def __call__(self) -> bool:
        if self._noticed_at is None and self._stopped():
            self._noticed_at = time.monotonic()
        return self._noticed_at is not None and time.monotonic() - self._noticed_at >= STOP_PATIENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What an attempt knows of the source before it begins."""

    identity: StreamIdentity
    #: Without the tables that are left out everywhere.
    schemas: dict[TableId, TableSchema]
    #: None when the slot has still to be made.
    slot: SlotState | None


def run_pipeline(config: PipelineConfig, *, reporter: Reporter, stopped: Callable[[], bool]) -> None:
    """Run the pipeline until told to stop. Every connection and thread of the run has ended on return.

    A table that breaks is set aside and the others go on; when the last one breaks, its error is raised.
    """
    broken = BrokenTables(config, partial(_set_aside, config))
    is_overdue = _Overdue(stopped)
    while True:
        try:
            _attempt(config, broken, reporter, stopped, is_overdue)
        except DestinationUnavailable:
            if not stopped():
                raise
            # What was not applied is still in the slot.
            return
        except TerminalError as error:
            if not broken.outlives(error):
                raise
        else:
            return


def _set_aside(config: PipelineConfig, destination: str, table: TableId, reason: str) -> None:
    row = next(row for row in config.destinations if row.name == destination)
    make_destination(row, config).set_aside(table, reason)


def _attempt(
    config: PipelineConfig,
    broken: BrokenTables,
    reporter: Reporter,
    stopped: Callable[[], bool],
    is_overdue: Callable[[], bool],
) -> None:
    raise_findings(preflight(config))
    prepared = _prepare_source(config, broken)
    with ExitStack() as stack:
        replicas = _open_destinations(config, prepared, broken, is_overdue, stack)
        for replica in replicas:
            _report_states(prepared, replica, reporter)
        _verify_slot(config, prepared.slot, replicas)
        if prepared.slot is None:
            try:
                copy_with_new_slot(config, prepared.schemas, replicas, reporter, stopped)
            except SnapshotStopped:
                return
        for number, replica in enumerate(replicas):
            replica.latecomers = launch_latecomers(config, prepared.schemas, replica, number, reporter)
            if replica.latecomers is not None:
                stack.callback(close_latecomers, replica.latecomers)
        _stream(config, prepared, replicas, reporter, stopped)


def _prepare_source(config: PipelineConfig, broken: BrokenTables) -> _Prepared:
    source = config.source.connection
    tables = [table.id for table in config.tables]
    with source_errors(source), connect(source) as connection:
        ensure_publication(connection, config.publication_name, tables)
        identity = source_identity(connection)
        release_slot(connection, config.slot_name)
        return _Prepared(
            identity=StreamIdentity(
                pipeline=config.name, system_identifier=identity.system_identifier, slot_name=config.slot_name
            ),
            schemas=read_schemas(connection, [table for table in tables if not broken.is_everywhere(table)]),
            slot=read_slot(connection, config.slot_name),
        )


def _open_destinations(
    config: PipelineConfig,
    prepared: _Prepared,
    broken: BrokenTables,
    is_overdue: Callable[[], bool],
    stack: ExitStack,
) -> list[Replica]:
    replicas = []
    for row in config.destinations:
        destination = make_destination(row, config)
        stack.callback(destination.close)
        held = destination.open(prepared.identity, is_overdue, partial(_read_types, config.source.connection))
        # Tables that were taken out of the pipeline miss changes from now on: one that comes back is copied anew.
        removed = held.copied.keys() - {table.id for table in config.tables}
        if removed:
            destination.forget(sorted(removed))
        replica = Replica(destination, held, left_out={**broken.at(row.name), **held.set_aside})
        stack.callback(replica.close)
        destination.prepare([schema for table, schema in prepared.schemas.items() if table not in replica.left_out])
        replicas.append(replica)
    return replicas


def _read_types(source: PostgresConnection, oids: Collection[int]) -> Sequence[TypeDefinition]:
    """Read how types are defined at the source now. Keeps the contract of `TypeReader`."""
    with source_errors(source), connect(source) as connection:
        return read_type_definitions(connection, oids)


def _report_states(prepared: _Prepared, replica: Replica, reporter: Reporter) -> None:
    for table in prepared.schemas:
        reporter.table(table, TableState.STREAMING if table in replica.held.copied else TableState.PENDING)
    for table, reason in replica.left_out.items():
        reporter.table(table, TableState.ERROR, reason)


def _verify_slot(config: PipelineConfig, slot: SlotState | None, replicas: Sequence[Replica]) -> None:
    """Refuse to continue over a gap: what a destination holds can only be continued by the slot it came from."""
    remedy = f"Pause the pipeline and run: rosetta resync {config.name}. It copies the tables anew, over a new slot."
    if slot is None and any(replica.held.watermark or replica.held.copied for replica in replicas):
        raise SlotInvalid(
            f"Replication slot {config.slot_name} is gone, so changes since the last run are lost to the stream.", remedy
        )
    if slot is not None and not all(replica.held.is_continued_by(slot.confirmed_flush_lsn) for replica in replicas):
        raise SlotInvalid(
            f"Replication slot {config.slot_name} is ahead of what the destination holds: it was made anew, or somebody "
            "else has read from it. The changes in between are lost to the stream.",
            remedy,
        )


def _stream(
    config: PipelineConfig,
    prepared: _Prepared,
    replicas: Sequence[Replica],
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    source = _source(config, prepared, replicas)
    stream = source.open([r.held.watermark for r in replicas if r.held.watermark is not None])
    try:
        reporter.enter(Phase.STREAMING)
        heartbeat = Heartbeat(config.source.connection, config.slot_name)
        with RareCollections() as collections:
            replicate(
                stream,
                replicas,
                heartbeat=heartbeat,
                reporter=reporter,
                stopped=stopped,
                between=collections.make_if_due,
            )
    finally:
        stream.close()


def schemas_at_the_start(held: Sequence[Held]) -> dict[TableId, TableSchema]:
    """What tables looked like where the stream begins: each as the destination has it that is furthest behind."""
    behind_last = [(_known_up_to(each, table), number, table) for number, each in enumerate(held) for table in each.schemas]
    return {table: held[number].schemas[table] for _, number, table in sorted(behind_last, reverse=True)}


def _known_up_to(held: Held, table: TableId) -> int:
    """The LSN that a table's columns at a destination are of."""
    point = held.copied.get(table)
    applied = held.watermark.position.transaction_lsn if held.watermark is not None else 0
    # Of a copy that is not finished nothing is continued, nor of a table that is set aside.
    return _NEVER if point is None or table in held.set_aside else max(point.lsn, applied)


def _source(config: PipelineConfig, prepared: _Prepared, replicas: Sequence[Replica]) -> Source:
    connection = config.source.connection

    def schemas_now(tables: Sequence[TableId]) -> dict[TableId, TableSchema]:
        with source_errors(connection), connect(connection) as catalog:
            return read_schemas(catalog, tables)

    def read_type_name(oid: int, modifier: int) -> str:
        with source_errors(connection), connect(connection) as catalog:
            return type_name(catalog, oid, modifier)

    with source_errors(connection), connect(connection) as catalog:
        slot = read_slot(catalog, config.slot_name)
    assert slot is not None, "it was made or found above"
    held_schemas = schemas_at_the_start([replica.held for replica in replicas])
    if config.engine is Engine.PGOUTPUT:
        return PgoutputSource(
            connection=connection,
            slot_name=config.slot_name,
            publication_name=config.publication_name,
            schemas=prepared.schemas,
            held_schemas=held_schemas,
            read_schema=lambda table: schemas_now([table]).get(table),
            type_name=read_type_name,
            confirmed_flush_lsn=slot.confirmed_flush_lsn,
        )
    return DebeziumSource(
        connection=connection,
        slot_name=config.slot_name,
        publication_name=config.publication_name,
        schemas=prepared.schemas,
        held_schemas=held_schemas,
        read_schemas=schemas_now,
        confirmed_flush_lsn=slot.confirmed_flush_lsn,
    )
