"""Results: figures of each contender and repetition, their medians, and the ratios to native replication."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One contender in one repetition of a part. What does not apply is None."""

    contender: str
    seconds: float | None = None
    #: Rows or changes in these seconds.
    amount: int | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    #: The lag after ten seconds of steady writing, and at its end.
    early_lag_ms: float | None = None
    end_lag_ms: float | None = None
    cpu_seconds: float | None = None
    #: The part that was used before the stream was open: by Python, the JVM, and reading the catalog.
    start_cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    #: Resident memory at the end.
    rss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """A part with all of its measurements. All replicas were verified."""

    part: str
    measurements: list[Measurement] = field(default_factory=list)
    #: Whether the seconds are the result. Otherwise they are the length of the measurement.
    is_timed: bool = True

    def medians(self) -> list[Measurement]:
        """Return one measurement for each contender: the medians of its repetitions."""
        names = list(dict.fromkeys(each.contender for each in self.measurements))
        return [_median([each for each in self.measurements if each.contender == name]) for name in names]

    def ratios(self) -> dict[str, float]:
        """Return the ratio of native's time to each contender's; more is better. Empty when nothing is compared."""
        seconds = {each.contender: each.seconds for each in self.medians() if each.seconds}
        native = seconds.get("native")
        return {name: native / its for name, its in seconds.items()} if native and self.is_timed else {}


def _median(repetitions: Sequence[Measurement]) -> Measurement:
    return Measurement(
        contender=repetitions[0].contender,
        seconds=_middle([each.seconds for each in repetitions]),
        amount=_whole(_middle([each.amount for each in repetitions])),
        p50_ms=_middle([each.p50_ms for each in repetitions]),
        p99_ms=_middle([each.p99_ms for each in repetitions]),
        early_lag_ms=_middle([each.early_lag_ms for each in repetitions]),
        end_lag_ms=_middle([each.end_lag_ms for each in repetitions]),
        cpu_seconds=_middle([each.cpu_seconds for each in repetitions]),
        start_cpu_seconds=_middle([each.start_cpu_seconds for each in repetitions]),
        peak_rss_bytes=_whole(_middle([each.peak_rss_bytes for each in repetitions])),
        rss_bytes=_whole(_middle([each.rss_bytes for each in repetitions])),
    )


def _middle(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return median(known) if known else None


def _whole(figure: float | None) -> int | None:
    return None if figure is None else int(figure)


def write_json(path: Path, results: Sequence[PartResult]) -> None:
    """Write every measurement, and a description of the machine."""
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    parts = [
        {**asdict(each), "medians": [asdict(one) for one in each.medians()], "ratios": each.ratios()} for each in results
    ]
    path.write_text(json.dumps({"machine": machine, "parts": parts}, indent=2) + "\n")
