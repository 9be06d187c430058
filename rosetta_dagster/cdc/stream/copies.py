"""Decides when a table is copied: before the stream begins, with the pipeline's first tables, or beside the stream."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.config.masks import masking_of
from rosetta_dagster.cdc.config.pipeline import PartitionDropPolicy, PipelineConfig, TableState
from rosetta_dagster.cdc.copy.partitions import PartitionCopy, copy_partitions
from rosetta_dagster.cdc.copy.snapshot import Copier, CopyObserver, copy_tables
from rosetta_dagster.cdc.report import Phase, Reporter
from rosetta_dagster.cdc.source.publications import publications_of
from rosetta_dagster.cdc.source.slots import exported_snapshot
from rosetta_dagster.cdc.stream.replica import Replica
from rosetta_dagster.cdc.table_id import TableId

#: Characters of the pipeline's slot name that a copy's slot name begins with. PostgreSQL allows 63 in all.
_SLOT_PREFIX_LENGTH = 41


class FirstCopy:
    """Records at the destination how a copy that the stream waits for proceeds. Implements `CopyObserver`."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._point: SnapshotPoint | None = None

    def start(self, tables: Sequence[TableSchema], resumed: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self._point = point
        self._replica.begin_copy(tables, resumed, point)

    def finish(self, table: TableSchema) -> None:
        assert self._point is not None, "a copy starts before it finishes"
        self._replica.complete_copy(table, self._point)


def missing_tables(schemas: Mapping[TableId, TableSchema], replica: Replica) -> list[TableSchema]:
    """Return the tables that the destination has no complete copy of, and that nothing copies yet."""
    known = {*replica.held.copied, *replica.set_aside, *replica.copies.tables}
    return [schema for table, schema in schemas.items() if table not in known]


def copy_with_new_slot(
    config: PipelineConfig,
    schemas: Mapping[TableId, TableSchema],
    replicas: Sequence[Replica],
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """Create the pipeline's slot and copy every table as of that point. `SnapshotStopped` when the run is stopped.

    After an error the slot stays if rows were copied that a later run can continue from.
    """
    source = config.source.connection
    reporter.enter(Phase.SNAPSHOT)
    copiers = [_copier(config, replica, reporter, stopped) for replica in replicas]
    with exported_snapshot(
        source,
        config.slot_name,
        stopped=stopped,
        is_needed=lambda: any(copier.has_resumable_rows for copier in copiers),
        report_wait=_report_wait(schemas.values(), replicas),
    ) as point:
        for copier, replica in zip(copiers, replicas, strict=True):
            tables = missing_tables(schemas, replica)
            copy_tables(copier, tables, replica.held.begun, point, FirstCopy(replica))


def start_concurrent_copy(
    config: PipelineConfig, schemas: Mapping[TableId, TableSchema], replica: Replica, reporter: Reporter
) -> None:
    """Start to copy the tables that the destination misses, beside the stream; nothing happens when it misses none."""
    tables = missing_tables(schemas, replica)
    if not tables:
        return
    source, begun = config.source.connection, replica.held.begun

    def copy(observer: CopyObserver, stopped: Callable[[], bool]) -> None:
        slot_name = temporary_slot_name(config.slot_name)
        report_wait = _report_wait(tables, [replica])
        with exported_snapshot(source, slot_name, stopped=stopped, temporary=True, report_wait=report_wait) as point:
            copy_tables(_copier(config, replica, reporter, stopped), tables, begun, point, observer)

    replica.copies.start(tables, copy)


def _copier(config: PipelineConfig, replica: Replica, reporter: Reporter, stopped: Callable[[], bool]) -> Copier:
    keeps = config.on_partition_drop is PartitionDropPolicy.KEEP
    publications = publications_of(config)
    return Copier(
        config.source.connection,
        replica.destination,
        reporter,
        stopped,
        publications,
        keeps_partitions=keeps,
        partly_copied=config.partly_copied,
        masking=masking_of(config),
    )


def _report_wait(tables: Iterable[TableSchema], replicas: Sequence[Replica]) -> Callable[[str], None]:
    """Return what shows on each table while its copy to these destinations waits."""

    def report(text: str) -> None:
        for replica in replicas:
            for table in tables:
                replica.report(table.id, TableState.PENDING, text)

    return report


def start_partition_copy(
    config: PipelineConfig,
    copies: Sequence[PartitionCopy],
    replica: Replica,
    reporter: Reporter,
) -> None:
    """Start to copy changed partitions again, beside the stream; nothing happens when there are none."""
    if not copies:
        return
    source, tables = config.source.connection, [each.table for each in copies]
    # Changes wait in memory while the watermark moves past them. A run that ends before they are applied leaves a copy that
    # does not count, so the next run copies the whole table.
    replica.destination.forget([table.id for table in tables])
    # Their changes go into spools from now on: the slot's position is no longer that of these tables.
    for table in tables:
        replica.report(table.id, TableState.PENDING)

    def copy(observer: CopyObserver, stopped: Callable[[], bool]) -> None:
        slot_name = temporary_slot_name(config.slot_name)
        report_wait = _report_wait(tables, [replica])
        with exported_snapshot(source, slot_name, stopped=stopped, temporary=True, report_wait=report_wait) as point:
            copy_partitions(_copier(config, replica, reporter, stopped), copies, point, observer)

    replica.copies.start(tables, copy, is_partial=True)


def temporary_slot_name(slot_name: str) -> str:
    """Return a name for the slot of one copy that no other slot has: not another pipeline's, nor one of a run that died."""
    return f"{slot_name[:_SLOT_PREFIX_LENGTH]}_copy_{secrets.token_hex(8)}"
