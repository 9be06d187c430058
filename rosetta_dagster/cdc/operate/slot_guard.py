"""Decides what is done about a slot that retains more WAL than its pipeline allows, and does it (`on_slot_limit`).

It acts from outside of the run, since the run may be stuck, gone or paused.
"""

import logging
from dataclasses import replace
from enum import Enum, auto

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.config.slot_policy import SlotAction, SlotPolicy
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.health import Observation, observe
from rosetta_dagster.cdc.operate.waiting import HEARTBEAT_LIMIT_SECONDS
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.source.slot_removal import drop_retaining_slot
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState, RunStatus

_logger = logging.getLogger(__name__)


class Step(Enum):
    """What the guard does next."""

    NOTHING = auto()
    PAUSE = auto()
    DROP = auto()
    #: What was done before is over: the slot retains less, or is another one.
    FORGET = auto()


def observe_guarded(store: Store, name: str) -> Observation:
    """Observe the pipeline, and apply its policy if its slot retains too much WAL. Return how it is then."""
    found = observe(store, name)
    options = store.pipeline_options(found.state.id)
    if options is None or found.error is not None:
        # What cannot be read is not acted on. The observation says why.
        return found
    limit = found.thresholds.wal_error_bytes
    match next_step(options.on_slot_limit, found.state, found.slot, limit):
        case Step.PAUSE:
            return _pause(store, found)
        case Step.DROP:
            return _drop(store, found)
        case Step.FORGET:
            store.report_slot_action(found.state.id, None, None)
            return observe(store, name)
        case Step.NOTHING:
            return found


def next_step(policy: SlotPolicy, state: PipelineState, slot: SlotReading | None, limit: int) -> Step:
    """Return what is to be done. `slot` is None when there is none.

    A pipeline that was paused is not paused again, so that it can catch up. A slot is dropped only if the pipeline has run:
    before, it cannot be the pipeline's; and not under a first copy, which would have to begin again each time.
    """
    is_above = slot is not None and not slot.is_lost and slot.retained_bytes >= limit
    if state.slot_action is SlotAction.DROPPED:
        return Step.NOTHING if slot is None or slot.is_lost else Step.FORGET
    if state.slot_action is SlotAction.PAUSED and not is_above:
        return Step.FORGET
    if is_above and policy is SlotPolicy.DROP_SLOT and state.run_id is not None:
        return Step.NOTHING if _makes_first_copy(state) else Step.DROP
    is_due = is_above and policy is SlotPolicy.PAUSE and state.slot_action is None
    return Step.PAUSE if is_due and state.status is not Status.PAUSE else Step.NOTHING


def _makes_first_copy(state: PipelineState) -> bool:
    is_heard = state.heartbeat_age is not None and state.heartbeat_age <= HEARTBEAT_LIMIT_SECONDS
    return is_heard and state.run_status is RunStatus.SNAPSHOT


def _pause(store: Store, found: Observation) -> Observation:
    name = found.state.name
    _note(
        store,
        found,
        SlotAction.PAUSED,
        "so the pipeline was paused (on_slot_limit = PAUSE). The slot goes on to retain WAL. Once the cause is fixed: "
        f"rosetta start {name}. To free the WAL and copy all tables again: rosetta resync {name}",
    )
    store.set_status(name, Status.PAUSE)
    return _acted(store, name)


def _drop(store: Store, found: Observation) -> Observation:
    """Drop the slot. It is written before it is done, so that a process that ends in between leaves no silent gap."""
    name = found.state.name
    _note(
        store,
        found,
        SlotAction.DROPPED,
        "so it was dropped (on_slot_limit = DROP_SLOT). The changes since then are not replicated, and all tables have to "
        f"be copied again: rosetta pause {name}; rosetta resync {name}; rosetta start {name}",
    )
    try:
        config = store.pipeline(name)
        source = config.source.connection
        with source_errors(source), connect(source) as connection:
            is_dropped = drop_retaining_slot(connection, config.slot_name, found.thresholds.wal_error_bytes)
    except RosettaError as error:
        _take_back(store, found)
        return replace(found, error=str(error))
    if is_dropped:
        return _acted(store, name)
    # It retains less by now, or another slot has the name: nothing is lost.
    _take_back(store, found)
    return found


def _take_back(store: Store, found: Observation) -> None:
    """Write what the row said before."""
    before = found.state
    store.report_slot_action(before.id, before.slot_action, before.slot_action_reason)


def _acted(store: Store, name: str) -> Observation:
    after = observe(store, name)
    _logger.error("Pipeline %s: %s", name, after.state.slot_action_reason)
    return after


def _note(store: Store, found: Observation, action: SlotAction, consequence: str) -> None:
    retained = found.slot.retained_bytes if found.slot is not None else 0
    limit = found.thresholds.wal_error_bytes
    reason = (
        f"Replication slot {found.slot_name} retained {retained:,} bytes of WAL, and wal_error_bytes is {limit:,}, "
        f"{consequence}"
    )
    store.report_slot_action(found.state.id, action, reason)
