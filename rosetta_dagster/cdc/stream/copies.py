"""Decides when a table is copied: before the stream begins, with the pipeline's first tables, or beside the stream."""

from collections.abc import Callable, Mapping, Sequence

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableState
from rosetta_dagster.cdc.copy.concurrent import Latecomers
from rosetta_dagster.cdc.copy.snapshot import Copier, Ledger, copy_tables
from rosetta_dagster.cdc.errors import StreamStalled
from rosetta_dagster.cdc.report import Phase, Reporter
from rosetta_dagster.cdc.source.slots import exported_snapshot
from rosetta_dagster.cdc.stream.replica import Replica
from rosetta_dagster.cdc.table_id import TableId

#: How long a copy beside the stream may take to end when it is told to, in seconds, before the process has to.
CLOSE_TIMEOUT = 20.0


class FirstCopy:
    """Keeps the books of a copy that the stream waits for. Keeps the contract of `Ledger`."""

    def __init__(self, replica: Replica, reporter: Reporter) -> None:
        self._replica = replica
        self._reporter = reporter
        self._point: SnapshotPoint | None = None

    def start(self, tables: Sequence[TableSchema], resumed: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self._point = point
        begin_copy(self._replica, tables, resumed, point, self._reporter)

    def finish(self, table: TableSchema) -> None:
        assert self._point is not None, "a copy starts before it finishes"
        complete_copy(self._replica, table, self._point, self._reporter)


def begin_copy(
    replica: Replica,
    tables: Sequence[TableSchema],
    resumed: Sequence[TableSchema],
    point: SnapshotPoint,
    reporter: Reporter,
) -> None:
    """Let the destination know which tables are copied from now on, from the beginning or from where they are."""
    replica.await_batch()
    replica.destination.start_copy(tables, point)
    replica.destination.resume_copy(resumed, point)
    for table in (*tables, *resumed):
        reporter.table(table.id, TableState.SNAPSHOT)


def complete_copy(replica: Replica, table: TableSchema, point: SnapshotPoint, reporter: Reporter) -> None:
    """The table is at the destination, and takes part in the stream."""
    replica.await_batch()
    replica.destination.finish_copy(table)
    replica.copied(table.id, point)
    reporter.table(table.id, TableState.STREAMING)


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
    """Make the pipeline's slot, and copy every table as of that point. The slot stays once there is something to build upon.

    `SnapshotStopped` when told to stop.
    """
    source = config.source.connection
    reporter.enter(Phase.SNAPSHOT)
    copiers = [Copier(source, replica.destination, reporter, stopped) for replica in replicas]
    with exported_snapshot(
        source, config.slot_name, stopped=stopped, is_needed=lambda: any(copier.is_lasting for copier in copiers)
    ) as point:
        for copier, replica in zip(copiers, replicas, strict=True):
            tables = missing_tables(schemas, replica)
            copy_tables(copier, tables, replica.held.begun, point, FirstCopy(replica, reporter))


def launch_latecomers(
    config: PipelineConfig, schemas: Mapping[TableId, TableSchema], replica: Replica, number: int, reporter: Reporter
) -> Latecomers | None:
    """Begin to copy what the destination still lacks, beside the stream; the caller closes it. None: nothing is missing.

    The number tells the destinations of the pipeline apart.
    """
    tables = missing_tables(schemas, replica)
    if not tables:
        return None

    latecomers = Latecomers(
        tables,
        begin=lambda fresh, resumed, point: begin_copy(replica, fresh, resumed, point, reporter),
        apply=replica.apply_late,
        complete=lambda table, point: complete_copy(replica, table, point, reporter),
    )

    def copy(ledger: Ledger) -> None:
        source, stopped = config.source.connection, latecomers.is_stopping
        slot_name = f"{config.slot_name[:50]}_copy_{number}"
        with exported_snapshot(source, slot_name, stopped=stopped, temporary=True) as point:
            copier = Copier(source, replica.destination, reporter, stopped)
            copy_tables(copier, tables, replica.held.begun, point, ledger)

    latecomers.launch(copy)
    return latecomers


def close_latecomers(latecomers: Latecomers) -> None:
    """End the copying; `StreamStalled` when it does not end."""
    if not latecomers.close(CLOSE_TIMEOUT):
        raise StreamStalled(
            f"The copying of tables did not end within {CLOSE_TIMEOUT:.0f} seconds.",
            "Its connections end with this process; the run restarts by itself.",
        )
