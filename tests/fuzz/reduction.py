"""Makes a failing workload smaller as long as it fails in the same way and time is left."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from .workloads import CopyIn, Insert, Workload, without_column

#: Whether a workload still fails as the first one did.
Fails = Callable[[Workload], bool]


def reduced(workload: Workload, fails: Fails, *, seconds: float) -> Workload:
    """The smallest that was found in this time."""
    deadline = time.monotonic() + seconds
    has_changed = True
    while has_changed:
        has_changed = False
        for smaller in _smaller(workload):
            if time.monotonic() > deadline:
                return workload
            if fails(smaller):
                workload, has_changed = smaller, True
                break
    return workload


def _smaller(workload: Workload) -> Iterator[Workload]:
    """Large cuts first."""
    size = len(workload.acts)
    chunk = size
    while chunk >= 1:
        for start in range(0, size, chunk):
            yield replace(workload, acts=workload.acts[:start] + workload.acts[start + chunk :])
        chunk //= 2
    for index in range(len(workload.first)):
        yield replace(workload, first=workload.first[:index] + workload.first[index + 1 :])
    for number, table in enumerate(workload.tables):
        for column in table.columns:
            if (
                column.mark not in table.key
                and len(table.columns) > 1
                and not (table.partition_count and column is table.columns[0])
            ):
                yield without_column(workload, number, column.mark)
    yield from _of_fewer_rows(workload)


def _of_fewer_rows(workload: Workload) -> Iterator[Workload]:
    for index, act in enumerate(workload.acts):
        smaller: Insert | CopyIn | None = None
        if isinstance(act, Insert) and len(act.rows) > 1:
            smaller = replace(act, rows=act.rows[:1])
        if isinstance(act, CopyIn) and act.count > 1:
            smaller = replace(act, count=act.count // 2)
        if smaller is not None:
            yield replace(workload, acts=(*workload.acts[:index], smaller, *workload.acts[index + 1 :]))
