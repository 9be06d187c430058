"""What the benchmark computes from what it has measured."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.plot import read_groups, svg
from bench.results import Measurement, PartResult, write_json
from bench.sustained import lag_at
from bench.table import lag_growth, microseconds_each, table

SVG = "{http://www.w3.org/2000/svg}"


def result(*measurements: Measurement, part: str = "backlog", is_timed: bool = True) -> PartResult:
    return PartResult(part=part, measurements=list(measurements), is_timed=is_timed)


def took(contender: str, seconds: float, amount: int | None = 100) -> Measurement:
    return Measurement(contender=contender, seconds=seconds, amount=amount)


COMPARED = result(took("native", 1.0), took("rosetta pgoutput", 2.0), took("rosetta debezium", 8.0))


def test_each_figure_is_the_median_of_the_repetitions_that_have_it() -> None:
    measured = result(
        Measurement(contender="native", seconds=3.0),
        Measurement(contender="native", seconds=1.0, cpu_seconds=5.0),
        Measurement(contender="native", seconds=2.0),
    )
    assert [Measurement(contender="native", seconds=2.0, cpu_seconds=5.0)] == measured.medians()


def test_ratios_are_those_of_native_to_each() -> None:
    assert {"native": 1.0, "rosetta pgoutput": 0.5, "rosetta debezium": 0.125} == COMPARED.ratios()


@pytest.mark.parametrize("alone", [result(took("rosetta pgoutput", 2.0)), result(*COMPARED.measurements, is_timed=False)])
def test_there_are_no_ratios_where_no_times_are_compared(alone: PartResult) -> None:
    assert {} == alone.ratios()


def test_a_change_costs_what_is_used_once_the_stream_is_open() -> None:
    measured = Measurement(contender="worker", amount=100_000, cpu_seconds=1.5, start_cpu_seconds=0.5)
    assert 10.0 == microseconds_each(measured)
    assert microseconds_each(took("native", 1.0)) is None


def test_the_lag_of_a_second_is_the_median_of_its_markers() -> None:
    assert (1.0, 2.0) == (lag_at([1.0] * 20 + [2.0] * 20, 1), lag_at([1.0] * 20 + [2.0] * 20, 2))


def test_the_growth_of_the_lag_is_that_after_ten_seconds() -> None:
    measured = Measurement(contender="worker", seconds=60.0, early_lag_ms=100.0, end_lag_ms=5_100.0)
    assert 100.0 == lag_growth(measured)
    assert lag_growth(took("native", 60.0)) is None


def test_columns_without_a_figure_are_not_printed() -> None:
    title, head, native, *_ = table(COMPARED).splitlines()
    assert ("backlog: medians of 1", ["ratio", "seconds", "per", "second"]) == (title, head.split())
    assert ["native", "1.00", "1.00", "100"] == native.split()


def test_the_plot_has_a_bar_for_each_engine_of_each_part_that_compares_rows(tmp_path: Path) -> None:
    start = result(took("native", 0.1, None), took("rosetta pgoutput", 0.4, None), part="start")
    many = result(took("native", 1.0), took("rosetta pgoutput", 0.5), part="rows < 8 & more")
    write_json(tmp_path / "bench.json", [COMPARED, start, many])
    drawn = ET.fromstring(svg(read_groups(json.loads((tmp_path / "bench.json").read_text()))))
    texts = [each.text for each in drawn.iter(f"{SVG}text")]
    assert {"backlog", "rows < 8 & more", "0.50", "0.12", "2.00"} <= set(texts)
    assert "start" not in texts
    assert ["pgoutput", "debezium", "pgoutput"] == [
        each.attrib["class"] for each in drawn.iter(f"{SVG}rect") if each.attrib["x"] == "270"
    ]
