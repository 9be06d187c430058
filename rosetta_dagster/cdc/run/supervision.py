"""Decides how long a pipeline runs: holds its lease, follows its row, and writes its progress to the row."""

import math
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace

from rosetta_dagster.cdc.config.discovery import Discovery
from rosetta_dagster.cdc.config.pipeline import Status, TableState
from rosetta_dagster.cdc.errors import RosettaError, StoreUnavailable, WorkerStuck
from rosetta_dagster.cdc.report import Report, Reporter, TableCounts, seconds_since
from rosetta_dagster.cdc.run.discovery import refuse_nothing_matched, write_matched_tables
from rosetta_dagster.cdc.run.resync import begin_resyncs
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.lease import Lease
from rosetta_dagster.cdc.store.records import Progress, RunStatus, TableProgress, Wanted
from rosetta_dagster.cdc.table_id import TableId

#: Seconds between two looks at the worker and at the news of the row. PAUSE takes effect within about this time.
TICK = 0.5

#: Seconds after which the row is read without news. A notification may be lost with its connection.
READ_INTERVAL = 5.0

#: Seconds between two writes of progress and heartbeat, while the phase stays the same.
REPORT_INTERVAL = 2.0

#: Seconds between two restarts of the worker because of changed tables or options. Each restart closes the stream for a
#: second or two, so changes that follow one another every few seconds would keep it closed: they are gathered.
CHANGE_INTERVAL = 10.0

#: Seconds that a worker may take to end after it was asked to.
STOP_TIMEOUT = 30.0

#: Seconds that a run continues while the configuration database cannot be reached. Its lease is lost by then: the
#: compare-and-set of the watermark keeps a second run from writing.
STORE_PATIENCE = 30.0


def supervise(store: Store, name: str, run_id: str) -> Generator[Report, None, None]:
    """Run the pipeline for as long as its row says START. Yield a report about every half second, and one after the end.

    When tables are added, removed, or to be resynced, or options change, the worker restarts with them, within seconds. What
    changes within `CHANGE_INTERVAL` of such a restart waits for the next one.

    The run stops when the generator is closed (`contextlib.closing`). Errors of the run are written to its row and raised.
    `LeaseHeld` when another run has the pipeline.
    """
    pipeline_id = store.state(name).id
    with store.lease(pipeline_id) as lease:
        store.set_status(name, Status.START, only_from=Status.REFRESH)
        row = _PipelineRow(store, pipeline_id, run_id, lease)
        reporter = Reporter()
        failure: RosettaError | None = None
        try:
            row.write_start()
            while row.follow():
                yield from _run_worker(store, name, row, reporter)
                row.note_restart()
        except RosettaError as error:
            failure = error
            raise
        finally:
            row.write_end(reporter.read(), failure)
    yield reporter.read()


def _run_worker(store: Store, name: str, row: "_PipelineRow", reporter: Reporter) -> Generator[Report, None, None]:
    """Run a worker with the tables that the pipeline has now, until they change or the row wants no run any more."""
    write_matched_tables(store, store.pipeline(name))
    # Read before the config: what is changed in between restarts the worker.
    definition = row.read_definition()
    config = store.pipeline(name)
    refuse_nothing_matched(config)
    for table in begin_resyncs(store, config):
        # What the last worker said of it must not be written again.
        reporter.awaits_copy(table)
    reporter.forget_discovery()
    worker = Worker(config, reporter)
    worker.inspect(row.requested_inspection)
    worker.start()
    try:
        while not worker.wait(TICK) and row.follow() and not row.has_due_changes(definition):
            worker.inspect(row.requested_inspection)
            row.write_progress_if_due(reporter.read())
            row.write_discovery_if_new(reporter.read(), definition)
            yield reporter.read()
    finally:
        if not worker.stop(STOP_TIMEOUT):
            raise WorkerStuck(
                f"The run did not end within {STOP_TIMEOUT:.0f} seconds.",
                "Its process ends itself. The next run continues after what the destinations hold.",
            )


class _PipelineRow:
    """The pipeline's row, as the run reads and writes it. Decides what happens while it cannot be reached."""

    def __init__(self, store: Store, pipeline_id: int, run_id: str, lease: Lease) -> None:
        self._store = store
        self._pipeline_id = pipeline_id
        self._run_id = run_id
        self._lease = lease
        self._written = Report()
        self._written_at = 0.0
        self._reached_at = time.monotonic()
        self._restarted_at = -math.inf
        self._discovery: Discovery | None = None
        self._wanted: Wanted | None = None
        #: Whether the row has news that could not be read yet.
        self._has_news = True

    @property
    def requested_inspection(self) -> int:
        """The number of the last inspection that the row asks for."""
        return 0 if self._wanted is None else self._wanted.inspection

    def read_definition(self) -> int | None:
        """Read the row now. Return a hash of the pipeline's options and tables; None when it was deleted."""
        self._read()
        # The run itself writes to the rows before it follows them again.
        self._has_news = True
        return None if self._wanted is None else self._wanted.definition

    def follow(self) -> bool:
        """Read the row if it has news. Return whether the run goes on.

        It ends when the row is deleted, paused or to be refreshed, and `StoreUnavailable` is raised after `STORE_PATIENCE`.
        """
        self._has_news = self._lease.take_news() or self._has_news
        if self._has_news or time.monotonic() - self._reached_at >= READ_INTERVAL:
            try:
                self._read()
            except StoreUnavailable:
                if time.monotonic() - self._reached_at > STORE_PATIENCE:
                    raise
                return True
        return self._wanted is not None and self._wanted.status is Status.START

    def _read(self) -> None:
        self._lease.check()
        self._wanted = self._store.wanted(self._pipeline_id)
        self._reached_at = time.monotonic()
        self._has_news = False

    def note_restart(self) -> None:
        """Record that the worker restarts with what the rows say now. The states in them may be those of new rows."""
        self._restarted_at = time.monotonic()
        self._written = replace(self._written, states={})

    def has_due_changes(self, definition: int | None) -> bool:
        """Return whether options or tables are not those any more, and the last restart for that was long enough ago."""
        if self._wanted is None or time.monotonic() - self._restarted_at < CHANGE_INTERVAL:
            return False
        return self._wanted.has_resyncs or self._wanted.definition != definition

    def write_start(self) -> None:
        self._store.report_started(self._pipeline_id, self._run_id)

    def write_progress_if_due(self, report: Report) -> None:
        is_news = (report.phase, report.inspection) != (self._written.phase, self._written.inspection)
        if is_news or time.monotonic() - self._written_at >= REPORT_INTERVAL:
            # Replication continues without the configuration database; `follow` decides for how long.
            with suppress(StoreUnavailable):
                self._write(report)

    def write_discovery_if_new(self, report: Report, definition: int | None) -> None:
        """Write the tables that the patterns of the pipeline have found, unless they are the ones of before.

        Nothing is written when the rows are not those any more that the worker knows: it would remove rows that are new.
        """
        if report.discovery is None or report.discovery == self._discovery:
            return
        if self._has_news or self._wanted is None or self._wanted.definition != definition:
            return
        with suppress(StoreUnavailable):
            self._store.put_discovery(self._pipeline_id, report.discovery)
            self._discovery = report.discovery

    def write_end(self, report: Report, error: RosettaError | None) -> None:
        """Write that the run has ended, and by which error. If that fails, the run shows as one without a heartbeat."""
        with suppress(StoreUnavailable):
            self._write(report)
            if error is None:
                self._store.report_stopped(self._pipeline_id, self._run_id)
            else:
                self._store.report_failure(self._pipeline_id, self._run_id, str(error), transient=error.transient)

    def _write(self, report: Report) -> None:
        self._store.report_progress(self._pipeline_id, self._run_id, progress_since(self._written, report, self._run_id))
        self._written, self._written_at = report, time.monotonic()


def progress_since(before: Report, now: Report, run_id: str) -> Progress:
    """Return what a run did between two reports."""
    return Progress(
        run_status=RunStatus(now.phase),
        applied_lsn=now.applied_lsn,
        inspection_done=now.inspection,
        lag_seconds=now.lag_seconds,
        success_age=_success_age(now),
        tables={table: _table_progress(table, before, now, run_id) for table in _changed(before, now)},
        batches=now.batches - before.batches,
    )


def _success_age(report: Report) -> float | None:
    """Return how many seconds ago the destinations last held everything that the source had committed."""
    if report.last_success is None:
        return None
    age = max(0.0, time.monotonic() - report.last_success)
    # Changes that wait for a copy beside the stream are not held, although the slot has passed them.
    oldest = report.oldest_spooled_at
    return age if oldest is None else max(age, seconds_since(oldest))


def _changed(before: Report, now: Report) -> set[TableId]:
    """Return the tables whose counts or state differ."""
    return {table for table, counts in now.tables.items() if before.tables.get(table) != counts} | {
        table for table, state in now.states.items() if before.states.get(table) != state
    }


def _table_progress(table: TableId, before: Report, now: Report, run_id: str) -> TableProgress:
    state, error = now.states.get(table, (TableState.PENDING, None))
    then, counts = before.tables.get(table, TableCounts()), now.tables.get(table, TableCounts())
    return TableProgress(
        state=state,
        error=error,
        copied=counts.copied - then.copied,
        applied=counts.applied - then.applied,
        last_change_at=counts.last_change_at,
        data_version=None if counts == then else counts.data_version(run_id),
        inserted=counts.inserted - then.inserted,
        updated=counts.updated - then.updated,
        deleted=counts.deleted - then.deleted,
        truncated=counts.truncated - then.truncated,
    )
