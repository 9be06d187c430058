"""Explains a pipeline's state in one sentence, from its row alone: why it does not run, or why it is not healthy."""

from rosetta_dagster.cdc.config.pipeline import Health, Status
from rosetta_dagster.cdc.config.slot_policy import SlotAction
from rosetta_dagster.cdc.store.records import PipelineState, RunStatus

#: A run writes its heartbeat every two seconds; silence for this long means that it is gone.
HEARTBEAT_LIMIT_SECONDS = 60.0


def is_running(state: PipelineState) -> bool:
    """Return whether a run of the pipeline has written its heartbeat within the limit."""
    is_heard = state.heartbeat_age is not None and state.heartbeat_age <= HEARTBEAT_LIMIT_SECONDS
    return state.run_status.is_open and is_heard


def slot_notice(state: PipelineState) -> str | None:
    """Return what was done because the slot retained too much WAL, with the remedy; None once it is over."""
    is_over = state.slot_action is SlotAction.PAUSED and state.status is not Status.PAUSE
    return None if is_over else state.slot_action_reason


def obstacle(state: PipelineState) -> str | None:
    """Return why a pipeline that is to run does not; None when it runs or is paused."""
    if state.status is Status.PAUSE or is_running(state):
        return None
    if state.run_status is RunStatus.FAILED:
        return f"{state.last_error or 'The last run failed.'}{_next_attempt(state)}"
    if state.run_status.is_open:
        silence = f"{state.heartbeat_age:,.0f} s" if state.heartbeat_age is not None else "some time"
        return f"Its run has been silent for {silence}: its process is gone. Is Dagster's daemon running?"
    return "No run has started yet. Dagster's daemon starts one: is it running?"


def explanation(state: PipelineState) -> str | None:
    """Return what an operator has to know of the pipeline; None when all is well."""
    if (found := slot_notice(state) or obstacle(state)) is not None:
        return found
    if state.table_errors:
        count = f"{len(state.table_errors)} of {state.table_count} tables are set aside; resync them."
        return f"{count} {' '.join(state.table_errors)}"
    if state.status is Status.PAUSE:
        return None if state.last_error is None else f"Before the pause: {state.last_error}"
    if state.health is Health.HEALTHY:
        return state.last_error
    if state.wal_status == "lost":
        return f"Its replication slot is lost: the source removed WAL that it still needed. Run: rosetta resync {state.name}"
    retained = f"{state.wal_size / 2**20:,.0f} MiB of WAL" if state.wal_size is not None else "WAL"
    return f"Its replication slot retains {retained}. The checks wal_lag and freshness say more."


def _next_attempt(state: PipelineState) -> str:
    if state.seconds_until_due is None:
        return ""
    if state.seconds_until_due <= 0:
        return " The next attempt is due."
    minutes, seconds = divmod(round(state.seconds_until_due), 60)
    return f" Next attempt in {minutes} min {seconds} s." if minutes else f" Next attempt in {seconds} s."
