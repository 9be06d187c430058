"""Decides whether a run continues after an error that time does not mend, and without which table."""

import math
import time
from collections.abc import Callable

from rosetta_dagster.cdc.config.pipeline import GapPolicy, PipelineConfig
from rosetta_dagster.cdc.errors import (
    BrokenTable,
    ChangeUndecodable,
    ColumnValuesUnknown,
    DestinationRejected,
    TableReplaced,
    TerminalError,
)
from rosetta_dagster.cdc.table_id import TableId

#: An error that returns within this many seconds is not mended by another attempt.
_RETRY_INTERVAL = 600.0


class BrokenTables:
    """The tables of one run that broke, and at which destinations."""

    def __init__(
        self,
        config: PipelineConfig,
        set_aside: Callable[[str, TableId, str], None],
        forget: Callable[[str, TableId], None],
    ) -> None:
        """`set_aside` records at the destination of that name that the table's changes are dropped, and why.

        `forget` lets the destination of that name forget its copy of the table, so that it is copied again.
        """
        self._forget = forget
        self._config = config
        self._set_aside = set_aside
        self._reasons: dict[tuple[str, TableId], str] = {}
        #: When the run was last attempted again because of each; None stands for an error that names no table.
        self._retried_at: dict[BrokenTable | None, float] = {}

    def recover_from(self, error: TerminalError) -> None:
        """Prepare another attempt, with the table or without it. Raise the error if no attempt can succeed."""
        broken = error.broken
        if self._forget_for_new_copy(error):
            return
        if _is_retryable(error) and self._note_retry(broken):
            return
        if broken is None:
            raise error
        names = self._names(broken)
        self._reasons |= {(name, broken.table): str(error) for name in names}
        if all(self.is_everywhere(table.id) for table in self._config.tables):
            # Nothing is recorded at the destinations: the changes of the last table are still in the slot.
            raise error
        for name in names:
            self._set_aside(name, broken.table, str(error))

    def _forget_for_new_copy(self, error: TerminalError) -> bool:
        """Let the next attempt copy the table, if that removes the error and the policy is to. Return whether it will."""
        if error.broken is None or self._config.on_gap is not GapPolicy.COPY:
            return False
        if not isinstance(error, ColumnValuesUnknown | TableReplaced) or error.broken.table in self._config.partly_copied:
            return False
        for name in self._names(error.broken):
            self._forget(name, error.broken.table)
        return True

    def _names(self, broken: BrokenTable) -> list[str]:
        return [row.name for row in self._config.destinations if broken.destination in (None, row.name)]

    def at(self, destination: str) -> dict[TableId, str]:
        """Return the tables that are set aside at the destination, and why."""
        return {table: reason for (name, table), reason in self._reasons.items() if name == destination}

    def is_everywhere(self, table: TableId) -> bool:
        """Return whether the table is set aside at every destination."""
        return all((row.name, table) in self._reasons for row in self._config.destinations)

    def _note_retry(self, broken: BrokenTable | None) -> bool:
        """Record an attempt because of this. Return whether the last one because of the same was long ago."""
        before, self._retried_at[broken] = self._retried_at.get(broken, -math.inf), time.monotonic()
        return self._retried_at[broken] - before >= _RETRY_INTERVAL


def _is_retryable(error: TerminalError) -> bool:
    """Return whether another attempt may succeed as it is."""
    # The source's columns may be wider by now: an attempt begins by reading them, and the destination's follow.
    is_of_columns = isinstance(error, DestinationRejected) and error.broken is not None
    # Debezium asks the server about types while it prints values. A lost connection looks like a value that it cannot print.
    is_of_printing = isinstance(error, ChangeUndecodable) and error.broken is None
    return is_of_columns or is_of_printing
