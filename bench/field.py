"""The field of a part: one source, and the contenders on it.

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
from typing import Final

from bench.contenders import Contender, Native, Rosetta, stop_watching, wait_until
from bench.process import Usage
from bench.results import Measurement
from bench.servers import Servers, drop_database, settle
from bench.verify import verify
from bench.workload import Workload, create_source, mixed
from rosetta_dagster.cdc.change.position import Engine

#: The names of the contenders, as the command takes them.
CONTENDERS: Final = ("native", "pgoutput", "debezium")

_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The amount of work."""

    repetitions: int
    #: Rows of `accounts` and of `events` before anything is measured.
    accounts: int = 500_000
    events: int = 200_000
    #: Which contenders take part, by name; empty for all.
    contenders: frozenset[str] = frozenset()
    #: Rows per second, where they are written steadily, and for how many seconds.
    rates: tuple[int, ...] = (20_000, 30_000)
    seconds: int = 60

    def names(self) -> list[str]:
        """The contenders that take part."""
        return [name for name in CONTENDERS if not self.contenders or name in self.contenders]

    def mixed(self) -> Workload:
        return mixed(accounts=self.accounts, events=self.events)


@dataclass(frozen=True, slots=True)
class Field:
    """One source and the contenders on it."""

    source: str
    contenders: Sequence[Contender]

    def turns(self, repetition: int) -> Sequence[Contender]:
        """Yield each contender once; a different one is first in each repetition."""
        first = repetition % len(self.contenders)
        return [*self.contenders[first:], *self.contenders[:first]]

    def verify(self, contender: Contender) -> None:
        verify(self.source, contender.destination, contender.name, contender.tables)

    def settle(self) -> None:
        settle(self.source, *(each.destination for each in self.contenders))


#: Makes the contenders of a field: from its source, its number and a directory for logs.
Lineup = Callable[[str, int, Path], list[Contender]]


@contextmanager
def field(servers: Servers, workload: Workload, lineup: Lineup) -> Iterator[Field]:
    """Yield a source with its tables, and empty contenders. Drop the databases unless an error occurs."""
    number = next(_NUMBERS)
    source = servers.source.create_database(f"source_{number}")
    create_source(source, workload)
    with tempfile.TemporaryDirectory() as logs:
        made = Field(source, lineup(source, number, Path(logs)))
        yield made
    for url in (source, *(each.destination for each in made.contenders)):
        stop_watching(url)
        drop_database(url)


def everyone(servers: Servers, scale: Scale, workload: Workload) -> Lineup:
    """Yield each contender that takes part."""

    def lineup(source: str, number: int, logs: Path) -> list[Contender]:
        tables = workload.tables
        makers: dict[str, Callable[[str], Contender]] = {
            "native": lambda url: Native(source, url, number, workload),
            "pgoutput": lambda url: Rosetta(source, url, str(number), engine=Engine.PGOUTPUT, logs=logs, tables=tables),
            "debezium": lambda url: Rosetta(source, url, str(number), engine=Engine.DEBEZIUM, logs=logs, tables=tables),
        }
        return [makers[name](servers.destination.create_database(f"{name}_{number}")) for name in scale.names()]

    return lineup


@contextmanager
def copied(servers: Servers, workload: Workload, lineup: Lineup) -> Iterator[Field]:
    """Yield a field whose tables are all copied and whose contenders are all stopped."""
    with field(servers, workload, lineup) as made:
        for contender in made.contenders:
            contender.begin()
            wait_for(contender, contender.is_copied)
            # Only a stream that was open once has a slot that can be continued.
            wait_for(contender, contender.is_streaming)
            contender.stop()
        try:
            yield made
        finally:
            for contender in made.contenders:
                contender.remove()


def wait_for(contender: Contender, condition: Callable[[], bool]) -> float:
    """Return the seconds until the condition is true. Raise at once when the worker fails."""
    began = time.perf_counter()
    looked = itertools.count()

    def holds() -> bool:
        if next(looked) % 100 == 0:
            contender.usage()
        return condition()

    wait_until(holds)
    return time.perf_counter() - began


def measured(contender: Contender, seconds: float, amount: int | None, at_start: Usage | None = None) -> Measurement:
    """Return what the contender has used in these seconds; `at_start` is its usage when its stream was opened."""
    usage = contender.usage()
    return Measurement(
        contender=contender.name,
        seconds=seconds,
        amount=amount,
        cpu_seconds=usage and usage.cpu_seconds,
        start_cpu_seconds=at_start and at_start.cpu_seconds,
        peak_rss_bytes=usage and usage.peak_rss_bytes,
        rss_bytes=usage and usage.rss_bytes,
    )
