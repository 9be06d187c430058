"""Decides how a seed becomes a value of a strategy: the same one in every process, and after every change of the code."""

from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

_Value = TypeVar("_Value")


class PlainProvider(HypothesisProvider):
    """Hypothesis without the constants that it finds in the modules that happen to be loaded."""

    def _maybe_draw_constant(self, *arguments: Any, **options: Any) -> None:
        return None


AVAILABLE_PROVIDERS["plain"] = f"{__name__}.{PlainProvider.__name__}"


def drawn(strategy: "st.SearchStrategy[_Value]", number: int) -> _Value:
    """The value of the strategy that belongs to the seed."""
    found: list[_Value] = []

    @seed(number)
    @settings(
        # The first one is always the simplest.
        max_examples=2,
        backend="plain",
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(value: _Value) -> None:
        found.append(value)

    keep()
    return found[-1]
