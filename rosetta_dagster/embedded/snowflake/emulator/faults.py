"""Decides which requests fail next: a queue of pending faults."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from rosetta_dagster.embedded.snowflake.fault import Fault, FaultKind


class Faults:
    """The pending faults. Used by the event loop only."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []

    @property
    def pending(self) -> list[Fault]:
        return list(self._pending)

    def add(self, faults: Iterable[Fault]) -> None:
        self._pending.extend(faults)

    def clear(self) -> None:
        self._pending.clear()

    def of_request(self) -> Fault | None:
        """Return the fault that affects any request."""
        return self._take(lambda fault: fault.kind is FaultKind.UNAVAILABLE and not fault.matching)

    def of_statement(self, text: str) -> Fault | None:
        """Return the fault that affects this statement."""
        return self._take(lambda fault: re.search(fault.matching, text, re.IGNORECASE) is not None)

    def _take(self, fits: Callable[[Fault], bool]) -> Fault | None:
        for at, fault in enumerate(self._pending):
            if fits(fault):
                left = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
                self._pending[at : at + 1] = left
                return fault
        return None
