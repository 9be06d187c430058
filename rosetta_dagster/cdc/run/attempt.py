"""One attempt of a run: prepares source and destinations, copies what is not copied yet, and streams until stopped."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, TableState
from rosetta_dagster.cdc.copy.concurrent import ConcurrentCopies
from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import SlotInvalid
from rosetta_dagster.cdc.report import Phase, Reporter
from rosetta_dagster.cdc.run.engine import engine_of
from rosetta_dagster.cdc.run.gc_policy import RareCollections
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.source.preflight import preflight, raise_findings
from rosetta_dagster.cdc.source.publications import ensure_publication
from rosetta_dagster.cdc.source.slots import SlotState, SnapshotStopped, read_slot, release_slot, source_identity
from rosetta_dagster.cdc.stream.broken_tables import BrokenTables
from rosetta_dagster.cdc.stream.copies import copy_with_new_slot, start_concurrent_copy
from rosetta_dagster.cdc.stream.replica import Replica
from rosetta_dagster.cdc.stream.replicate import replicate
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class _PreparedSource:
    """What an attempt knows of the source before it begins."""

    identity: StreamIdentity
    #: Without the tables that are set aside everywhere.
    schemas: dict[TableId, TableSchema]
    #: None when the slot has still to be created.
    slot: SlotState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How a run is attempted: without the tables that broke in earlier attempts."""

    config: PipelineConfig
    broken: BrokenTables
    reporter: Reporter
    #: Whether the run is to stop.
    stopped: Callable[[], bool]
    #: Whether it has been stopping for so long that its work at destinations is to be cancelled.
    is_overdue: Callable[[], bool]

    def run(self) -> None:
        """Replicate until the run is stopped. Every connection and thread has ended on return. Raise the first error."""
        raise_findings(preflight(self.config))
        source = self._prepare_source()
        with ExitStack() as stack:
            replicas = [self._open_destination(row, source, stack) for row in self.config.destinations]
            for replica in replicas:
                self._report_states(source, replica)
            _verify_slot(self.config, source.slot, [replica.held for replica in replicas])
            if source.slot is None:
                try:
                    copy_with_new_slot(self.config, source.schemas, replicas, self.reporter, self.stopped)
                except SnapshotStopped:
                    return
            for replica in replicas:
                start_concurrent_copy(self.config, source.schemas, replica, self.reporter)
            self._stream(source, replicas)

    def _prepare_source(self) -> _PreparedSource:
        config = self.config
        tables = [table.id for table in config.tables]
        with source_errors(config.source.connection), connect(config.source.connection) as connection:
            ensure_publication(connection, config.publication_name, tables)
            identity = source_identity(connection)
            release_slot(connection, config.slot_name)
            return _PreparedSource(
                identity=StreamIdentity(
                    pipeline=config.name, system_identifier=identity.system_identifier, slot_name=config.slot_name
                ),
                schemas=read_schemas(connection, [table for table in tables if not self.broken.is_everywhere(table)]),
                slot=read_slot(connection, config.slot_name),
            )

    def _open_destination(self, row: DestinationConfig, source: _PreparedSource, stack: ExitStack) -> Replica:
        """Open the destination of this row. The stack ends its threads, and then closes it."""
        destination = make_destination(row, self.config)
        stack.callback(destination.close)
        held = destination.open(source.identity, self.is_overdue)
        # Tables that were removed from the pipeline miss changes: one that is added again is copied from scratch.
        removed = held.copied.keys() - {table.id for table in self.config.tables}
        if removed:
            destination.forget(sorted(removed))
        copies, set_aside = ConcurrentCopies(), {**self.broken.at(row.name), **held.set_aside}
        replica = Replica(destination, held, reporter=self.reporter, copies=copies, set_aside=set_aside)
        stack.callback(replica.close)
        stack.callback(copies.close)
        destination.prepare([schema for table, schema in source.schemas.items() if table not in set_aside])
        return replica

    def _report_states(self, source: _PreparedSource, replica: Replica) -> None:
        copied = replica.held.copied
        for table in source.schemas:
            self.reporter.table(table, TableState.STREAMING if table in copied else TableState.PENDING)
        for table, reason in replica.set_aside.items():
            self.reporter.table(table, TableState.ERROR, reason)

    def _stream(self, source: _PreparedSource, replicas: Sequence[Replica]) -> None:
        held = [replica.held for replica in replicas]
        engine = engine_of(self.config, source.schemas, held)
        with closing(engine.open([each.watermark for each in held if each.watermark is not None])) as stream:
            self.reporter.enter(Phase.STREAMING)
            with RareCollections() as collections:
                replicate(
                    stream,
                    replicas,
                    heartbeat=Heartbeat(self.config.source.connection, self.config.slot_name),
                    reporter=self.reporter,
                    stopped=self.stopped,
                    duties=[collections.collect_if_due],
                )


def _verify_slot(config: PipelineConfig, slot: SlotState | None, held: Sequence[Held]) -> None:
    """Raise `SlotInvalid` if the stream would begin after a gap: a destination continues only from the slot it came from."""
    remedy = f"Pause the pipeline and run: rosetta resync {config.name}. It copies all tables again, with a new slot."
    if slot is None and any(each.watermark or each.copied for each in held):
        raise SlotInvalid(
            f"Replication slot {config.slot_name} is missing. Changes since the last run are lost to the stream.",
            remedy,
        )
    if slot is not None and not all(each.is_continued_by(slot.confirmed_flush_lsn) for each in held):
        raise SlotInvalid(
            f"Replication slot {config.slot_name} is ahead of what the destination holds: it was created again, or another "
            "client has read from it. The changes in between are lost to the stream.",
            remedy,
        )
