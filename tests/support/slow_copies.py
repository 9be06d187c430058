"""Copies that wait for the test."""

from collections.abc import Callable
from typing import Any

import pytest

from rosetta_dagster.cdc.copy import snapshot


def slow_down(monkeypatch: pytest.MonkeyPatch, wait: Callable[[], None]) -> None:
    """Let each range of a copy wait before it is read."""
    load = snapshot.Copier._load

    def slow(copier: snapshot.Copier, *arguments: Any) -> bool:
        wait()
        return load(copier, *arguments)

    monkeypatch.setattr(snapshot.Copier, "_load", slow)
