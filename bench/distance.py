"""The part `distance`: one change at a time, and a backlog, while source and destination are 1, 10 and 50 ms apart.

Native replication runs at the destination, so its distance is to the source. Rosetta runs beside the source here, and its
distance is to the destination.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from bench.contenders import Contender, Native, Rosetta
from bench.delay import delayed
from bench.field import Lineup, Scale, copied, wait_for
from bench.latency import latencies, percentile
from bench.parts import Changes, catch_up
from bench.results import Measurement, PartResult
from bench.servers import Servers
from bench.workload import Workload, write
from rosetta_dagster.cdc.change.position import Engine

#: Milliseconds, each way.
DISTANCES: Final = (1, 10, 50)

#: So few changes a second that each is alone.
_RATE: Final = 2
_SECONDS: Final = 10

_PATIENCE: Final = 30.0

_REST_SECONDS: Final = 3.0

_BACKLOG: Final = Changes(
    name="backlog", calls=("CALL write_mixed(30000, 500000)", "CALL write_large(100000)"), count=400_000
)


def distance(servers: Servers, scale: Scale) -> Iterator[PartResult]:
    """Measure at each distance: from a COMMIT until its change is visible, and a backlog of 400,000 changes."""
    workload = scale.mixed()
    for milliseconds in DISTANCES:
        with ExitStack() as proxies:
            lineup = _apart(servers, scale, workload, partial(_enter, proxies, milliseconds))
            yield from _measure(servers, scale, workload, lineup, f"{milliseconds} ms apart")


def _enter(proxies: ExitStack, milliseconds: int, url: str) -> str:
    return proxies.enter_context(delayed(url, milliseconds))


def _apart(servers: Servers, scale: Scale, workload: Workload, far: Callable[[str], str]) -> Lineup:
    """Return the contenders that take part; `far` returns the URL under which a database is far away."""

    def lineup(source: str, number: int, logs: Path) -> list[Contender]:
        return [make(name, source, number, logs) for name in scale.names()]

    def make(name: str, source: str, number: int, logs: Path) -> Contender:
        url = servers.destination.create_database(f"{name}_{number}")
        if name == "native":
            return Native(source, url, number, workload, reached_at=far(source))
        engine, tables = Engine(name.upper()), workload.tables
        return Rosetta(source, url, str(number), engine=engine, logs=logs, tables=tables, reached_at=far(url))

    return lineup


def _measure(servers: Servers, scale: Scale, workload: Workload, lineup: Lineup, label: str) -> Iterator[PartResult]:
    alone, together = PartResult(part=f"one change, {label}"), PartResult(part=f"backlog 400,000, {label}")
    markers = itertools.count(1_000_000_000)
    with copied(servers, workload, lineup) as place:
        for repetition in range(scale.repetitions):
            for contender in place.turns(repetition):
                contender.start()
                wait_for(contender, contender.is_streaming)
                time.sleep(_REST_SECONDS)
                first = (repetition * 10 + place.contenders.index(contender) + 1) * 1_000_000
                seen = latencies(
                    place.source, contender.destination, first, rate=_RATE, seconds=_SECONDS, patience=_PATIENCE
                )
                alone.measurements.append(
                    Measurement(contender=contender.name, p50_ms=percentile(seen, 50), p99_ms=percentile(seen, 99))
                )
                contender.stop()
            for call in _BACKLOG.calls:
                marker = next(markers)
                write(place.source, call, marker)
            place.settle()
            for contender in place.turns(repetition):
                together.measurements.append(catch_up(place, contender, marker, _BACKLOG.count))
    yield alone
    yield together
