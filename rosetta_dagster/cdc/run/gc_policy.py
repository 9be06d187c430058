"""Decides when Python looks for cyclic garbage: once a minute, between two deliveries.

Each time it looks at all changes in memory, which hold no cycles. By itself it would look after so many new objects, and
changes are made by the million; and JPype wants it to after each collection of Java's, ten times a second under load, unless
it is switched off. Either costs a tenth of the worker's time and more.
"""

import gc
import time
from types import TracebackType
from typing import Final, Self

#: Seconds between two collections.
INTERVAL: Final = 60.0


class RareCollections:
    """While it is entered, garbage is collected by `make_if_due` only. Of the whole process: a process has one collector."""

    def __init__(self) -> None:
        self._made_at = time.monotonic()

    def __enter__(self) -> Self:
        gc.disable()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        gc.enable()

    def make_if_due(self) -> None:
        if time.monotonic() - self._made_at >= INTERVAL:
            gc.collect()
            self._made_at = time.monotonic()
