"""What was measured: figures of each contender and repetition, their medians, and the ratios to native replication."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

_MIB = 1024 * 1024

#: The columns of the printed table, and how wide each is.
_COLUMNS = (
    ("", 20), ("seconds", 9), ("per second", 12), ("ratio", 7), ("p50 ms", 8), ("p99 ms", 8),
    ("CPU s", 8), ("peak MiB", 10), ("MiB", 7),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One contender in one repetition of a part. What does not apply is None."""

    contender: str
    seconds: float | None = None
    #: Rows or changes in these seconds.
    amount: int | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    #: Resident memory at the end.
    rss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """A part with all that was measured in it. All replicas were verified."""

    part: str
    measurements: list[Measurement] = field(default_factory=list)

    def medians(self) -> list[Measurement]:
        """One measurement for each contender, each of its figures the median of the repetitions."""
        names = list(dict.fromkeys(each.contender for each in self.measurements))
        return [_median([each for each in self.measurements if each.contender == name]) for name in names]


def _median(repetitions: Sequence[Measurement]) -> Measurement:
    return Measurement(
        contender=repetitions[0].contender,
        seconds=_middle([each.seconds for each in repetitions]),
        amount=_whole(_middle([each.amount for each in repetitions])),
        p50_ms=_middle([each.p50_ms for each in repetitions]),
        p99_ms=_middle([each.p99_ms for each in repetitions]),
        cpu_seconds=_middle([each.cpu_seconds for each in repetitions]),
        peak_rss_bytes=_whole(_middle([each.peak_rss_bytes for each in repetitions])),
        rss_bytes=_whole(_middle([each.rss_bytes for each in repetitions])),
    )


def _middle(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return median(known) if known else None


def _whole(figure: float | None) -> int | None:
    return None if figure is None else int(figure)


def table(result: PartResult) -> str:
    """The medians of a part as text; the ratio is native's time to the contender's, so more is better."""
    medians = result.medians()
    native = next((each.seconds for each in medians if each.contender == "native"), None)
    lines = [
        f"{result.part}: medians of {_repetitions(result)}",
        "  " + "".join(f"{name:>{width}}" for name, width in _COLUMNS),
    ]
    for each in medians:
        ratio = native / each.seconds if native and each.seconds else None
        rate = each.amount / each.seconds if each.amount and each.seconds else None
        lines.append(
            f"  {each.contender:20}{_text(each.seconds, 9, 2)}{_text(rate, 12, 0)}{_text(ratio, 7, 2)}"
            f"{_text(each.p50_ms, 8, 1)}{_text(each.p99_ms, 8, 1)}{_text(each.cpu_seconds, 8, 2)}"
            f"{_text(_mib(each.peak_rss_bytes), 10, 0)}{_text(_mib(each.rss_bytes), 7, 0)}"
        )
    return "\n".join(lines)


def _repetitions(result: PartResult) -> int:
    first = result.measurements[0].contender
    return sum(each.contender == first for each in result.measurements)


def _mib(size: int | None) -> float | None:
    return None if size is None else size / _MIB


def _text(figure: float | None, width: int, digits: int) -> str:
    return f"{figure:>{width},.{digits}f}" if figure is not None else " " * width


def write_json(path: Path, results: Sequence[PartResult]) -> None:
    """Every measurement, and on what machine."""
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    parts = [{**asdict(each), "medians": [asdict(one) for one in each.medians()]} for each in results]
    path.write_text(json.dumps({"machine": machine, "parts": parts}, indent=2) + "\n")
