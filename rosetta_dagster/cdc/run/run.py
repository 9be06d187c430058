"""Decides after an error whether to retry, without the failed table or with the other engine, or to end the run."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import DestinationUnavailable, EngineUnsuitable, TerminalError
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.run.attempt import Attempt, Ended
from rosetta_dagster.cdc.stream.broken_tables import BrokenTables
from rosetta_dagster.cdc.table_id import TableId

_logger = logging.getLogger(__name__)

#: Seconds that a run continues with its work at a destination after it is stopped. Its process ends after 30.
STOP_PATIENCE = 10.0


class StopDeadline:
    """Returns true once the run was asked to stop more than `STOP_PATIENCE` seconds ago."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._noticed_at: float | None = None

    def __call__(self) -> bool:
        if self._noticed_at is None and self._stopped():
            self._noticed_at = time.monotonic()
        return self._noticed_at is not None and time.monotonic() - self._noticed_at >= STOP_PATIENCE


def run_pipeline(
    config: PipelineConfig, *, reporter: Reporter, stopped: Callable[[], bool], requested_inspection: Callable[[], int]
) -> None:
    """Run the pipeline until it is stopped. Every connection and thread of the run has ended on return.

    The source's catalog is compared at once when `requested_inspection` returns a higher number than before.

    A table that breaks is set aside and the others continue. When the last one breaks, its error is raised.
    """
    broken = BrokenTables(config, partial(_set_aside, config), partial(_forget, config))
    attempt = Attempt(
        config=config,
        broken=broken,
        reporter=reporter,
        stopped=stopped,
        is_overdue=StopDeadline(stopped),
        requested_inspection=requested_inspection,
    )
    while True:
        try:
            if attempt.run() is Ended.STOPPED:
                return
        except DestinationUnavailable:
            if not stopped():
                raise
            # What was not applied is still in the slot.
            return
        except EngineUnsuitable as error:
            # It continues where Debezium was. The next run begins with Debezium again, beyond that change.
            _logger.warning("Pipeline %s: %s", config.name, error)
            attempt = replace(attempt, config=config.model_copy(update={"engine": Engine.PGOUTPUT}))
        except TerminalError as error:
            broken.recover_from(error)


def _set_aside(config: PipelineConfig, destination: str, table: TableId, reason: str) -> None:
    row = next(row for row in config.destinations if row.name == destination)
    make_destination(row, config).set_aside(table, reason)


def _forget(config: PipelineConfig, destination: str, table: TableId) -> None:
    row = next(row for row in config.destinations if row.name == destination)
    make_destination(row, config).forget([table])
