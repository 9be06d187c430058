"""Watches over one run of a pipeline: holds its lease, follows its row, tells the configuration database how it goes."""

import time
from collections.abc import Iterator

from rosetta_dagster.cdc.config import PipelineConfig, Status
from rosetta_dagster.cdc.errors import RosettaError, StoreUnavailable
from rosetta_dagster.cdc.report import Phase, Report
from rosetta_dagster.cdc.store.base import Store
from rosetta_dagster.cdc.worker import Worker

#: How often the row is looked at and the heartbeat written, in seconds. PAUSE takes effect within about this time.
TICK = 0.5

#: How long a run may take to end after it was told to, in seconds.
STOP_TIMEOUT = 30.0

#: How long a run goes on while the configuration database is away, in seconds. The lease is gone by then.
STORE_PATIENCE = 30.0


class WorkerStuck(RuntimeError):
    """The run did not end when it was told to. The process has to end, so that its walsender does."""


def supervised(store: Store, config: PipelineConfig, run_id: str) -> Iterator[Report]:
    """Run the pipeline until its row says otherwise; a report about every half second, the last one after the end.

    Whoever stops iterating, by an exception too, stops the run: close the generator (`contextlib.closing`). Errors of the
    run are written to the pipeline's row and raised. `LeaseHeld` when another run has the pipeline.
    """
    with store.lease(config.id) as lease:
        worker = Worker(config)
        notes = _Notes(store, config, run_id)
        try:
            worker.start()
            while not worker.wait(TICK) and notes.wants_to_run():
                report = worker.report()
                notes.progress(report)
                lease.check()
                yield report
        except RosettaError as error:
            notes.failure(error)
            raise
        finally:
            _stop(worker)
            notes.stopped(worker.report())
    yield worker.report()


def _stop(worker: Worker) -> None:
    if not worker.stop(STOP_TIMEOUT):
        raise WorkerStuck(f"The run did not end within {STOP_TIMEOUT:.0f} seconds.")


class _Notes:
    """What the run writes to the configuration database, and what it does while that cannot be reached."""

    def __init__(self, store: Store, config: PipelineConfig, run_id: str) -> None:
        self._store = store
        self._config = config
        self._run_id = run_id
        self._written = Report()
        self._reached_at = time.monotonic()
        self._failed = False

    def wants_to_run(self) -> bool:
        """Whether the row still says START. A row that was deleted, paused or is to be refreshed ends the run."""
        try:
            status = self._store.status(self._config.name)
        except StoreUnavailable:
            if time.monotonic() - self._reached_at > STORE_PATIENCE:
                raise
            return True
        self._reached_at = time.monotonic()
        return status is Status.START

    def progress(self, report: Report) -> None:
        try:
            self._write(report)
        except StoreUnavailable:
            # Replication goes on; `wants_to_run` decides for how long.
            return

    def failure(self, error: RosettaError) -> None:
        self._failed = True
        self._store.report_failure(self._config.id, self._run_id, str(error), transient=error.transient)

    def stopped(self, report: Report) -> None:
        self._write(report)
        if not self._failed:
            self._store.report_stopped(self._config.id, self._run_id)

    def _write(self, report: Report) -> None:
        raise AssertionError
