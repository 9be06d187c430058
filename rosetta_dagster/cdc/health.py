"""Decides how a pipeline is, from what its row says and what the source says of its slot."""

from dataclasses import dataclass

from rosetta_dagster.cdc.config import Health, Status
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slots import SlotState, read_slot
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState

#: Unconfirmed WAL from which on a pipeline is late, and from which on the source's disk is in danger, in bytes.
LAG_WARNING_BYTES = 128 * 1024 * 1024
LAG_ERROR_BYTES = 1024 * 1024 * 1024

#: A run that streams writes its heartbeat every two seconds; silence for this long means that there is none.
HEARTBEAT_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a pipeline and its slot."""

    state: PipelineState
    slot_name: str
    #: None when there is no slot, or when the source could not be asked.
    slot: SlotState | None
    #: Why the source could not be asked.
    error: str | None

    @property
    def lag(self) -> Health:
        """How far the slot is behind. A pipeline that was never started has no slot and no lag."""
        if self.error is not None:
            return Health.ERROR
        lag_bytes = self.slot.lag_bytes if self.slot else 0
        if lag_bytes >= LAG_ERROR_BYTES:
            return Health.ERROR
        return Health.WARNING if lag_bytes >= LAG_WARNING_BYTES else Health.HEALTHY

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
    if error is None:
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
            return config.slot_name, read_slot(connection, config.slot_name), None
    except RosettaError as error:
        return config.slot_name, None, str(error)
