"""One run of a pipeline, start to stop: make ready, copy what is not copied yet, stream until told to stop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rosetta_dagster.cdc.config import PipelineConfig
from rosetta_dagster.cdc.destination.base import StreamIdentity
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import SlotInvalid
from rosetta_dagster.cdc.pipeline import Replica, replicate
from rosetta_dagster.cdc.position import Engine
from rosetta_dagster.cdc.report import Phase, Reporter
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.snapshot import Copier, SnapshotStopped, copy_tables
from rosetta_dagster.cdc.source.base import Source
from rosetta_dagster.cdc.source.catalog import read_schemas, type_name
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.debezium.stream import DebeziumSource
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputSource
from rosetta_dagster.cdc.source.preflight import preflight, raise_findings
from rosetta_dagster.cdc.source.publications import ensure_publication
from rosetta_dagster.cdc.source.slots import (
    ConsistentPoint,
    SlotState,
    exported_snapshot,
    read_slot,
    release_slot,
    source_identity,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What a run knows of the source before it begins."""

    identity: StreamIdentity
    schemas: dict[TableId, TableSchema]
    #: None when the slot has still to be made.
    slot: SlotState | None


def run_pipeline(config: PipelineConfig, *, reporter: Reporter, stopped: Callable[[], bool]) -> None:
    """Run the pipeline until told to stop. Every connection and thread of the run has ended on return."""
    raise_findings(preflight(config))
    prepared = _prepare_source(config)
    with ExitStack() as stack:
        replicas = _open_destinations(config, prepared, stack)
        _verify_slot(config, prepared.slot, replicas)
        try:
            _copy_missing(config, prepared, replicas, reporter, stopped)
        except SnapshotStopped:
            return
        _stream(config, prepared, replicas, reporter, stopped)


def _prepare_source(config: PipelineConfig) -> _Prepared:
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
            schemas=read_schemas(connection, tables),
            slot=read_slot(connection, config.slot_name),
        )


def _open_destinations(config: PipelineConfig, prepared: _Prepared, stack: ExitStack) -> list[Replica]:
    replicas = []
    for row in config.destinations:
        destination = make_destination(row, config)
        stack.callback(destination.close)
        replicas.append(Replica(destination, destination.open(prepared.identity)))
        destination.prepare(list(prepared.schemas.values()))
    return replicas


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


def _copy_missing(
    config: PipelineConfig,
    prepared: _Prepared,
    replicas: Sequence[Replica],
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """Copy to each destination the tables whose copy it does not hold, as of one point for all."""
    missing = {
        index: [table for table in prepared.schemas.values() if table.id not in replica.held.copied]
        for index, replica in enumerate(replicas)
    }
    if prepared.slot is not None and not any(missing.values()):
        return
    reporter.enter(Phase.SNAPSHOT)
    finished: list[TableSchema] = []
    with _consistent_point(config, prepared.slot, is_needed=lambda: bool(finished)) as point:
        for index, tables in missing.items():
            copier = Copier(config.source.connection, point, replicas[index].destination, reporter, stopped)
            seen = copy_tables(copier, tables, finished)
            replicas[index].copied(tables, seen)


@contextmanager
def _consistent_point(
    config: PipelineConfig, slot: SlotState | None, *, is_needed: Callable[[], bool]
) -> Iterator[ConsistentPoint]:
    """The point that copies are of: that of the pipeline's slot when it is made now, else of a slot made for this."""
    source = config.source.connection
    if slot is None:
        with exported_snapshot(source, config.slot_name, is_needed=is_needed) as point:
            yield point
    else:
        with exported_snapshot(source, f"{config.slot_name[:50]}_copy", temporary=True) as point:
            yield point


def _stream(
    config: PipelineConfig,
    prepared: _Prepared,
    replicas: Sequence[Replica],
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    stream = _source(config, prepared).open([r.held.watermark for r in replicas if r.held.watermark is not None])
    try:
        reporter.enter(Phase.STREAMING)
        heartbeat = Heartbeat(config.source.connection, config.slot_name)
        replicate(stream, replicas, heartbeat=heartbeat, reporter=reporter, stopped=stopped)
    finally:
        stream.close()


def _source(config: PipelineConfig, prepared: _Prepared) -> Source:
    connection = config.source.connection

    def read_schema(table: TableId) -> TableSchema | None:
        with source_errors(connection), connect(connection) as catalog:
            return read_schemas(catalog, [table]).get(table)

    def read_type_name(oid: int, modifier: int) -> str:
        with source_errors(connection), connect(connection) as catalog:
            return type_name(catalog, oid, modifier)

    with source_errors(connection), connect(connection) as catalog:
        slot = read_slot(catalog, config.slot_name)
    assert slot is not None, "it was made or found above"
    if config.engine is Engine.PGOUTPUT:
        return PgoutputSource(
            connection=connection,
            slot_name=config.slot_name,
            publication_name=config.publication_name,
            schemas=prepared.schemas,
            read_schema=read_schema,
            type_name=read_type_name,
            confirmed_flush_lsn=slot.confirmed_flush_lsn,
        )
    return DebeziumSource(
        connection=connection,
        slot_name=config.slot_name,
        publication_name=config.publication_name,
        schemas=prepared.schemas,
        read_schema=read_schema,
        confirmed_flush_lsn=slot.confirmed_flush_lsn,
    )
