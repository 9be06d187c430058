"""Decides how often a table is copied again because its updates and deletes are not published.

Each such copy begins a new attempt, and reads the whole table. A table that is updated all the time would be copied without
end, and hold up the others.
"""

import time
from collections import defaultdict, deque
from typing import Final

from rosetta_dagster.cdc.table_id import TableId

#: How many copies of one table within how many seconds. Copies of small tables that are updated now and then go on for ever.
COPY_LIMIT: Final = 10
COPY_WINDOW: Final = 3600.0


class CopyBudget:
    """The copies of one run, by destination and table."""

    def __init__(self) -> None:
        self._made_at: dict[tuple[str, TableId], deque[float]] = defaultdict(deque)

    def take(self, destination: str, table: TableId) -> bool:
        """Count one more copy of the table. Return whether it may be made."""
        made_at, now = self._made_at[destination, table], time.monotonic()
        while made_at and now - made_at[0] >= COPY_WINDOW:
            made_at.popleft()
        if len(made_at) >= COPY_LIMIT:
            return False
        made_at.append(now)
        return True
