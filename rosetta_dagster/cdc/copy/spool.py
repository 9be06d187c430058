"""Keeps the changes of a table that is being copied: in memory while they are few, in a file without a name afterwards."""

import os
import pickle
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.errors import SpoolUnavailable
from rosetta_dagster.cdc.report import Spooled

#: Bytes that are kept in memory.
MEMORY_LIMIT = 32 * 1024 * 1024


class _Run(NamedTuple):
    """Changes that were put together."""

    #: Where they stand in the file, in bytes.
    start: int
    size: int
    change_count: int
    #: When the last of them was committed at the source, if that is known.
    committed_at: datetime | None


class Spool:
    """Runs of changes, first in, first out. Used by one thread; `close` removes what is left.

    `SpoolUnavailable` when the directory for temporary files is full or cannot be written.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_LIMIT)  # noqa: SIM115 - `close` closes it
        self._runs: deque[_Run] = deque()
        self._end = 0
        self._change_count = 0
        #: The schemas of the changes. They stay in memory: changes of one schema are known by having the same object.
        self._schemas: list[TableSchema] = []

    @property
    def is_empty(self) -> bool:
        return not self._runs

    @property
    def size(self) -> Spooled:
        """How much waits here, and since when."""
        if not self._runs:
            return Spooled()
        oldest = self._runs[0]
        return Spooled(self._change_count, self._end - oldest.start, oldest.committed_at)

    def put(self, changes: Sequence[Change], committed_at: datetime | None = None) -> None:
        """Add a run of changes; nothing happens when there are none."""
        if not changes:
            return
        data = pickle.dumps([(*change[:5], self._number_of(change.table), *change[6:]) for change in changes])
        with _writable():
            self._file.seek(self._end)
            self._file.write(data)
        self._runs.append(_Run(self._end, len(data), len(changes), committed_at))
        self._end += len(data)
        self._change_count += len(changes)

    def take(self) -> list[Change]:
        """Remove the oldest run and return it; an empty list when there is none."""
        if not self._runs:
            return []
        run = self._runs.popleft()
        self._change_count -= run.change_count
        with _writable():
            # What was written last may still be in a buffer.
            self._file.seek(run.start)
            data = self._file.read(run.size)
        # The file has no name, so nobody else can have written what is read here.
        changes = pickle.loads(data)  # noqa: S301
        return [Change._make((*fields[:5], self._schemas[fields[5]], *fields[6:])) for fields in changes]

    def close(self) -> None:
        # A buffer that cannot be written is of no use any more.
        with suppress(OSError):
            self._file.close()

    def _number_of(self, schema: TableSchema) -> int:
        for number, known in enumerate(self._schemas):
            if known is schema:
                return number
        self._schemas.append(schema)
        return len(self._schemas) - 1


@contextmanager
def _writable() -> Iterator[None]:
    """Raise `SpoolUnavailable` when the system refuses to write or read a temporary file in the block."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise SpoolUnavailable(
            f"Changes of tables that are being copied cannot be kept in {_directory()}: {reason}.",
            "Free space there, or set TMPDIR, in the environment of the process that runs the pipeline, to a directory that "
            "it can write and that has more space. The run restarts by itself.",
        ) from None


def _directory() -> str:
    try:
        return f"the directory for temporary files, {tempfile.gettempdir()}"
    except OSError:
        return "a directory for temporary files: none of TMPDIR, /tmp, /var/tmp and /usr/tmp can be written"
