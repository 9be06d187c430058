"""What is said of a pipeline's health, from its row and its slot."""

from typing import Any

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import Health, Status
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.operate.health import Observation, observe
from rosetta_dagster.cdc.operate.waiting import HEARTBEAT_LIMIT_SECONDS
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.store.database import Store
from tests.support.database import Database
from tests.support.rows import Add, metadata, state_of


@pytest.mark.parametrize(
    ("changes", "lag_bytes", "error", "health"),
    [
        ({}, 0, None, Health.HEALTHY),
        ({}, Thresholds().wal_warning_bytes - 1, None, Health.HEALTHY),
        ({}, Thresholds().wal_warning_bytes, None, Health.WARNING),
        ({}, Thresholds().wal_error_bytes - 1, None, Health.WARNING),
        ({}, Thresholds().wal_error_bytes, None, Health.ERROR),
        ({}, 0, "away", Health.ERROR),
        ({}, None, None, Health.HEALTHY),
        ({"heartbeat_age": HEARTBEAT_LIMIT_SECONDS + 1}, 0, None, Health.ERROR),
        ({"heartbeat_age": None}, 0, None, Health.ERROR),
        ({"run_status": "FAILED"}, 0, None, Health.ERROR),
        ({"run_status": "FAILED", "status": Status.PAUSE}, 0, None, Health.HEALTHY),
        ({"heartbeat_age": None, "status": Status.PAUSE}, Thresholds().wal_warning_bytes, None, Health.WARNING),
        ({"heartbeat_age": None, "status": Status.REFRESH}, 0, None, Health.ERROR),
    ],
)
def test_the_health_is_the_worse_of_run_and_slot(
    changes: dict[str, Any], lag_bytes: int | None, error: str | None, health: Health
) -> None:
    slot = None if lag_bytes is None else SlotReading(True, "reserved", Lsn(0), 0, lag_bytes, None, Lsn(lag_bytes))
    observation = Observation(state=state_of(**changes), slot_name="s", slot=slot, error=error)
    assert health is observation.health


@pytest.mark.parametrize(
    ("wal_status", "lag_bytes", "health"),
    [
        ("extended", 0, Health.WARNING),
        ("extended", Thresholds().wal_error_bytes, Health.ERROR),
        ("unreserved", 0, Health.ERROR),
        ("lost", 0, Health.ERROR),
    ],
)
def test_a_slot_in_danger_shows_in_the_health(wal_status: str, lag_bytes: int, health: Health) -> None:
    slot = SlotReading(True, wal_status, Lsn(0), 0, lag_bytes, None, Lsn(lag_bytes))
    assert health is Observation(state=state_of(), slot_name="s", slot=slot, error=None).health


def test_a_failed_run_is_explained_by_its_error() -> None:
    failed = state_of(run_status="FAILED", last_error="wrong row")
    assert "wrong row" == Observation(state=failed, slot_name="s", slot=None, error=None).problem


def test_an_observation_of_a_pipeline_writes_its_slot_and_health(
    store: Store, add: Add, source: Database, config_database: Database
) -> None:
    # Slots are of the whole server, so the name has to be of this test alone.
    name = source.connection.database
    add(name, source=source)
    assert observe(store, name).slot is None
    source.run(f"SELECT pg_create_logical_replication_slot('rosetta_{name}', 'pgoutput')")
    observation = observe(store, name)
    assert (Health.HEALTHY, False) == (observation.health, observation.slot is not None and observation.slot.active)
    slot_name, wal_size = metadata(config_database, "slot_name, wal_size")
    assert f"rosetta_{name}" == slot_name
    assert wal_size >= 0


def test_an_unreachable_source_is_an_error_that_keeps_what_was_seen_last(
    store: Store, add: Add, config_database: Database
) -> None:
    pipeline_id = add("shop", host="127.0.0.1")
    config_database.run("UPDATE sources SET pg_port = 1")
    store.report_slot(pipeline_id, "rosetta_shop", SlotReading(True, "reserved", Lsn(256), 1000, 10, None, Lsn(266)))
    observation = observe(store, "shop")
    assert Health.ERROR is store.state("shop").health
    assert "Source u@127.0.0.1:1/d cannot be reached" in str(observation.error)
    assert (1000,) == metadata(config_database, "wal_size")


def test_a_secret_that_cannot_be_read_is_an_error_of_the_pipeline(add: Add, config_database: Database) -> None:
    add("shop")
    with Store(SecretStr(config_database.url)) as keyless:
        assert "SECRET_KEY is not set" in str(observe(keyless, "shop").error)
        assert Health.ERROR is keyless.state("shop").health
