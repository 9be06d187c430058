"""What a run has done so far, kept where the thread that replicates writes it and the one that reports reads it."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from rosetta_dagster.cdc.change.event import Counts, Operation
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.table_id import TableId


class Phase(StrEnum):
    """What the run is doing."""

    STARTING = "STARTING"
    SNAPSHOT = "SNAPSHOT"
    STREAMING = "STREAMING"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCounts:
    """What the run has done to one table."""

    copied: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    truncated: int = 0
    last_change_at: datetime | None = None
    #: Up to where the source's log was durable when the last change was; it moves only when the table changes.
    last_lsn: Lsn | None = None

    @property
    def applied(self) -> int:
        """Changes applied, of any kind."""
        return self.inserted + self.updated + self.deleted + self.truncated


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One look at a run."""

    phase: Phase = Phase.STARTING
    tables: dict[TableId, TableCounts] = field(default_factory=dict)
    #: How far each table has come, and why when it was set aside.
    states: dict[TableId, tuple[TableState, str | None]] = field(default_factory=dict)
    #: Up to where the source's log is durable at every destination.
    applied_lsn: Lsn | None = None
    #: Commit time, at the source, of the last change applied.
    last_commit_at: datetime | None = None
    #: Seconds from that commit until it was durable at every destination.
    lag_seconds: float | None = None
    #: When changes were last durable at every destination, or the slot confirmed to be caught up (monotonic seconds).
    last_success: float | None = None


class Applied(NamedTuple):
    """Changes that were delivered together."""

    counts: Counts
    #: Up to where the source's log was read with them.
    lsn: Lsn
    #: When the last of them was committed at the source; None when there are none.
    committed_at: datetime | None


class Reporter:
    """Collects a run's report. Any thread may call any method; a report once read does not change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._report = Report()

    def read(self) -> Report:
        with self._lock:
            return self._report

    def enter(self, phase: Phase) -> None:
        with self._lock:
            self._report = replace(self._report, phase=phase)

    def table(self, table: TableId, state: TableState, error: str | None = None) -> None:
        """The table has come so far; the error is why it was set aside."""
        with self._lock:
            self._report = replace(self._report, states={**self._report.states, table: (state, error)})

    def copied(self, table: TableId, row_count: int) -> None:
        with self._lock:
            counts = self._report.tables.get(table, TableCounts())
            self._put({table: replace(counts, copied=counts.copied + row_count)})

    def applied(self, parts: Sequence[Applied]) -> None:
        """These are durable at every destination since a moment ago; they are in order."""
        counts: dict[TableId, Counter[Operation]] = defaultdict(Counter)
        last: dict[TableId, Applied] = {}
        for part in parts:
            for (table, operation), count in part.counts.items():
                counts[table][operation] += count
                last[table] = part
        committed_at = next((part.committed_at for part in reversed(parts) if part.committed_at), None)
        with self._lock:
            self._put({table: self._add(table, of_table, last[table]) for table, of_table in counts.items()})
            self._report = replace(
                self._report,
                applied_lsn=parts[-1].lsn,
                last_commit_at=committed_at or self._report.last_commit_at,
                lag_seconds=_seconds_since(committed_at) if committed_at else self._report.lag_seconds,
                last_success=time.monotonic(),
            )

    def _add(self, table: TableId, of_table: Counter[Operation], last: Applied) -> TableCounts:
        counts = self._report.tables.get(table, TableCounts())
        return replace(
            counts,
            inserted=counts.inserted + of_table[Operation.INSERT],
            updated=counts.updated + of_table[Operation.UPDATE],
            deleted=counts.deleted + of_table[Operation.DELETE],
            truncated=counts.truncated + of_table[Operation.TRUNCATE],
            last_change_at=last.committed_at or counts.last_change_at,
            last_lsn=last.lsn,
        )

    def _put(self, tables: dict[TableId, TableCounts]) -> None:
        self._report = replace(self._report, tables={**self._report.tables, **tables})


def _seconds_since(committed_at: datetime) -> float:
    """By two clocks, of which the source's may be ahead."""
    return max(0.0, (datetime.now(UTC) - committed_at).total_seconds())
