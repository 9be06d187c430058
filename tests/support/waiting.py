"""Waiting for what happens soon, with one limit for all tests."""

import time
from collections.abc import Callable

#: Seconds that anything awaited here may take. Nothing takes long by itself, but a busy machine may.
TIMEOUT = 60.0


def eventually(condition: Callable[[], object], seconds: float = TIMEOUT) -> None:
    """Poll until the condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
