"""Runs a pipeline in a thread of its own, so that the caller's thread can handle signals and follow the pipeline's row."""

import logging
import threading
import traceback
from pathlib import Path

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import RosettaError, Unexpected
from rosetta_dagster.cdc.report import Report, Reporter
from rosetta_dagster.cdc.run.run import run_pipeline


class Worker:
    """One run of one pipeline, with the tables that its configuration lists.

    Owns the thread `replicate`, from `start` until `stop` returns True. If the thread does not end, the process has to end:
    the thread is a daemon, and the walsender ends with the process.
    """

    def __init__(self, config: PipelineConfig, reporter: Reporter | None = None) -> None:
        """The reporter continues its counts; without one the worker creates its own."""
        self._config = config
        self._reporter = reporter or Reporter()
        self._stopping = threading.Event()
        self._requested_inspection = 0
        self._ended = threading.Event()
        self._error: RosettaError | None = None
        self._thread = threading.Thread(target=self._run, name="replicate", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def report(self) -> Report:
        """Return what the run has done so far."""
        return self._reporter.read()

    def wait(self, timeout: float) -> bool:
        """Wait until the run ends, at most `timeout` seconds. Return whether it has ended. Raise the error that ended it."""
        if not self._ended.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def inspect(self, request: int) -> None:
        """Ask the run to compare the source's catalog, unless it did after this request; `Report.inspection` says when."""
        self._requested_inspection = request

    def stop(self, timeout: float) -> bool:
        """Ask the run to end after its current batches, and wait. Return whether it has ended within `timeout` seconds."""
        self._stopping.set()
        return self._ended.wait(timeout)

    def _run(self) -> None:
        logging.getLogger("psycopg").addFilter(_is_no_ignored_error)
        try:
            run_pipeline(
                self._config,
                reporter=self._reporter,
                stopped=self._stopping.is_set,
                requested_inspection=lambda: self._requested_inspection,
            )
        except RosettaError as error:
            self._error = error
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises it, whatever it is
            self._error = unexpected(error)
        finally:
            self._ended.set()


def _is_no_ignored_error(record: logging.LogRecord) -> bool:
    """Return whether the record may be logged.

    After an error the driver logs what fails while it cleans up, in the server's words: they may quote a row. The error
    itself is raised anyway.
    """
    return not str(record.msg).startswith("error ignored")


def unexpected(error: BaseException) -> Unexpected:
    """Return the `Unexpected` for this error. The error's own text is left out: it may quote a value of a row."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else "an unknown place"
    return Unexpected(
        f"Rosetta itself failed: {type(error).__name__} at {place}.",
        "The run restarts by itself. Please report it with this message.",
    )
