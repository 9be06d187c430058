"""Keeps changes until they can be applied: in memory while they are few, in a file that has no name when they are many."""

import pickle
import tempfile
from collections import deque
from collections.abc import Sequence

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.schema import TableSchema

#: Bytes that are kept in memory.
MEMORY_LIMIT = 32 * 1024 * 1024


class Spool:
    """Runs of changes, first in, first out. Used by one thread; `close` removes what is left."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_LIMIT)  # noqa: SIM115 - `close` closes it
        #: Where each run stands in the file, and how many bytes it has.
        self._runs: deque[tuple[int, int]] = deque()
        self._end = 0
        #: The schemas of the changes. They stay in memory: a change is told from the next by whether it has the same one.
        self._schemas: list[TableSchema] = []

    def put(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        data = pickle.dumps([(*change[:5], self._number_of(change.table), *change[6:]) for change in changes])
        self._file.seek(self._end)
        self._file.write(data)
        self._runs.append((self._end, len(data)))
        self._end += len(data)

    def take(self) -> list[Change]:
        """The oldest run; an empty list when there is none."""
        if not self._runs:
            return []
        start, size = self._runs.popleft()
        self._file.seek(start)
        # The file has no name, so nobody else can have written what is read here.
        run = pickle.loads(self._file.read(size))  # noqa: S301
        return [Change._make((*fields[:5], self._schemas[fields[5]], *fields[6:])) for fields in run]

    def close(self) -> None:
        self._file.close()

    def _number_of(self, schema: TableSchema) -> int:
        for number, known in enumerate(self._schemas):
            if known is schema:
                return number
        self._schemas.append(schema)
        return len(self._schemas) - 1
