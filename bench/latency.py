"""Writes small transactions at a steady rate, and records when each is visible at the destination."""

import threading
import time
from collections.abc import Sequence
from typing import Final

import psycopg

#: Seconds between two polls of the destination.
_POLL: Final = 0.001


def latencies(source: str, destination: str, first: int, *, rate: int, seconds: int, patience: float) -> list[float]:
    """Return the milliseconds from the answer to each COMMIT until the change is visible. Markers are numbered from `first`.

    So many are written each second. `patience` is how many seconds the last may take.
    """
    committed: list[float] = []
    writer = threading.Thread(target=_write, args=(source, first, rate, rate * seconds, committed), name="writer")
    writer.start()
    try:
        seen = _watch(destination, first, rate * seconds, seconds + patience)
    finally:
        writer.join()
    return [1000 * max(0.0, at - begun) for at, begun in zip(seen, committed, strict=True)]


def percentile(figures: Sequence[float], percent: float) -> float:
    return sorted(figures)[min(len(figures) - 1, int(len(figures) * percent / 100))]


def _write(source: str, first: int, rate: int, count: int, committed: list[float]) -> None:
    """Let commits wait for the disk, as by default: a walsender sends nothing that is not on disk."""
    with psycopg.connect(source, autocommit=True) as connection:
        began = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            connection.execute("INSERT INTO marker VALUES (%s)", [first + number])
            committed.append(time.perf_counter())


def _watch(destination: str, first: int, count: int, timeout: float) -> list[float]:
    """Return when each marker was visible."""
    seen: list[float] = []
    deadline = time.perf_counter() + timeout
    with psycopg.connect(destination, autocommit=True) as connection:
        while len(seen) < count:
            row = connection.execute("SELECT max(number) FROM marker").fetchone()
            now = time.perf_counter()
            newest = -1 if row is None or row[0] is None else int(row[0])
            seen.extend([now] * (newest - first + 1 - len(seen)))
            if now > deadline:
                raise TimeoutError("not every change arrived")
            time.sleep(_POLL)
    return seen
