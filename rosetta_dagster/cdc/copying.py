"""Decides when a table is copied: before the stream begins, with the pipeline's first tables, or beside the stream."""

from collections.abc import Callable, Mapping, Sequence

from rosetta_dagster.cdc.config import PipelineConfig, TableState
from rosetta_dagster.cdc.destination.base import BegunCopy
from rosetta_dagster.cdc.errors import StreamStalled
from rosetta_dagster.cdc.event import Change
from rosetta_dagster.cdc.latecomers import Latecomers
from rosetta_dagster.cdc.pipeline import Replica
from rosetta_dagster.cdc.report import Phase, Reporter
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.snapshot import Copier, Ledger, can_resume, copy_tables, resume_copies
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slots import SlotState, exported_snapshot
from rosetta_dagster.cdc.visibility import SnapshotPoint

#: How long a copy beside the stream may take to end when it is told to, in seconds, before the process has to.
CLOSE_TIMEOUT = 20.0


class FirstCopy:
    """Keeps the books of a copy that the stream waits for. Keeps the contract of `Ledger`."""

    def __init__(self, replica: Replica, reporter: Reporter, points: Mapping[TableId, SnapshotPoint] | None = None) -> None:
        self._replica = replica
        self._reporter = reporter
        self._points = dict(points or {})

    def start(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self._replica.destination.start_copy(tables, point)
        self._points |= {table.id: point for table in tables}
        for table in tables:
            self._reporter.table(table.id, TableState.SNAPSHOT)

    def finish(self, table: TableSchema) -> None:
        self._replica.destination.finish_copy(table)
        self._replica.copied(table.id, self._points[table.id])
        self._reporter.table(table.id, TableState.STREAMING)


def missing_tables(schemas: Mapping[TableId, TableSchema], replica: Replica) -> list[TableSchema]:
    """The tables whose copy the destination does not hold."""
    there = replica.held.copied.keys() | replica.left_out.keys()
    return [schema for table, schema in schemas.items() if table not in there]


def copy_with_new_slot(
    config: PipelineConfig,
    schemas: Mapping[TableId, TableSchema],
    replicas: Sequence[Replica],
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """Make the pipeline's slot, and copy every table as of that point. The slot stays once a range is copied.

    `SnapshotStopped` when told to stop.
    """
    source = config.source.connection
    reporter.enter(Phase.SNAPSHOT)
    copiers = [Copier(source, replica.destination, reporter, stopped) for replica in replicas]
    with exported_snapshot(
        source, config.slot_name, stopped=stopped, is_needed=lambda: any(copier.range_count for copier in copiers)
    ) as point:
        for copier, replica in zip(copiers, replicas, strict=True):
            copy_tables(copier, missing_tables(schemas, replica), point, FirstCopy(replica, reporter))


def resume_first_copy(
    config: PipelineConfig,
    schemas: Mapping[TableId, TableSchema],
    slot: SlotState,
    replica: Replica,
    *,
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """Finish the copies that the slot can still continue. `SnapshotStopped` when told to stop."""
    begun = _resumable(config, missing_tables(schemas, replica), slot, replica)
    if begun:
        reporter.enter(Phase.SNAPSHOT)
        ledger = FirstCopy(replica, reporter, {table: copy.point for table, (_, copy) in begun.items()})
        copier = Copier(config.source.connection, replica.destination, reporter, stopped)
        resume_copies(copier, list(begun.values()), ledger)


def _resumable(
    config: PipelineConfig, tables: Sequence[TableSchema], slot: SlotState, replica: Replica
) -> dict[TableId, tuple[TableSchema, BegunCopy]]:
    """With a watermark, the stream has passed changes that such a copy would need."""
    held, source = replica.held, config.source.connection
    if held.watermark is not None:
        return {}
    with source_errors(source), connect(source) as connection:
        return {
            table.id: (table, held.begun[table.id])
            for table in tables
            if table.id in held.begun
            and slot.confirmed_flush_lsn <= held.begun[table.id].point.lsn
            and can_resume(connection, table, held.begun[table.id])
        }


def launch_latecomers(
    config: PipelineConfig, schemas: Mapping[TableId, TableSchema], replica: Replica, number: int, reporter: Reporter
) -> Latecomers | None:
    """Begin to copy what the destination still lacks, beside the stream; the caller closes it. None: nothing is missing.

    The number tells the destinations of the pipeline apart.
    """
    tables = missing_tables(schemas, replica)
    if not tables:
        return None

    def begin(tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        replica.destination.start_copy(tables, point)
        for table in tables:
            reporter.table(table.id, TableState.SNAPSHOT)

    def apply(changes: Sequence[Change]) -> None:
        replica.apply_late(changes, config.engine)

    def complete(table: TableSchema, point: SnapshotPoint) -> None:
        replica.destination.finish_copy(table)
        replica.copied(table.id, point)
        reporter.table(table.id, TableState.STREAMING)

    latecomers = Latecomers(tables, begin=begin, apply=apply, complete=complete)

    def copy(ledger: Ledger) -> None:
        source, stopped = config.source.connection, latecomers.is_stopping
        slot_name = f"{config.slot_name[:50]}_copy_{number}"
        with exported_snapshot(source, slot_name, stopped=stopped, temporary=True) as point:
            copy_tables(Copier(source, replica.destination, reporter, stopped), tables, point, ledger)

    latecomers.launch(copy)
    return latecomers


def close_latecomers(latecomers: Latecomers) -> None:
    """End the copying; `StreamStalled` when it does not end."""
    if not latecomers.close(CLOSE_TIMEOUT):
        raise StreamStalled(
            f"The copying of tables did not end within {CLOSE_TIMEOUT:.0f} seconds.",
            "Its connections end with this process; the run restarts by itself.",
        )
