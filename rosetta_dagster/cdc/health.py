"""Decides how a pipeline is, from what its row says and what the source says of its slot."""

from dataclasses import dataclass

from rosetta_dagster.cdc.config import Health, Status
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slots import SlotState, look_at_slot, lost
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState

#: Unconfirmed WAL from which on a pipeline is late, and from which on the source's disk is in danger, in bytes.
LAG_WARNING_BYTES = 128 * 1024 * 1024
LAG_ERROR_BYTES = 1024 * 1024 * 1024

#: What the source says of a slot that retains more WAL than max_wal_size, and of one that the next checkpoint may lose.
_OF_WAL_STATUS = {"extended": Health.WARNING, "unreserved": Health.ERROR, "lost": Health.ERROR}

#: A run that streams writes its heartbeat every two seconds; silence for this long means that there is none.
HEARTBEAT_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a pipeline and its slot."""

    state: PipelineState
    slot_name: str
    #: None when there is no slot, or when the source could not be asked.
    slot: SlotState | None
    #: Why the source could not be asked, or why the slot is of no use.
    error: str | None

    @property
    def lag(self) -> Health:
        """How far the slot is behind, and how near to being lost. A pipeline never started has no slot and no lag."""
        if self.error is not None:
            return Health.ERROR
        if self.slot is None:
            return Health.HEALTHY
        said = _OF_WAL_STATUS.get(self.slot.wal_status or "", Health.HEALTHY)
        if self.slot.lag_bytes >= LAG_ERROR_BYTES or said is Health.ERROR:
            return Health.ERROR
        return Health.WARNING if self.slot.lag_bytes >= LAG_WARNING_BYTES else said

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
    if error is None or slot is not None:
        store.report_slot(state.id, slot_name, slot)
    observation = Observation(state=state, slot_name=slot_name, slot=slot, error=error)
    store.report_health(state.id, observation.health)
    return observation


def _look_at_slot(store: Store, name: str) -> tuple[str, SlotState | None, str | None]:
    try:
        config = store.pipeline(name)
    except RosettaError as error:
        return "", None, str(error)
    source = config.source.connection
    try:
        with source_errors(source), connect(source) as connection:
            slot = look_at_slot(connection, config.slot_name)
    except RosettaError as error:
        return config.slot_name, None, str(error)
    return config.slot_name, slot, str(lost(config.slot_name)) if slot is not None and slot.is_lost else None
