"""A kind of destination is tested by steps of its own; one that is not known, or whose row is wrong, is a failed step."""

from collections.abc import Iterator

import pytest

from rosetta_dagster.cdc.config.pipeline import DestinationConfig
from rosetta_dagster.cdc.connection_steps import Outcome
from rosetta_dagster.cdc.destination.registry import register, unregister
from rosetta_dagster.cdc.operate.connection_test import _destination_steps
from rosetta_dagster.testing import MEMORY


@pytest.fixture
def memory() -> Iterator[None]:
    register(MEMORY)
    yield
    unregister(MEMORY)


def outcome(**config: str) -> tuple[str, Outcome, str]:
    (step,) = _destination_steps(DestinationConfig(name="mem", type="MEMORY", config=config), ())
    assert "destination mem" == step.place
    return step.name, step.outcome, step.detail


@pytest.mark.usefixtures("memory")
def test_a_kind_yields_its_own_steps() -> None:
    assert ("session", Outcome.OK, "of memory/numbers") == outcome(database="numbers", token="x")


@pytest.mark.usefixtures("memory")
def test_settings_that_are_wrong_are_a_failed_step() -> None:
    assert ("config", Outcome.FAILED) == outcome(database="numbers", token="x", absent="1")[:2]


def test_a_kind_that_is_not_known_is_a_failed_step() -> None:
    assert ("config", Outcome.FAILED) == outcome(database="numbers", token="x")[:2]
