"""A kind of destination that `rosetta test` has no steps for is tested by its session."""

from collections.abc import Iterator

import pytest

from rosetta_dagster.cdc.config.pipeline import DestinationConfig
from rosetta_dagster.cdc.destination.registry import register, unregister
from rosetta_dagster.cdc.operate.connection_test import Outcome, _session_step
from rosetta_dagster.testing import MEMORY


@pytest.fixture
def memory() -> Iterator[None]:
    register(MEMORY)
    yield
    unregister(MEMORY)


def outcome(**config: str) -> tuple[Outcome, str]:
    (step,) = _session_step(DestinationConfig(name="mem", type="MEMORY", config=config))
    assert ("destination mem", "session") == (step.place, step.name)
    return step.outcome, step.detail


@pytest.mark.usefixtures("memory")
def test_a_session_of_another_kind_is_opened() -> None:
    assert (Outcome.OK, "of memory/numbers") == outcome(database="numbers", token="x")


@pytest.mark.usefixtures("memory")
def test_settings_of_another_kind_that_are_wrong_are_a_failed_step() -> None:
    assert outcome(database="numbers", token="x", absent="1")[0] is Outcome.FAILED


def test_a_kind_that_is_not_known_is_a_failed_step() -> None:
    assert outcome(database="numbers", token="x")[0] is Outcome.FAILED
