"""One attempt of a run: prepares source and destinations, copies what is not copied yet, and streams until the run stops.

An attempt also ends when the source's catalog changes in a way that the stream does not carry. The next attempt compares
each destination with the current catalog, and copies again, or sets aside, the tables that may have missed changes.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from rosetta_dagster.cdc.change.fingerprint import Fingerprint
from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.types import TypeDefinition
from rosetta_dagster.cdc.config.masks import masking_of
from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    GapPolicy,
    PartitionDropPolicy,
    PipelineConfig,
    TableState,
)
from rosetta_dagster.cdc.copy.concurrent import ConcurrentCopies
from rosetta_dagster.cdc.destination.base import Destination, Held, StreamIdentity
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import ConfigurationError, StreamEnded
from rosetta_dagster.cdc.postgres.watched_connection import WatchedConnection
from rosetta_dagster.cdc.report import Phase, Reporter, StateAndReason
from rosetta_dagster.cdc.run.continuity import Continuity, continuity, gap_message, on_timeline, verify_slot, verify_timeline
from rosetta_dagster.cdc.run.copy_budget import CopyBudget
from rosetta_dagster.cdc.run.discarded_copies import discarded_copies
from rosetta_dagster.cdc.run.engine import engine_of
from rosetta_dagster.cdc.run.gc_policy import RareCollections
from rosetta_dagster.cdc.run.pattern_watch import PatternWatch
from rosetta_dagster.cdc.run.source_watch import SourceWatch
from rosetta_dagster.cdc.source.base import Stream
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.feeders import read_feeders
from rosetta_dagster.cdc.source.fingerprint import read_fingerprints
from rosetta_dagster.cdc.source.heartbeat import Heartbeat
from rosetta_dagster.cdc.source.preflight import Check, Finding, preflight, raise_findings
from rosetta_dagster.cdc.source.publications import ensure_publications, existing_publications, is_own
from rosetta_dagster.cdc.source.slots import (
    SlotState,
    SnapshotStopped,
    advance_slot,
    current_lsn,
    read_slot,
    release_slot,
    source_identity,
)
from rosetta_dagster.cdc.source.timeline import Timelines, read_timelines
from rosetta_dagster.cdc.source.type_definitions import read_type_definitions
from rosetta_dagster.cdc.stream.broken_tables import BrokenTables
from rosetta_dagster.cdc.stream.copies import copy_with_new_slot, start_concurrent_copy, start_partition_copy
from rosetta_dagster.cdc.stream.masked_stream import MaskedStream
from rosetta_dagster.cdc.stream.replica import Replica
from rosetta_dagster.cdc.stream.replicate import replicate
from rosetta_dagster.cdc.table_id import TableId

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PreparedSource:
    """What an attempt knows of the source before it begins."""

    identity: StreamIdentity
    #: Without the tables that are set aside everywhere, and those that cannot be replicated as they are. With their masks.
    schemas: dict[TableId, TableSchema]
    #: The same as the source has them.
    unmasked: dict[TableId, TableSchema]
    #: Tables that cannot be replicated as they are, and why.
    refused: Mapping[TableId, str]
    #: Tables that cannot be copied, and why; the stream needs no right to read them.
    unreadable: Mapping[TableId, str]
    #: Every table of the pipeline that exists.
    fingerprints: Mapping[TableId, Fingerprint]
    timelines: Timelines
    #: The publications that exist.
    publications: tuple[str, ...]
    #: None when the slot has still to be created.
    slot: SlotState | None


class Ended(Enum):
    """Why an attempt ended without an error."""

    STOPPED = auto()
    SOURCE_CHANGED = auto()


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
    #: The number of the last inspection that somebody asked for.
    requested_inspection: Callable[[], int]
    budget: CopyBudget = field(default_factory=CopyBudget)

    def run(self) -> Ended:
        """Replicate until the run is stopped, or until the source's catalog has changed. Return which of the two happened.

        Every connection and thread has ended on return. Raise the first error.
        """
        self.reporter.enter(Phase.STARTING)
        inspection = self.requested_inspection()
        findings = preflight(self.config)
        raise_findings(findings, [table.id for table in self.config.tables])
        source = self._prepare_source(findings)
        with ExitStack() as stack:
            replicas = [self._open_destination(each, source, stack) for each in self.config.destinations]
            self.reporter.begin({each.destination.name: _states(source, each) for each in replicas})
            verify_slot(self.config, source.slot, [replica.held for replica in replicas])
            if source.slot is not None:
                self._advance_slot_if_nothing_continues(replicas)
            else:
                try:
                    copy_with_new_slot(self.config, source.schemas, replicas, self.reporter, self.stopped)
                except SnapshotStopped:
                    return Ended.STOPPED
            for replica in replicas:
                start_concurrent_copy(self.config, source.schemas, replica, self.reporter)
                self._start_partition_copy(source, replica)
            # The catalog was read after that request, and the tables that are to be copied are reported as PENDING by now.
            self.reporter.inspected(inspection)
            return self._stream(source, replicas)

    def _prepare_source(self, findings: Sequence[Finding]) -> _PreparedSource:
        # The first finding of a table counts, so it comes last here.
        errors = [finding for finding in reversed(findings) if finding.is_error and finding.table is not None]
        unreadable = {each.table: str(each) for each in errors if each.table and each.check is Check.PRIVILEGES}
        refused = {each.table: str(each) for each in errors if each.table and each.table not in unreadable}
        tables = [table.id for table in self.config.tables if table.id not in refused]
        timelines = read_timelines(self.config.source.connection)
        with source_errors(self.config.source.connection), connect(self.config.source.connection) as connection:
            ensure_publications(connection, self.config, read_schemas(connection, tables).values())
            identity = self._identify(connection)
            release_slot(connection, self.config.slot_name)
            publications = existing_publications(connection, self.config)
            unmasked = self._read_schemas(connection, tables, publications, timelines)
            found = dict(read_fingerprints(connection, publications, [table.id for table in self.config.tables]))
            return _PreparedSource(
                identity=identity,
                schemas=masking_of(self.config).schemas(unmasked),
                unmasked=unmasked,
                refused=refused,
                unreadable=unreadable,
                fingerprints=found,
                timelines=timelines,
                publications=publications,
                slot=read_slot(connection, self.config.slot_name),
            )

    def _identify(self, connection: WatchedConnection) -> StreamIdentity:
        identity = source_identity(connection)
        return StreamIdentity(
            pipeline=self.config.name,
            system_identifier=identity.system_identifier,
            slot_name=self.config.slot_name,
            database_oid=identity.database_oid,
            feeders=read_feeders(connection, [table.id for table in self.config.tables]),
        )

    def _read_schemas(
        self,
        connection: WatchedConnection,
        tables: Sequence[TableId],
        publications: Sequence[str],
        timelines: Timelines,
    ) -> dict[TableId, TableSchema]:
        """Return the schemas of these tables, without those that are set aside everywhere."""
        wanted = [table for table in tables if not self.broken.is_everywhere(table)]
        found = read_schemas(connection, wanted, publications)
        return {table: schema.on_timeline(timelines.current) for table, schema in found.items()}

    def _open_destination(self, destination_config: DestinationConfig, source: _PreparedSource, stack: ExitStack) -> Replica:
        """Open the destination. The stack ends its threads, and then closes it."""
        destination, held = self._open_continued(destination_config, source)
        stack.callback(destination.close)
        unreadable = {table: why for table, why in source.unreadable.items() if table not in held.copied}
        set_aside = {**unreadable, **source.refused, **self.broken.at(destination_config.name), **held.set_aside}
        copies = ConcurrentCopies()
        replica = Replica(destination, held, reporter=self.reporter, copies=copies, set_aside=set_aside)
        stack.callback(replica.close)
        stack.callback(copies.close)
        destination.prepare([schema for table, schema in source.schemas.items() if table not in set_aside])
        return replica

    def _open_continued(self, destination_config: DestinationConfig, source: _PreparedSource) -> tuple[Destination, Held]:
        """Open the destination. Discard the copies that the stream cannot continue, and open it again if there are any."""
        while True:
            destination = make_destination(destination_config, self.config)
            with ExitStack() as unless_continued:
                unless_continued.callback(destination.close)
                held = destination.open(source.identity, self.is_overdue, self._read_types)
                verify_timeline(held, source.timelines)
                destination.record_fingerprints(on_timeline(held, source.timelines.current))
                if not self._discard_broken_copies(destination, held, source):
                    unless_continued.pop_all()
                    return destination, held

    def _read_types(self, oids: Collection[int]) -> Sequence[TypeDefinition]:
        """Return how types are defined at the source now. Keeps the contract of `TypeReader`."""
        connection = self.config.source.connection
        with source_errors(connection), connect(connection) as catalog:
            return read_type_definitions(catalog, oids)

    def _discard_broken_copies(self, destination: Destination, held: Held, source: _PreparedSource) -> bool:
        """Forget or set aside the copies that the stream cannot continue. Return whether there were any.

        Record the fingerprints of the others, so that what comes next is compared with the source as it is now.
        """
        found = self._continuity(held, source)
        destination.record_fingerprints(found.moved)
        discarded = discarded_copies(
            held,
            declared={table.id for table in self.config.tables},
            replicated=source.schemas.keys() | self.broken.at(destination.name).keys(),
            refused=source.refused,
            missed=found.gaps,
            reselected=found.reselected,
            exhausted=self._exhausted(destination, found),
            exposed=found.exposed,
            partly_copied=self.config.partly_copied.keys(),
            suspended={table.id for table in self.config.paused if table.copied_rows is not None},
            policy=self.config.on_gap,
        )
        for table, reason in discarded.missed.items():
            _logger.warning("Pipeline %s, destination %s, table %s: %s.", self.config.name, destination.name, table, reason)
            if table not in discarded.forgotten:
                destination.set_aside(table, gap_message(self.config.name, table, reason))
        if discarded.forgotten:
            destination.forget(sorted(discarded.forgotten))
        return bool(discarded.forgotten or discarded.missed)

    def _exhausted(self, destination: Destination, found: Continuity) -> frozenset[TableId]:
        """Count the copies that unpublished changes would lead to. Return the tables that were copied too often already."""
        if self.config.on_gap is GapPolicy.STOP_TABLE:
            return frozenset()
        return frozenset(table for table in found.unpublished if not self.budget.take(destination.name, table))

    def _continuity(self, held: Held, source: _PreparedSource) -> Continuity:
        return continuity(
            held,
            source.schemas,
            follows_oid=self.config.engine is Engine.PGOUTPUT,
            removes=self.config.on_partition_drop is PartitionDropPolicy.FOLLOW,
        )

    def _start_partition_copy(self, source: _PreparedSource, replica: Replica) -> None:
        copies = self._continuity(replica.held, source).partitions
        for copy in copies:
            _logger.warning("Pipeline %s, table %s: partitions were changed.", self.config.name, copy.table.id)
        start_partition_copy(self.config, copies, replica, self.reporter)

    def _advance_slot_if_nothing_continues(self, replicas: Sequence[Replica]) -> None:
        """Advance the slot to now if the stream continues no copy: then nothing needs the changes before.

        A publication that was created again did not exist when these changes were logged, and the server refuses to decode
        them.
        """
        if any(replica.held.copied.keys() - replica.set_aside.keys() for replica in replicas):
            return
        connection = self.config.source.connection
        with source_errors(connection), connect(connection) as catalog:
            lsn = current_lsn(catalog)
            for replica in replicas:
                replica.destination.note(lsn)
            advance_slot(catalog, self.config.slot_name, lsn)

    def _stream(self, source: _PreparedSource, replicas: Sequence[Replica]) -> Ended:
        """Stream until the run is stopped, or until the source's catalog has changed. Return which of the two happened."""
        held = [replica.held for replica in replicas]
        engine = engine_of(self.config, source.unmasked, source.publications, source.timelines.current, held)
        watch, patterns = self._watch(source, replicas), PatternWatch(self.config, self.reporter)
        watermarks = [each.watermark for each in held if each.watermark is not None]
        opened = self._opened(engine.open(watermarks), source)
        with closing(watch), closing(patterns), closing(opened) as stream:
            self.reporter.enter(Phase.STREAMING)
            with RareCollections() as collections, _ended_by_changes(watch):
                replicate(
                    stream,
                    replicas,
                    heartbeat=Heartbeat(self.config.source.connection, self.config.slot_name),
                    reporter=self.reporter,
                    stopped=lambda: self.stopped() or watch.has_changed,
                    duties=[collections.collect_if_due, watch.inspect_if_due, patterns.inspect_if_due],
                )
        return Ended.SOURCE_CHANGED if watch.has_changed and not self.stopped() else Ended.STOPPED

    def _opened(self, stream: Stream, source: _PreparedSource) -> Stream:
        """Return the stream, masked if a table is."""
        masking = masking_of(self.config)
        return MaskedStream(stream, masking, source.schemas) if masking else stream

    def _watch(self, source: _PreparedSource, replicas: Sequence[Replica]) -> SourceWatch:
        masking = masking_of(self.config)

        def record(tables: Sequence[TableSchema]) -> None:
            for replica in replicas:
                replica.wait_until_applied()
                replica.destination.record_fingerprints([masking.schema(table) for table in tables])

        return SourceWatch(
            self.config.source.connection,
            publications=source.publications,
            own_publications=source.publications if self.config.selections and is_own(self.config) else (),
            tables=[table.id for table in self.config.tables],
            growing={table for table, selection in self.config.selections.items() if selection.exclude},
            refused={*source.refused, *set.intersection(*({*replica.set_aside} for replica in replicas))},
            known=source.fingerprints,
            schemas=source.schemas,
            follows_oid=self.config.engine is Engine.PGOUTPUT,
            ignores_dropped=self.config.on_partition_drop is PartitionDropPolicy.KEEP,
            record=record,
            is_copying=lambda: any(replica.copies.is_active for replica in replicas),
            requested_inspection=self.requested_inspection,
            inspected=self.reporter.inspected,
        )


@contextmanager
def _ended_by_changes(watch: SourceWatch) -> Iterator[None]:
    """Suppress an error that ended the stream if the source's catalog has changed: the next attempt starts with what it is.

    An engine may end when its publication is dropped: Debezium while it starts, and any with a server before version 18.
    """
    try:
        yield
    except (StreamEnded, ConfigurationError):
        watch.inspect()
        if not watch.has_changed:
            raise


def _states(source: _PreparedSource, replica: Replica) -> dict[TableId, StateAndReason]:
    """Return the state of each table at one destination, as the attempt begins."""
    copied = replica.held.copied
    states: dict[TableId, StateAndReason] = {
        table: (TableState.STREAMING if table in copied else TableState.PENDING, None) for table in source.schemas
    }
    return states | {table: (TableState.ERROR, reason) for table, reason in replica.set_aside.items()}
