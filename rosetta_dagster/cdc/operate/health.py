"""Decides how a pipeline is, from what its row says and what the source says of its slot."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from rosetta_dagster.cdc.config.pipeline import Health, Status, checked
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slot_reading import SlotReading, slot_reading
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState, WalSample

#: What the source says of a slot that retains more WAL than max_wal_size, and of one that the next checkpoint may lose.
_OF_WAL_STATUS = {"extended": Health.WARNING, "unreserved": Health.ERROR, "lost": Health.ERROR}

#: A run that streams writes its heartbeat every two seconds; silence for this long means that there is none.
HEARTBEAT_LIMIT_SECONDS = 60.0

#: Two looks at a slot that are closer than this say nothing of how fast it grows, in seconds.
SHORTEST_SAMPLE = 5.0

#: Unconfirmed WAL up to which a stream has caught up: other tables and the server itself always write some.
CAUGHT_UP_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a pipeline and its slot."""

    state: PipelineState
    slot_name: str
    #: None when there is no slot, or when the source could not be asked.
    slot: SlotReading | None
    #: Why the source could not be asked.
    error: str | None
    thresholds: Thresholds = field(default_factory=Thresholds)
    #: Bytes per second by which the WAL that the slot retains has grown since the last look; None: not known.
    growth: float | None = None
    #: Commit time at the source of the last change that the destinations hold.
    last_commit_at: datetime | None = None

    @property
    def seconds_until_lost(self) -> float | None:
        """When the source will remove WAL that the slot needs, if it goes on like this; None: not in sight."""
        if self.slot is None or self.slot.safe_wal_bytes is None or self.growth is None or self.growth <= 0:
            return None
        return max(0.0, self.slot.safe_wal_bytes / self.growth)

    @property
    def lag(self) -> Health:
        """How far the slot is behind, and how near to being lost. A pipeline never started has no slot and no lag."""
        if self.error is not None:
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
        """Seconds by which the destinations are behind the source; None while the pipeline was never in step with it.

        A stream that is caught up is as old as its last word to the slot, which it gives every few seconds, changes or not.
        One that is behind is older by the age of what it applied last.
        """
        if self.state.last_success_time is None:
            return None
        silence = max(0.0, (datetime.now(UTC) - self.state.last_success_time).total_seconds())
        is_behind = self.slot is not None and self.slot.lag_bytes > CAUGHT_UP_BYTES
        return silence + (self.state.lag_seconds or 0.0) if is_behind else silence

    @property
    def freshness(self) -> Health:
        """How old the destinations' data is. What is paused is as old as it is meant to be."""
        if self.state.status is Status.PAUSE or self.age is None:
            return Health.HEALTHY
        return _above(self.age, self.thresholds.freshness_warning_seconds, self.thresholds.freshness_error_seconds)

    @property
    def problem(self) -> str | None:
        """What is wrong with the pipeline itself; None when nothing is."""
        state = self.state
        if state.status is Status.PAUSE:
            return None
        if state.run_status == "FAILED":
            return state.last_error or "The last run failed."
        if state.heartbeat_age is None or state.heartbeat_age > HEARTBEAT_LIMIT_SECONDS:
            return "The pipeline is to run, but no run is streaming. Look at its runs, and whether the daemon is up."
        return None

    @property
    def set_aside(self) -> str | None:
        """Which tables are left out, and why; None when all are replicated."""
        errors = self.state.table_errors
        if not errors:
            return None
        return f"{len(errors)} of {self.state.table_count} tables are set aside; resync them. {' '.join(errors)}"

    @property
    def health(self) -> Health:
        """The worst of them."""
        if self.problem is not None:
            return Health.ERROR
        return Health.WARNING if self.set_aside and self.lag is Health.HEALTHY else self.lag


def observe(store: Store, name: str) -> Observation:
    """Look at a pipeline and its slot, and write both to its row."""
    state = store.state(name)
    slot_name, slot, error = _look_at_slot(store, name)
    before = store.wal_sample(state.id)
    if error is None:
        store.report_slot(state.id, slot_name, slot)
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
        growth=None if slot is None else growth(before, slot.retained_bytes),
        last_commit_at=max(changes, default=None),
    )
    store.report_health(state.id, observation.health)
    return observation


def thresholds_of(store: Store, name: str) -> Thresholds:
    """From where on the pipeline's checks warn and fail. `ConfigurationError` when its row is wrong."""
    return checked(Thresholds, store.thresholds(name), f"pipelines.thresholds of {name}")


def growth(before: WalSample, retained_bytes: int) -> float | None:
    """Bytes per second between two looks; None when there was none before, or too short a time ago."""
    if before.retained_bytes is None or before.age is None or before.age < SHORTEST_SAMPLE:
        return None
    return (retained_bytes - before.retained_bytes) / before.age


def _above(value: float, warning: float, error: float) -> Health:
    if value >= error:
        return Health.ERROR
    return Health.WARNING if value >= warning else Health.HEALTHY


def _worst(*seen: Health) -> Health:
    return max(seen, key=[Health.HEALTHY, Health.WARNING, Health.ERROR].index)


def _look_at_slot(store: Store, name: str) -> tuple[str, SlotReading | None, str | None]:
    try:
        config = store.pipeline(name)
    except RosettaError as error:
        return "", None, str(error)
    source = config.source.connection
    try:
        with source_errors(source), connect(source) as connection:
            return config.slot_name, slot_reading(connection, config.slot_name), None
    except RosettaError as error:
        return config.slot_name, None, str(error)
