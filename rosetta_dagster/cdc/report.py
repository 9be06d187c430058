"""What a run has done so far. The thread that replicates writes it, and the thread that supervises the run reads it."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from rosetta_dagster.cdc.change.event import Counts, Operation
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.discovery import Discovery
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.table_id import TableId

#: What a table shows that is in several of these states, at several destinations: the last of them.
_BEST_TO_WORST = (TableState.STREAMING, TableState.SNAPSHOT, TableState.PENDING, TableState.ERROR)


#: The state of a table, and why it is set aside or waits.
StateAndReason: TypeAlias = tuple[TableState, str | None]


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
    #: Up to where the source's log was applied with the table's last change; it moves only when the table changes.
    last_lsn: Lsn | None = None

    @property
    def applied(self) -> int:
        """Changes applied, of any kind."""
        return self.inserted + self.updated + self.deleted + self.truncated

    def data_version(self, run_id: str) -> str | None:
        """Return the version of the table's contents after this run has changed them; None when it has not.

        It is the LSN of the last change. A copy changes the contents too, but has no LSN in the stream.
        """
        if not self.copied:
            return None if self.last_lsn is None else str(self.last_lsn)
        after = "" if self.last_lsn is None else f", then changed up to {self.last_lsn}"
        return f"{self.copied:,} rows copied by run {run_id}{after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """The batches that destinations have made durable, and what they took in total."""

    count: int = 0
    #: Seconds that the first change of each waited until it was applied.
    wait_seconds: float = 0.0
    #: Seconds that the destinations took to apply them.
    apply_seconds: float = 0.0

    def __sub__(self, before: "Batches") -> "Batches":
        return Batches(
            count=self.count - before.count,
            wait_seconds=self.wait_seconds - before.wait_seconds,
            apply_seconds=self.apply_seconds - before.apply_seconds,
        )


@dataclass(frozen=True, slots=True)
class Spooled:
    """Changes of a table that is being copied, which wait in its spool until the copy is complete."""

    changes: int = 0
    bytes: int = 0
    #: When the oldest of them were committed at the source; None when there are none, or that is not known.
    oldest_commit_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run as it is at one moment."""

    phase: Phase = Phase.STARTING
    tables: dict[TableId, TableCounts] = field(default_factory=dict)
    #: The state of each table at the destination where it is worst, and why it is set aside or waits there.
    states: dict[TableId, StateAndReason] = field(default_factory=dict)
    #: What waits for each copy beside the stream, by destination and table.
    spooled: Mapping[tuple[str, TableId], Spooled] = field(default_factory=dict)
    batches: Batches = field(default_factory=Batches)
    #: The last request of an inspection of the source's catalog that was met: the states are as of then, or later.
    inspection: int = 0
    #: Up to where the source's log is durable at every destination.
    applied_lsn: Lsn | None = None
    #: Commit time, at the source, of the last change applied.
    last_commit_at: datetime | None = None
    #: Seconds from that commit until it was durable at every destination. While changes wait for a copy beside the stream:
    #: at least the age of the oldest of them.
    lag_seconds: float | None = None
    #: When changes were last durable at every destination, or the slot confirmed to be caught up (monotonic seconds).
    last_success: float | None = None
    #: What the pipeline's patterns stand for; None when they were not compared with the source yet.
    discovery: Discovery | None = None

    @property
    def oldest_spooled_at(self) -> datetime | None:
        """Commit time, at the source, of the oldest change that waits for a copy beside the stream."""
        return min((each.oldest_commit_at for each in self.spooled.values() if each.oldest_commit_at), default=None)


class Applied(NamedTuple):
    """A delivery that every destination holds."""

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
        #: The state of each table at each destination.
        self._states: dict[TableId, dict[str, StateAndReason]] = {}
        #: The lag of what was applied last, without what waits in spools.
        self._applied_lag: float | None = None

    def read(self) -> Report:
        """Return the report as it is now."""
        with self._lock:
            return self._report

    def enter(self, phase: Phase) -> None:
        """Record what the run does from now on."""
        with self._lock:
            self._report = replace(self._report, phase=phase)

    def forget_discovery(self) -> None:
        """Forget what the patterns found: a worker with other patterns is about to begin."""
        with self._lock:
            self._report = replace(self._report, discovery=None)

    def discovered(self, discovery: Discovery) -> None:
        """Record what the pipeline's patterns stand for now."""
        with self._lock:
            self._report = replace(self._report, discovery=discovery)

    def begin(self, states: Mapping[str, Mapping[TableId, StateAndReason]]) -> None:
        """Record the states of all tables by destination, in place of those that were recorded before."""
        by_table: dict[TableId, dict[str, StateAndReason]] = defaultdict(dict)
        for destination, of_destination in states.items():
            for table, state in of_destination.items():
                by_table[table][destination] = state
        with self._lock:
            self._states = dict(by_table)
            shown = {table: _worst(of_table) for table, of_table in by_table.items()}
            self._report = replace(self._report, states=shown)

    def table(self, destination: str, table: TableId, state: TableState, reason: str | None = None) -> None:
        """Record the state of a table at one destination; the reason is why it is set aside or waits."""
        with self._lock:
            of_table = self._states[table] = {**self._states.get(table, {}), destination: (state, reason)}
            self._report = replace(self._report, states={**self._report.states, table: _worst(of_table)})

    def awaits_copy(self, table: TableId) -> None:
        """Record that every destination is about to copy the table again."""
        with self._lock:
            of_table = self._states[table] = dict.fromkeys(self._states.get(table, {}), (TableState.PENDING, None))
            self._report = replace(self._report, states={**self._report.states, table: _worst(of_table)})

    def inspected(self, request: int) -> None:
        """Record that the catalog was compared after this request, and that the states say what was found."""
        with self._lock:
            self._report = replace(self._report, inspection=max(request, self._report.inspection))

    def spooled(self, destination: str, sizes: Mapping[TableId, Spooled]) -> None:
        """Record what waits now for the copies beside the stream at this destination."""
        with self._lock:
            others = {key: size for key, size in self._report.spooled.items() if key[0] != destination}
            spooled = others | {(destination, table): size for table, size in sizes.items()}
            self._report = replace(self._report, spooled=spooled)
            self._report = replace(self._report, lag_seconds=self._lag())

    def copied(self, table: TableId, row_count: int) -> None:
        """Record that this many rows of a table were copied."""
        with self._lock:
            counts = self._report.tables.get(table, TableCounts())
            self._put({table: replace(counts, copied=counts.copied + row_count)})

    def batch_applied(self, *, wait_seconds: float, apply_seconds: float) -> None:
        """Record that a destination has made a batch durable, how long it waited before and how long that took."""
        with self._lock:
            total = self._report.batches
            batches = Batches(
                count=total.count + 1,
                wait_seconds=total.wait_seconds + wait_seconds,
                apply_seconds=total.apply_seconds + apply_seconds,
            )
            self._report = replace(self._report, batches=batches)

    def applied(self, parts: Sequence[Applied]) -> None:
        """Record deliveries that every destination has just made durable, in order."""
        counts: dict[TableId, Counter[Operation]] = defaultdict(Counter)
        last: dict[TableId, Applied] = {}
        for part in parts:
            for (table, operation), count in part.counts.items():
                counts[table][operation] += count
                last[table] = part
        committed_at = next((part.committed_at for part in reversed(parts) if part.committed_at), None)
        with self._lock:
            if committed_at is not None:
                self._applied_lag = seconds_since(committed_at)
            self._put({table: self._add(table, of_table, last[table]) for table, of_table in counts.items()})
            self._report = replace(
                self._report,
                applied_lsn=parts[-1].lsn,
                last_commit_at=committed_at or self._report.last_commit_at,
                lag_seconds=self._lag(),
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

    def _lag(self) -> float | None:
        oldest = self._report.oldest_spooled_at
        if oldest is None:
            return self._applied_lag
        return max(seconds_since(oldest), self._applied_lag or 0.0)

    def _put(self, tables: dict[TableId, TableCounts]) -> None:
        self._report = replace(self._report, tables={**self._report.tables, **tables})


def _worst(of_table: Mapping[str, StateAndReason]) -> StateAndReason:
    """Return what a table shows that has these states at its destinations."""
    if not of_table:
        return TableState.PENDING, None
    destination = max(of_table, key=lambda each: _BEST_TO_WORST.index(of_table[each][0]))
    state, reason = of_table[destination]
    return state, f"Destination {destination}: {reason}" if reason and len(of_table) > 1 else reason


def seconds_since(committed_at: datetime) -> float:
    """Return how long ago the source committed something; 0 when its clock is ahead of ours."""
    return max(0.0, (datetime.now(UTC) - committed_at).total_seconds())
