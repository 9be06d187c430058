"""Decides when Python collects cyclic garbage: once a minute, between two deliveries.

A collection visits all changes in memory, which hold no cycles. By default Python collects after a number of new objects,
and changes are created by the million. JPype triggers a collection after each of Java's, ten times a second under load,
unless Python's collector is disabled. Either costs a tenth of the worker's time or more.
"""

import gc
import time
from types import TracebackType
from typing import Final, Self

#: Seconds between two collections.
INTERVAL: Final = 60.0


class RareCollections:
    """Within the block, only `collect_if_due` collects garbage, in the whole process: a process has one collector."""

    def __init__(self) -> None:
        self._collected_at = time.monotonic()

    def __enter__(self) -> Self:
        gc.disable()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        gc.enable()

    def collect_if_due(self) -> None:
        """Collect garbage if the last collection was `INTERVAL` seconds ago."""
        if time.monotonic() - self._collected_at >= INTERVAL:
            gc.collect()
            self._collected_at = time.monotonic()
