"""Decides a pipeline's health, from its row and from the state of its slot at the source."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from rosetta_dagster.cdc.config.pipeline import Health, Status, checked
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.waiting import HEARTBEAT_LIMIT_SECONDS, obstacle, slot_notice
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.preflight.encryption import exposures
from rosetta_dagster.cdc.source.slot_reading import SlotReading, slot_reading
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState, RunStatus, WalSample

#: `extended`: the slot retains more WAL than max_wal_size. `unreserved`: the next checkpoint may lose it.
_OF_WAL_STATUS = {"extended": Health.WARNING, "unreserved": Health.ERROR, "lost": Health.ERROR}

#: Two readings of a slot that are closer than this, in seconds, do not show how fast its WAL grows.
SHORTEST_SAMPLE = 5.0

#: A stream with at most this much unconfirmed WAL has caught up: other tables and the server itself always write some.
CAUGHT_UP_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A pipeline and its slot at one moment."""

    state: PipelineState
    slot_name: str
    #: None when there is no slot, or when the source could not be read.
    slot: SlotReading | None
    #: Why the source could not be read.
    error: str | None
    thresholds: Thresholds = field(default_factory=Thresholds)
    #: Growth of the WAL that the slot retains, in bytes per second since the last reading; None: unknown.
    growth: float | None = None
    #: Commit time at the source of the last change that was applied.
    last_commit_at: datetime | None = None
    #: The connections that are not encrypted, to hosts other than this machine; None: there are none.
    exposed: str | None = None

    @property
    def slot_notice(self) -> str | None:
        """What was done because the slot retained too much WAL, with the remedy; None once it is over."""
        return slot_notice(self.state)

    @property
    def seconds_until_lost(self) -> float | None:
        """Seconds until the source removes WAL that the slot needs, at the current growth; None: it does not."""
        if self.slot is None or self.slot.safe_wal_bytes is None or self.growth is None or self.growth <= 0:
            return None
        return max(0.0, self.slot.safe_wal_bytes / self.growth)

    @property
    def lag(self) -> Health:
        """How far the slot is behind and how near to being lost. A pipeline that never ran has no slot and no lag."""
        if self.error is not None or self.slot_notice is not None:
            return Health.ERROR
        if self.slot is None:
            return Health.HEALTHY
        said = _OF_WAL_STATUS.get(self.slot.wal_status or "", Health.HEALTHY)
        retained_bytes = max(self.slot.retained_bytes, self.slot.lag_bytes)
        by_size = _above(retained_bytes, self.thresholds.wal_warning_bytes, self.thresholds.wal_error_bytes)
        return _worst(said, by_size, self._forecast)

    @property
    def _forecast(self) -> Health:
        left = self.seconds_until_lost
        if left is None:
            return Health.HEALTHY
        return _above(-left, -self.thresholds.slot_warning_seconds, -self.thresholds.slot_error_seconds)

    @property
    def age(self) -> float | None:
        """Seconds by which the destinations are behind the source; None while they have never caught up with it.

        A stream that has caught up confirms its slot every few seconds, with changes or without: its age is the time since
        then. The age of a stream that is behind is longer by the lag of what it applied last.
        """
        if self.state.last_success_time is None:
            return None
        silence = max(0.0, (datetime.now(UTC) - self.state.last_success_time).total_seconds())
        is_behind = self.slot is not None and self.slot.lag_bytes > CAUGHT_UP_BYTES
        return silence + (self.state.lag_seconds or 0.0) if is_behind else silence

    @property
    def freshness(self) -> Health:
        """Health by the age of the destinations' data. A paused pipeline is not stale."""
        if self.state.status is Status.PAUSE or self.age is None:
            return Health.HEALTHY
        return _above(self.age, self.thresholds.freshness_warning_seconds, self.thresholds.freshness_error_seconds)

    @property
    def problem(self) -> str | None:
        """Why the pipeline does not run although it is to; None otherwise."""
        state = self.state
        if state.status is not Status.PAUSE and state.run_status is RunStatus.FAILED:
            return state.last_error or "The last run failed."
        # Between two runs, a restart is under way.
        is_silent = state.heartbeat_age is None or state.heartbeat_age > HEARTBEAT_LIMIT_SECONDS
        return obstacle(state) if is_silent else None

    @property
    def set_aside(self) -> str | None:
        """Which tables are set aside, and why; None when all are replicated."""
        errors = self.state.table_errors
        if not errors:
            return None
        return f"{len(errors)} of {self.state.table_count} tables are set aside; resync them. {' '.join(errors)}"

    @property
    def health(self) -> Health:
        """ERROR when the run has a problem; else the lag's, at least WARNING for tables set aside or exposed."""
        if self.problem is not None:
            return Health.ERROR
        return Health.WARNING if (self.set_aside or self.exposed) and self.lag is Health.HEALTHY else self.lag


def observe(store: Store, name: str) -> Observation:
    """Read a pipeline and its slot, and record both in its row."""
    state = store.state(name)
    slot_name, slot, error, exposed = _read_slot(store, name)
    before = store.wal_sample(state.id)
    pace = None if slot is None else growth(before, slot.retained_bytes)
    if error is None:
        store.report_slot(state.id, slot_name, slot, pace)
    changes = [table.last_change_time for table in store.tables(name) if table.last_change_time is not None]
    thresholds, wrong = Thresholds(), None
    try:
        thresholds = thresholds_of(store, name)
    except RosettaError as reason:
        wrong = str(reason)
    observation = Observation(
        state=state,
        slot_name=slot_name,
        slot=slot,
        error=error or wrong,
        thresholds=thresholds,
        growth=pace,
        last_commit_at=max(changes, default=None),
        exposed=exposed,
    )
    store.report_health(state.id, observation.health)
    return observation


def thresholds_of(store: Store, name: str) -> Thresholds:
    """Return the thresholds of the pipeline's checks. `ConfigurationError` when its row is wrong."""
    return checked(Thresholds, store.thresholds(name), f"pipelines.thresholds of {name}")


def growth(before: WalSample, retained_bytes: int) -> float | None:
    """Return the bytes per second between two readings; None without an earlier one, or when it is too recent."""
    if before.retained_bytes is None or before.age is None or before.age < SHORTEST_SAMPLE:
        return None
    return (retained_bytes - before.retained_bytes) / before.age


def _above(value: float, warning: float, error: float) -> Health:
    if value >= error:
        return Health.ERROR
    return Health.WARNING if value >= warning else Health.HEALTHY


def _worst(*seen: Health) -> Health:
    return max(seen, key=[Health.HEALTHY, Health.WARNING, Health.ERROR].index)


def _read_slot(store: Store, name: str) -> tuple[str, SlotReading | None, str | None, str | None]:
    """Return the slot's name and state, why it could not be read, and which connections are not encrypted."""
    try:
        config = store.pipeline(name)
    except RosettaError as error:
        return "", None, str(error), None
    source = config.source.connection
    try:
        with source_errors(source), connect(source) as connection:
            exposed = " ".join(exposures(connection, config)) or None
            return config.slot_name, slot_reading(connection, config.slot_name), None, exposed
    except RosettaError as error:
        return config.slot_name, None, str(error), None
