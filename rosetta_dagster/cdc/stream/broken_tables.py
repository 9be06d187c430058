"""Decides whether a run goes on after an error that time does not mend: as a rule without the table that broke."""

import math
import time
from collections.abc import Callable

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import BrokenTable, ChangeUndecodable, DestinationRejected, TerminalError
from rosetta_dagster.cdc.table_id import TableId

#: Seconds within which an error that a new attempt does not mend comes again.
_SOON = 600.0


class BrokenTables:
    """The tables of one run that broke, and at which destinations."""

    def __init__(self, config: PipelineConfig, set_aside: Callable[[str, TableId, str], None]) -> None:
        """`set_aside` notes at the destination of that name that changes of the table are left out, and why."""
        self._config = config
        self._set_aside = set_aside
        self._reasons: dict[tuple[str, TableId], str] = {}
        #: When a new attempt was made last because of each; None stands for an error that names no table.
        self._tried_at: dict[BrokenTable | None, float] = {}

    def outlives(self, error: TerminalError) -> bool:
        """Whether the run begins again after the error: with the table, or without it from now on."""
        broken = error.broken
        if _may_pass(error) and not self._came_again(broken):
            return True
        if broken is None:
            return False
        names = [row.name for row in self._config.destinations if broken.destination in (None, row.name)]
        self._reasons |= {(name, broken.table): str(error) for name in names}
        if self._are_all():
            # Nothing is noted: what the last table waits for is still in the slot.
            return False
        for name in names:
            self._set_aside(name, broken.table, str(error))
        return True

    def at(self, destination: str) -> dict[TableId, str]:
        """The tables that are left out at the destination, and why."""
        return {table: reason for (name, table), reason in self._reasons.items() if name == destination}

    def is_everywhere(self, table: TableId) -> bool:
        """Whether no destination takes changes of the table."""
        return all((row.name, table) in self._reasons for row in self._config.destinations)

    def _came_again(self, broken: BrokenTable | None) -> bool:
        """Whether the last attempt because of the same is not long ago."""
        before, self._tried_at[broken] = self._tried_at.get(broken, -math.inf), time.monotonic()
        return self._tried_at[broken] - before < _SOON

    def _are_all(self) -> bool:
        return all(self.is_everywhere(table.id) for table in self._config.tables)


def _may_pass(error: TerminalError) -> bool:
    """Whether a new attempt may do without the error."""
    # Columns may take wider values at the source by now. An attempt begins with looking at them.
    is_of_columns = isinstance(error, DestinationRejected) and error.broken is not None
    # Debezium asks the server about types while it prints values, and says the same when that hangs up.
    is_of_printing = isinstance(error, ChangeUndecodable) and error.broken is None
    return is_of_columns or is_of_printing
