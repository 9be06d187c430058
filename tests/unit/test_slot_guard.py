"""What is done about a slot that retains too much WAL, by policy, by what was done before, and by whose slot it is."""

from typing import Any

import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import Health, Status
from rosetta_dagster.cdc.config.slot_policy import SlotAction, SlotPolicy
from rosetta_dagster.cdc.operate.health import Observation
from rosetta_dagster.cdc.operate.slot_guard import Step, next_step
from rosetta_dagster.cdc.operate.waiting import explanation
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.store.records import RunStatus
from tests.support.rows import state_of

LIMIT = 1000


def slot(retained_bytes: int, wal_status: str = "reserved") -> SlotReading:
    return SlotReading(False, wal_status, Lsn(1), retained_bytes, 0, None, Lsn(2))


ABOVE, BELOW, LOST = slot(LIMIT), slot(LIMIT - 1), slot(LIMIT, "lost")


@pytest.mark.parametrize(
    ("policy", "found", "changes", "step"),
    [
        (SlotPolicy.ALERT, ABOVE, {}, Step.NOTHING),
        (SlotPolicy.PAUSE, BELOW, {}, Step.NOTHING),
        (SlotPolicy.PAUSE, ABOVE, {}, Step.PAUSE),
        (SlotPolicy.PAUSE, ABOVE, {"status": Status.PAUSE}, Step.NOTHING),
        # Somebody started it again, so that it catches up.
        (SlotPolicy.PAUSE, ABOVE, {"slot_action": SlotAction.PAUSED}, Step.NOTHING),
        (SlotPolicy.PAUSE, BELOW, {"slot_action": SlotAction.PAUSED}, Step.FORGET),
        (SlotPolicy.DROP_SLOT, BELOW, {"run_id": "a-run"}, Step.NOTHING),
        (SlotPolicy.DROP_SLOT, ABOVE, {"run_id": "a-run"}, Step.DROP),
        (SlotPolicy.DROP_SLOT, ABOVE, {"run_id": "a-run", "status": Status.PAUSE}, Step.DROP),
        (SlotPolicy.DROP_SLOT, ABOVE, {"run_id": "a-run", "slot_action": SlotAction.PAUSED}, Step.DROP),
        # A first copy would begin again, and retain as much.
        (SlotPolicy.DROP_SLOT, ABOVE, {"run_id": "a-run", "run_status": RunStatus.SNAPSHOT}, Step.NOTHING),
        (SlotPolicy.DROP_SLOT, ABOVE, {"run_id": "a-run", "run_status": RunStatus.SNAPSHOT, "heartbeat_age": 90}, Step.DROP),
        # A pipeline that never ran has no slot: this one is another's.
        (SlotPolicy.DROP_SLOT, ABOVE, {}, Step.NOTHING),
        (SlotPolicy.DROP_SLOT, LOST, {"run_id": "a-run"}, Step.NOTHING),
        (SlotPolicy.DROP_SLOT, None, {"run_id": "a-run"}, Step.NOTHING),
        (SlotPolicy.DROP_SLOT, None, {"slot_action": SlotAction.DROPPED}, Step.NOTHING),
        (SlotPolicy.ALERT, BELOW, {"slot_action": SlotAction.DROPPED}, Step.FORGET),
    ],
)
def test_the_policy_is_applied_once_and_only_to_a_slot_of_the_pipeline(
    policy: SlotPolicy, found: SlotReading | None, changes: dict[str, Any], step: Step
) -> None:
    assert step is next_step(policy, state_of(**changes), found, LIMIT)


@pytest.mark.parametrize(
    ("action", "status", "health"),
    [
        (SlotAction.DROPPED, Status.PAUSE, Health.ERROR),
        (SlotAction.DROPPED, Status.START, Health.ERROR),
        (SlotAction.PAUSED, Status.PAUSE, Health.ERROR),
        (SlotAction.PAUSED, Status.START, Health.HEALTHY),
    ],
)
def test_what_was_done_shows_until_it_is_over(action: SlotAction, status: Status, health: Health) -> None:
    state = state_of(slot_action=action, slot_action_reason="It was dropped. Resync it.", status=status)
    assert health is Observation(state=state, slot_name="s", slot=None, error=None).health
    assert (explanation(state) == "It was dropped. Resync it.") is (health is Health.ERROR)


def test_a_lost_slot_is_explained_by_its_remedy_also_of_a_paused_pipeline() -> None:
    said = explanation(state_of(wal_status="lost", health=Health.ERROR))
    assert said == "Its replication slot is lost: the source removed WAL that it still needed. Run: rosetta resync shop"
