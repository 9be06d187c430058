"""The parts of the benchmark: what is measured in each, and how the contenders take turns.

Contenders run one after another over the same source, each with a slot and a destination database of its own; so all read
the same log. In each repetition another one begins.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, LiteralString

from bench import workload
from bench.contenders import Contender, Native, Rosetta, has_marker, wait_until
from bench.latency import latencies, percentile
from bench.results import Measurement, PartResult
from bench.servers import Servers, settle
from bench.verify import verify
from rosetta_dagster.cdc.position import Engine

_NUMBERS = itertools.count(1)

#: Seconds that an idle worker is watched, and that it is given to come to rest before.
_IDLE_SECONDS: Final = 10.0
_REST_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    repetitions: int
    #: Rows of `accounts` and of `events` before anything is measured.
    accounts: int = 500_000
    events: int = 200_000
    #: Which contenders take part, by name; empty for all.
    contenders: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Field:
    """One source and the contenders on it."""

    source: str
    contenders: Sequence[Contender]

    def turns(self, repetition: int) -> Sequence[Contender]:
        """Everyone once, another one first in each repetition."""
        first = repetition % len(self.contenders)
        return [*self.contenders[first:], *self.contenders[:first]]

    def settle(self) -> None:
        settle(self.source, *(each.destination for each in self.contenders))


@contextmanager
def _field(servers: Servers, scale: Scale) -> Iterator[Field]:
    """A source with its tables, and contenders that hold nothing yet."""
    number = next(_NUMBERS)
    source = servers.source.create_database(f"source_{number}")
    workload.create_source(source, accounts=scale.accounts, events=scale.events)
    with tempfile.TemporaryDirectory() as logs:
        yield Field(source, _contenders(servers, source, number, scale, Path(logs)))


def _contenders(servers: Servers, source: str, number: int, scale: Scale, logs: Path) -> list[Contender]:
    makers: dict[str, Callable[[str], Contender]] = {
        "native": lambda url: Native(source, url, number),
        "pgoutput": lambda url: Rosetta(source, url, number, engine=Engine.PGOUTPUT, logs=logs),
        "debezium": lambda url: Rosetta(source, url, number, engine=Engine.DEBEZIUM, logs=logs),
    }
    return [
        make(servers.destination.create_database(f"{name}_{number}"))
        for name, make in makers.items()
        if not scale.contenders or name in scale.contenders
    ]


@contextmanager
def _copied(servers: Servers, scale: Scale) -> Iterator[Field]:
    """The same, with all tables copied and every contender stopped."""
    with _field(servers, scale) as field:
        for contender in field.contenders:
            contender.begin()
            _await(contender, contender.is_copied)
            # Only a stream that was open once has a slot that can be continued.
            _await(contender, contender.is_streaming)
            contender.stop()
        try:
            yield field
        finally:
            for contender in field.contenders:
                contender.remove()


def _await(contender: Contender, condition: Callable[[], bool]) -> float:
    """The seconds until it holds. A worker that fails meanwhile is not waited for."""
    began = time.perf_counter()
    looked = itertools.count()

    def holds() -> bool:
        if next(looked) % 100 == 0:
            contender.usage()
        return condition()

    wait_until(holds)
    return time.perf_counter() - began


def _measured(contender: Contender, seconds: float, amount: int | None) -> Measurement:
    usage = contender.usage()
    return Measurement(
        contender=contender.name,
        seconds=seconds,
        amount=amount,
        cpu_seconds=usage and usage.cpu_seconds,
        peak_rss_bytes=usage and usage.peak_rss_bytes,
        rss_bytes=usage and usage.rss_bytes,
    )


def snapshot(servers: Servers, scale: Scale) -> PartResult:
    """From nothing until every row is copied: the start of the worker, the slot and the tables included."""
    result = PartResult(part="snapshot")
    for repetition in range(scale.repetitions):
        with _field(servers, scale) as field:
            field.settle()
            for contender in field.turns(repetition):
                contender.begin()
                seconds = _await(contender, contender.is_copied)
                result.measurements.append(_measured(contender, seconds, scale.accounts + scale.events))
                _await(contender, contender.is_streaming)
                contender.stop()
                verify(field.source, contender.destination, contender.name)
                contender.remove()
    return result


def backlog(servers: Servers, scale: Scale, name: str, calls: Sequence[LiteralString], change_count: int) -> PartResult:
    """From the start of the worker until the last of the changes that were written before is seen at the destination."""
    result = PartResult(part=name)
    with _copied(servers, scale) as field:
        for repetition in range(scale.repetitions):
            for call in calls:
                workload.write(field.source, call, repetition * len(calls) + calls.index(call))
            field.settle()
            for contender in field.turns(repetition):
                result.measurements.append(_catch_up(field, contender, (repetition + 1) * len(calls) - 1, change_count))
    return result


def _catch_up(field: Field, contender: Contender, marker: int, change_count: int) -> Measurement:
    began = time.perf_counter()
    contender.start()
    _await(contender, lambda: has_marker(contender.destination, marker))
    measured = _measured(contender, time.perf_counter() - began, change_count)
    contender.stop()
    verify(field.source, contender.destination, contender.name)
    return measured


def latency(servers: Servers, scale: Scale) -> PartResult:
    """From the answer to a COMMIT at the source until the change is seen at the destination, at 500 transactions/s."""
    result = PartResult(part="latency at 500 tx/s")
    first = itertools.count(1, 1_000_000)
    with _copied(servers, scale) as field:
        for repetition in range(scale.repetitions):
            field.settle()
            for contender in field.turns(repetition):
                contender.start()
                _await(contender, contender.is_streaming)
                time.sleep(_REST_SECONDS)
                seen = latencies(field.source, contender.destination, next(first))
                result.measurements.append(
                    Measurement(contender=contender.name, p50_ms=percentile(seen, 50), p99_ms=percentile(seen, 99))
                )
                contender.stop()
    return result


def start(servers: Servers, scale: Scale) -> PartResult:
    """From the start of the worker until its stream is open."""
    result = PartResult(part="start until streaming")
    with _copied(servers, scale) as field:
        for repetition in range(scale.repetitions):
            for contender in field.turns(repetition):
                began = time.perf_counter()
                contender.start()
                _await(contender, contender.is_streaming)
                result.measurements.append(_measured(contender, time.perf_counter() - began, None))
                contender.stop()
    return result


def idle(servers: Servers, scale: Scale) -> PartResult:
    """What an idle worker uses: CPU seconds within the seconds told, and memory."""
    result = PartResult(part="idle")
    with _copied(servers, scale) as field:
        for contender in field.contenders:
            contender.start()
            _await(contender, contender.is_streaming)
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
