"""The parts of the benchmark that compare the contenders: what is measured in each."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from bench.contenders import Contender, has_marker
from bench.field import Field, Scale, copied, everyone, field, measured, wait_for
from bench.latency import latencies, percentile
from bench.results import Measurement, PartResult
from bench.servers import Servers
from bench.workload import Workload, write

#: Seconds that an idle worker is measured, and seconds that it gets to settle before.
_IDLE_SECONDS: Final = 10.0
_REST_SECONDS: Final = 3.0

#: How long the last of the small transactions may take, in seconds.
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A backlog: the calls that write it, and how many changes these are together."""

    name: str
    calls: Sequence[LiteralString]
    count: int


def snapshot(servers: Servers, scale: Scale) -> PartResult:
    """From nothing until every row is copied: the start of the worker, the slot and the tables included."""
    workload = scale.mixed()
    result = PartResult(part="snapshot")
    for repetition in range(scale.repetitions):
        with field(servers, workload, everyone(servers, scale, workload)) as place:
            place.settle()
            for contender in place.turns(repetition):
                contender.begin()
                seconds = wait_for(contender, contender.is_copied)
                result.measurements.append(measured(contender, seconds, workload.row_count))
                wait_for(contender, contender.is_streaming)
                contender.stop()
                place.verify(contender)
                contender.remove()
    return result


def backlog(servers: Servers, scale: Scale, workload: Workload, changes: Changes) -> PartResult:
    """From the start of the worker until the last change of the backlog is visible at the destination."""
    result = PartResult(part=changes.name)
    markers = itertools.count()
    with copied(servers, workload, everyone(servers, scale, workload)) as place:
        for repetition in range(scale.repetitions):
            for call in changes.calls:
                marker = next(markers)
                write(place.source, call, marker)
            place.settle()
            for contender in place.turns(repetition):
                result.measurements.append(catch_up(place, contender, marker, changes.count))
    return result


def catch_up(place: Field, contender: Contender, marker: int, change_count: int) -> Measurement:
    """Return what the contender took from its start until it shows the marker. Its rows are verified."""
    began = time.perf_counter()
    contender.start()
    wait_for(contender, contender.is_streaming)
    at_start = contender.usage()
    wait_for(contender, lambda: has_marker(contender.destination, marker))
    caught_up = measured(contender, time.perf_counter() - began, change_count, at_start)
    contender.stop()
    place.verify(contender)
    return caught_up


def latency(servers: Servers, scale: Scale) -> PartResult:
    """From the answer to a COMMIT at the source until the change is visible at the destination, at 500 transactions/s."""
    workload = scale.mixed()
    result = PartResult(part="latency at 500 tx/s")
    first = itertools.count(1, 1_000_000)
    with copied(servers, workload, everyone(servers, scale, workload)) as place:
        for repetition in range(scale.repetitions):
            place.settle()
            for contender in place.turns(repetition):
                contender.start()
                wait_for(contender, contender.is_streaming)
                time.sleep(_REST_SECONDS)
                seen = latencies(place.source, contender.destination, next(first), rate=500, seconds=10, patience=_PATIENCE)
                result.measurements.append(
                    Measurement(contender=contender.name, p50_ms=percentile(seen, 50), p99_ms=percentile(seen, 99))
                )
                contender.stop()
    return result


def start(servers: Servers, scale: Scale) -> PartResult:
    """From the start of the worker until its stream is open."""
    workload = scale.mixed()
    result = PartResult(part="start until streaming")
    with copied(servers, workload, everyone(servers, scale, workload)) as place:
        for repetition in range(scale.repetitions):
            for contender in place.turns(repetition):
                began = time.perf_counter()
                contender.start()
                wait_for(contender, contender.is_streaming)
                result.measurements.append(measured(contender, time.perf_counter() - began, None))
                contender.stop()
    return result


def idle(servers: Servers, scale: Scale) -> PartResult:
    """What an idle worker uses: memory, and CPU seconds within `_IDLE_SECONDS`."""
    workload = scale.mixed()
    result = PartResult(part="idle", is_timed=False)
    with copied(servers, workload, everyone(servers, scale, workload)) as place:
        for contender in place.contenders:
            contender.start()
            wait_for(contender, contender.is_streaming)
            time.sleep(_REST_SECONDS)
            before = contender.usage()
            time.sleep(_IDLE_SECONDS)
            after = contender.usage()
            if before is not None and after is not None:
                used = after.cpu_seconds - before.cpu_seconds
                result.measurements.append(
                    Measurement(contender=contender.name, seconds=_IDLE_SECONDS, cpu_seconds=used, rss_bytes=after.rss_bytes)
                )
            contender.stop()
    return result
