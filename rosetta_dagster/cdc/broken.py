"""Decides whether a run goes on when one of its tables breaks: without that table, as long as there is another."""

from collections.abc import Callable

from rosetta_dagster.cdc.config import PipelineConfig
from rosetta_dagster.cdc.errors import BrokenTable, DestinationRejected, TerminalError
from rosetta_dagster.cdc.schema import TableId


class BrokenTables:
    """The tables of one run that broke, and at which destinations."""

    def __init__(self, config: PipelineConfig, set_aside: Callable[[str, TableId, str], None]) -> None:
        """`set_aside` notes at the destination of that name that changes of the table are left out, and why."""
        self._config = config
        self._set_aside = set_aside
        self._reasons: dict[tuple[str, TableId], str] = {}
        self._tried: set[BrokenTable] = set()

    def outlives(self, error: TerminalError) -> bool:
        """Whether the run begins again after the error: with the table, or without it from now on."""
        broken = error.broken
        if broken is None:
            return False
        if isinstance(error, DestinationRejected) and broken not in self._tried:
            # Its columns may take wider values at the source by now. A new attempt begins with looking at them.
            self._tried.add(broken)
            return True
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

    def _are_all(self) -> bool:
        return all(self.is_everywhere(table.id) for table in self._config.tables)
