"""Prints the medians of a part as a text table, without empty columns."""

from collections.abc import Callable
from typing import Final, NamedTuple

from bench.results import Measurement, PartResult

_MIB: Final = 1024 * 1024

_WIDTH: Final = 11


class _Column(NamedTuple):
    title: str
    digits: int
    figure: Callable[[Measurement], float | None]


def microseconds_each(measurement: Measurement) -> float | None:
    """Return the CPU that a worker uses for one change or row once its stream is open."""
    if measurement.cpu_seconds is None or not measurement.amount:
        return None
    return 1_000_000 * (measurement.cpu_seconds - (measurement.start_cpu_seconds or 0.0)) / measurement.amount


def lag_growth(measurement: Measurement) -> float | None:
    """Return the growth of the lag after ten seconds, in milliseconds per second: about 0 when the contender keeps up."""
    early, end, seconds = measurement.early_lag_ms, measurement.end_lag_ms, measurement.seconds
    return (end - early) / (seconds - 10) if early is not None and end is not None and seconds and seconds > 10 else None


_COLUMNS: Final = (
    _Column("seconds", 2, lambda it: it.seconds),
    _Column("per second", 0, lambda it: _quotient(it.amount, it.seconds)),
    _Column("p50 ms", 1, lambda it: it.p50_ms),
    _Column("p99 ms", 1, lambda it: it.p99_ms),
    _Column("10 s ms", 1, lambda it: it.early_lag_ms),
    _Column("end ms", 1, lambda it: it.end_lag_ms),
    _Column("more ms/s", 1, lag_growth),
    _Column("CPU s", 2, lambda it: it.cpu_seconds),
    _Column("CPU %", 1, lambda it: _percent(_quotient(it.cpu_seconds, it.seconds))),
    _Column("µs each", 2, microseconds_each),
    _Column("peak MiB", 0, lambda it: _quotient(it.peak_rss_bytes, _MIB)),
    _Column("MiB", 0, lambda it: _quotient(it.rss_bytes, _MIB)),
)


def table(result: PartResult) -> str:
    """Print the medians of a part. The ratio is native's time to the contender's; more is better."""
    medians, ratios = result.medians(), result.ratios()
    ratio = _Column("ratio", 2, lambda it: ratios.get(it.contender))
    columns = [each for each in (ratio, *_COLUMNS) if any(each.figure(one) is not None for one in medians)]
    wide = max(20, *(len(each.contender) for each in medians))
    return "\n".join(
        [
            f"{result.part}: medians of {_repetitions(result)}",
            f"  {'':{wide}}" + "".join(f"{each.title:>{_WIDTH}}" for each in columns),
            *(f"  {one.contender:{wide}}" + "".join(_text(each, one) for each in columns) for one in medians),
        ]
    )


def _repetitions(result: PartResult) -> int:
    first = result.measurements[0].contender
    return sum(each.contender == first for each in result.measurements)


def _quotient(figure: float | None, by: float | None) -> float | None:
    return figure / by if figure is not None and by else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _text(column: _Column, measurement: Measurement) -> str:
    figure = column.figure(measurement)
    return " " * _WIDTH if figure is None else f"{figure:>{_WIDTH},.{column.digits}f}"
