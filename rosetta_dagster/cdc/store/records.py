"""Read models of the configuration database: each pipeline's definition and current state."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.config.pipeline import Health, Status, TableState
from rosetta_dagster.cdc.config.slot_policy import SlotAction
from rosetta_dagster.cdc.report import Batches
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class TableShape:
    """A table of a pipeline, and its target."""

    id: TableId
    target_namespace: str | None = None
    target_name: str | None = None
    #: Whether a pattern has found it.
    is_by_pattern: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationShape:
    """A destination of a pipeline."""

    name: str
    type: str
    #: Schema of all its tables, when the destination names one.
    namespace: str | None = None
    #: The settings of its config that everybody may see.
    connection: dict[str, Any] = field(default_factory=dict)

    def target_of(self, table: TableShape) -> TableId:
        """Return the name of the table at this destination."""
        namespace = table.target_namespace or self.namespace or table.id.namespace
        return TableId(namespace, table.target_name or table.id.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceShape:
    """A source, as far as it can be shown to everybody."""

    name: str
    host: str
    port: int
    database: str
    username: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineShape:
    """Everything that Dagster shows of a pipeline's definition. It holds no secret, and no state of a run."""

    name: str
    engine: Engine
    source: SourceShape
    destinations: tuple[DestinationShape, ...]
    tables: tuple[TableShape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRecord:
    """The state of one table of a pipeline."""

    id: TableId
    state: TableState
    #: Why it was set aside.
    error: str | None
    rows_copied: int
    rows_applied: int
    last_change_time: datetime | None
    #: Whether a new copy was asked for that has not begun yet.
    resync: bool = False
    #: Version of the replica's contents; None before its first run.
    data_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedTable:
    """A table that matches a pattern of a pipeline and is not replicated."""

    id: TableId
    reason: str


class RunStatus(StrEnum):
    """What the last run of a pipeline reported: its phase, or how it ended."""

    STARTING = "STARTING"
    SNAPSHOT = "SNAPSHOT"
    STREAMING = "STREAMING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def is_open(self) -> bool:
        """Whether the run has not reported its end. A run that is killed cannot report it."""
        return self not in (RunStatus.STOPPED, RunStatus.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineState:
    """The state of a pipeline: the wanted status, and what was last observed."""

    id: int
    name: str
    source: str
    destinations: tuple[str, ...]
    table_count: int
    #: The tables that are set aside, each with the reason.
    table_errors: tuple[str, ...]
    status: Status
    run_status: RunStatus
    health: Health
    wal_size: int | None
    lag_bytes: int | None
    lag_seconds: float | None
    last_success_time: datetime | None
    last_error: str | None
    failure_count: int
    rows_copied: int
    rows_applied: int
    run_id: str | None
    #: Seconds since a run last reported.
    heartbeat_age: float | None
    #: Whether a run may start now; False while it waits after a failure.
    is_due: bool
    #: Seconds until the next attempt after a failure; None when none is planned, negative when it is due.
    seconds_until_due: float | None = None
    #: Seconds since the pipeline's row was last changed.
    unchanged_seconds: float = 0.0
    #: What the source last said of the slot: `reserved`, `extended`, `unreserved` or `lost`.
    wal_status: str | None = None
    #: What was done because the slot retained too much WAL; None: nothing, or it is over.
    slot_action: SlotAction | None = None
    #: Why, with the remedy.
    slot_action_reason: str | None = None
    #: The last request of an inspection that a run has met.
    inspection_done: int = 0


class Wanted(NamedTuple):
    """What a pipeline's row asks of its run."""

    status: Status
    #: The number of the last inspection that was requested.
    inspection: int
    #: Whether a table is to be copied again.
    has_resyncs: bool
    #: A hash of the pipeline's options and of its tables with theirs.
    definition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSample:
    """The last measurement of the WAL that a pipeline's slot retains."""

    #: None when there was no slot, or no measurement yet.
    retained_bytes: int | None
    #: Seconds since then.
    age: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProgress:
    """What a run has done to a table since its last report."""

    state: TableState
    #: Why it was set aside.
    error: str | None
    copied: int
    applied: int
    last_change_at: datetime | None
    #: Version of the table's contents after that; None when they have not changed.
    data_version: str | None = None
    #: What was applied, by operation.
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a run has done since its last report."""

    run_status: RunStatus
    applied_lsn: Lsn | None
    lag_seconds: float | None
    #: Seconds since changes were last durable everywhere or the slot was confirmed; None: not in this run.
    success_age: float | None
    tables: dict[TableId, TableProgress]
    batches: Batches = field(default_factory=Batches)
    #: The last request of an inspection that was met.
    inspection_done: int = 0

    @property
    def copied(self) -> int:
        return sum(table.copied for table in self.tables.values())

    @property
    def applied(self) -> int:
        return sum(table.applied for table in self.tables.values())
