"""Watches over one run of a pipeline: holds its lease, follows its row, tells the configuration database how it goes."""

import time
from collections.abc import Generator, Sequence
from contextlib import suppress

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, Status, TableConfig, TableState
from rosetta_dagster.cdc.errors import RosettaError, StoreUnavailable
from rosetta_dagster.cdc.report import Report, Reporter, TableCounts
from rosetta_dagster.cdc.run.resync import begin_resyncs
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.lease import Lease
from rosetta_dagster.cdc.store.records import Progress, TableProgress
from rosetta_dagster.cdc.table_id import TableId

#: How often the row is looked at, in seconds. PAUSE takes effect within about this time.
TICK = 0.5

#: How often the progress and the heartbeat are written while the phase stays the same, in seconds.
REPORT_INTERVAL = 2.0

#: How long a run may take to end after it was told to, in seconds.
STOP_TIMEOUT = 30.0

#: How long a run goes on while the configuration database is away, in seconds. The lease is gone by then, and it is the
#: compare-and-set of the watermark that keeps a second run from writing.
STORE_PATIENCE = 30.0


class WorkerStuck(RuntimeError):
    """The run did not end when it was told to. The process has to end, so that its walsender does."""


def supervised(store: Store, name: str, run_id: str) -> Generator[Report, None, None]:
    """Run the pipeline until its row says otherwise; a report about every half second, the last one after the end.

    When tables are added, removed, or to be copied again, or options change, the engine restarts with them within seconds.

    Whoever stops iterating, by an exception too, stops the run: close the generator (`contextlib.closing`). Errors of the
    run are written to the pipeline's row and raised. `LeaseHeld` when another run has the pipeline.
    """
    pipeline_id = store.state(name).id
    with store.lease(pipeline_id) as lease:
        store.set_status(name, Status.START, only_from=Status.REFRESH)
        notes = _Notes(store, pipeline_id, name, run_id, lease)
        reporter = Reporter()
        ending: RosettaError | None = None
        try:
            notes.started()
            while notes.wants_to_run():
                yield from _session(store, name, notes, reporter)
        except RosettaError as error:
            ending = error
            raise
        finally:
            notes.ended(reporter.read(), ending)
    yield reporter.read()


def _session(store: Store, name: str, notes: "_Notes", reporter: Reporter) -> Generator[Report, None, None]:
    """Run the engine with the tables that the pipeline has now, until they change or it is not to run any more."""
    config = store.pipeline(name)
    begin_resyncs(store, config)
    worker = Worker(config, reporter)
    worker.start()
    try:
        while not worker.wait(TICK) and notes.wants_to_run() and notes.is_current(config):
            notes.progress(reporter.read())
            yield reporter.read()
    finally:
        _stop(worker)


def _stop(worker: Worker) -> None:
    if not worker.stop(STOP_TIMEOUT):
        raise WorkerStuck(f"The run did not end within {STOP_TIMEOUT:.0f} seconds.")


class _Notes:
    """What the run writes to the configuration database, and what it does while that cannot be reached."""

    def __init__(self, store: Store, pipeline_id: int, name: str, run_id: str, lease: Lease) -> None:
        self._store = store
        self._pipeline_id = pipeline_id
        self._name = name
        self._run_id = run_id
        self._lease = lease
        self._written = Report()
        self._written_at = 0.0
        self._reached_at = time.monotonic()

    def started(self) -> None:
        self._store.report_started(self._pipeline_id, self._run_id)

    def wants_to_run(self) -> bool:
        """Whether the row still says START. A row that was deleted, paused or is to be refreshed ends the run."""
        try:
            self._lease.check()
            status = self._store.status(self._name)
        except StoreUnavailable:
            if time.monotonic() - self._reached_at > STORE_PATIENCE:
                raise
            return True
        self._reached_at = time.monotonic()
        return status is Status.START

    def are_tables(self, tables: Sequence[TableConfig]) -> bool:
        """Whether the pipeline has these tables still, and none of them is to be copied anew since."""
        with suppress(StoreUnavailable):
            return self._store.table_configs(self._pipeline_id) == tuple(
                table.model_copy(update={"resync": False}) for table in tables
            )
        return True

    def is_current(self, config: PipelineConfig) -> bool:
        """Return whether tables and options in the rows are still those of the config."""
        return self.are_tables(config.tables) and self._are_options(config)

    def _are_options(self, config: PipelineConfig) -> bool:
        with suppress(StoreUnavailable):
            options = self._store.pipeline_options(self._pipeline_id)
            return options is None or all(getattr(config, name) == value for name, value in options)
        return True

    def progress(self, report: Report) -> None:
        is_new = report.phase is not self._written.phase
        if is_new or time.monotonic() - self._written_at >= REPORT_INTERVAL:
            # Replication goes on without the configuration database; `wants_to_run` decides for how long.
            with suppress(StoreUnavailable):
                self._write(report)

    def ended(self, report: Report, error: RosettaError | None) -> None:
        """The run has ended: by an error, or since it was told to. What cannot be noted shows as a missing heartbeat."""
        with suppress(StoreUnavailable):
            self._write(report)
            if error is None:
                self._store.report_stopped(self._pipeline_id, self._run_id)
            else:
                self._store.report_failure(self._pipeline_id, self._run_id, str(error), transient=error.transient)

    def _write(self, report: Report) -> None:
        self._store.report_progress(self._pipeline_id, self._run_id, progress_since(self._written, report))
        self._written, self._written_at = report, time.monotonic()


def progress_since(before: Report, now: Report) -> Progress:
    """What a run did between two looks."""
    return Progress(
        run_status=now.phase.value,
        applied_lsn=now.applied_lsn,
        lag_seconds=now.lag_seconds,
        success_age=None if now.last_success is None else max(0.0, time.monotonic() - now.last_success),
        tables={table: _table_progress(table, before, now) for table in _changed(before, now)},
    )


def _changed(before: Report, now: Report) -> set[TableId]:
    """The tables that something was done to, or whose state is another."""
    return {table for table, counts in now.tables.items() if before.tables.get(table) != counts} | {
        table for table, state in now.states.items() if before.states.get(table) != state
    }


def _table_progress(table: TableId, before: Report, now: Report) -> TableProgress:
    state, error = now.states.get(table, (TableState.PENDING, None))
    then, counts = before.tables.get(table, TableCounts()), now.tables.get(table, TableCounts())
    return TableProgress(
        state=state,
        error=error,
        copied=counts.copied - then.copied,
        applied=counts.applied - then.applied,
        last_change_at=counts.last_change_at,
    )
