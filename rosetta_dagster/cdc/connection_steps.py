"""Steps of the test of a connection, and how each ended. Sources and destinations yield them in the order of connecting."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rosetta_dagster.cdc.errors import RosettaError


class Outcome(StrEnum):
    """How a step ended."""

    OK = "OK"
    WARNING = "WARNING"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was tested."""

    place: str
    name: str
    outcome: Outcome
    detail: str = ""
    #: What to do about it; empty when nothing has to be done.
    remedy: str = ""


def failed(place: str, name: str, error: RosettaError) -> Step:
    """Return the step that ended with this error."""
    return Step(place=place, name=name, outcome=Outcome.FAILED, detail=error.message, remedy=error.remedy)


def skipped(place: str, names: Sequence[str]) -> list[Step]:
    """Return the steps that an earlier failure leaves out."""
    return [Step(place=place, name=name, outcome=Outcome.SKIPPED) for name in names]


def has_failed(steps: Sequence[Step]) -> bool:
    """Return whether one of the steps failed."""
    return any(step.outcome is Outcome.FAILED for step in steps)
