"""Runs a pipeline in a thread of its own, so that the caller's thread stays free for signals and for the operator."""

import logging
import threading
import traceback
from pathlib import Path

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import RosettaError, Unexpected
from rosetta_dagster.cdc.report import Report, Reporter
from rosetta_dagster.cdc.run.run import run_pipeline


class Worker:
    """One run of one pipeline.

    Owns the thread `replicate`, from `start` until `stop` has returned True. A process whose thread does not end has to
    end itself: the thread is a daemon, and the walsender ends with the process.
    """

    def __init__(self, config: PipelineConfig, reporter: Reporter | None = None) -> None:
        """The reporter goes on counting from where it is; without one the run gets its own."""
        self._config = config
        self._reporter = reporter or Reporter()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._error: RosettaError | None = None
        self._thread = threading.Thread(target=self._run, name="replicate", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def report(self) -> Report:
        """What the run has done so far."""
        return self._reporter.read()

    def wait(self, timeout: float) -> bool:
        """Wait until the run ends, at most so many seconds; whether it has ended. Raises what ended it."""
        if not self._ended.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def stop(self, timeout: float) -> bool:
        """Let the run end after the batch in hand, and wait; whether it has ended within so many seconds."""
        self._stopping.set()
        return self._ended.wait(timeout)

    def _run(self) -> None:
        logging.getLogger("psycopg").addFilter(_is_ours_to_tell)
        try:
            run_pipeline(self._config, reporter=self._reporter, stopped=self._stopping.is_set)
        except RosettaError as error:
            self._error = error
        except BaseException as error:  # noqa: BLE001 - whatever it is, the thread that waits has to know
            self._error = unexpected(error)
        finally:
            self._ended.set()


def _is_ours_to_tell(record: logging.LogRecord) -> bool:
    """The driver logs what goes wrong after an error, in the server's words: they may quote a row, and the error is told."""
    return not str(record.msg).startswith("error ignored")


def unexpected(error: BaseException) -> Unexpected:
    """The error for one that nobody expected. Its own text is left out, since it may quote a value of a row."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else "an unknown place"
    return Unexpected(
        f"Rosetta itself failed: {type(error).__name__} at {place}.",
        "The run restarts by itself. Please report it with this message.",
    )
