from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from rosetta_dagster.cdc.destination.base import FlushPolicy
from rosetta_dagster.cdc.destination.schedule import FlushSchedule
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.stream.pending_batch import PendingBatch
from tests.support.changes import insert, table

ITEMS = table("id", "name")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def config(**settings: Any) -> SnowflakeDestinationConfig:
    return SnowflakeDestinationConfig(account="a", user="u", database="d", private_key_env="ROSETTA_SECRET_K", **settings)


def test_a_schedule_is_of_its_time_zone_also_when_the_clocks_change() -> None:
    schedule = FlushSchedule("0 6 * * *", "Europe/Zurich")
    assert at("2026-03-28T05:00+00:00") == schedule.next_after(at("2026-03-28T00:00+00:00"))
    assert at("2026-03-29T04:00+00:00") == schedule.next_after(at("2026-03-28T12:00+00:00"))
    assert at("2026-10-25T05:00+00:00") == schedule.next_after(at("2026-10-24T12:00+00:00"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"flush_schedule": "every day"}, "flush_schedule has to be a cron expression"),
        ({"flush_schedule": "* * * * * *"}, "flush_schedule has to be a cron expression of five fields"),
        ({"flush_schedule": "0 6 * * *", "flush_time_zone": "Zurich"}, "flush_time_zone has to be a name"),
        ({"transient": True, "retention_days": 7}, "retention_days has to be 0 or 1 with transient"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        config(**settings)


def test_changes_wait_until_the_schedule_is_due_and_not_for_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = config(flush_seconds=0, flush_schedule="30 * * * *").flush
    clock = [at("2026-01-01T12:00+00:00")]
    monkeypatch.setattr("rosetta_dagster.cdc.stream.pending_batch.time.time", lambda: clock[0])
    pending = PendingBatch()
    assert not pending.is_due(policy), "nothing waits"
    pending.add([insert(ITEMS, "1", "a")])
    assert not pending.is_due(policy)
    clock[0] = at("2026-01-01T12:29:59+00:00")
    assert not pending.is_due(policy)
    clock[0] = at("2026-01-01T12:30+00:00")
    assert pending.is_due(policy)
    assert not pending.is_full(policy)


def test_without_a_schedule_the_seconds_count() -> None:
    pending = PendingBatch()
    pending.add([insert(ITEMS, "1", "a")])
    assert pending.is_due(FlushPolicy())
    assert not pending.is_due(FlushPolicy(seconds=60))
