"""Decides the names, labels and meanings of the metrics.

Names follow Prometheus: base units, `_total` for counters. A figure that is not known has no sample, so that no alert
mistakes it for zero.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from rosetta_dagster.cdc.config.pipeline import Health, Status, TableState
from rosetta_dagster.cdc.operate.waiting import HEARTBEAT_LIMIT_SECONDS
from rosetta_dagster.cdc.store.measurements import Measurements, PipelineMeasurement, TableMeasurement
from rosetta_dagster.cdc.store.records import RunStatus


@dataclass(frozen=True, slots=True)
class _Figure:
    """A metric of a pipeline with one value."""

    name: str
    meaning: str
    read: Callable[[PipelineMeasurement], float | None]
    kind: Callable[..., GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily


def _lag(found: PipelineMeasurement) -> float | None:
    """Return the lag of the last change; None while no run streams, since the recorded lag is old then."""
    is_heard = found.heartbeat_age is not None and found.heartbeat_age <= HEARTBEAT_LIMIT_SECONDS
    return found.lag_seconds if is_heard and RunStatus(found.run_status).is_open else None


_FIGURES: Final[Sequence[_Figure]] = (
    _Figure(
        "rosetta_heartbeat_age_seconds", "Seconds since a run wrote its heartbeat; every two seconds while it streams.",
        lambda found: found.heartbeat_age,
    ),
    _Figure("rosetta_lag_seconds", "Seconds from the last change's commit until it was durable everywhere.", _lag),
    _Figure(
        "rosetta_last_success_age_seconds", "Seconds since the destinations held all that the source had committed.",
        lambda found: found.success_age,
    ),
    _Figure("rosetta_lag_bytes", "Bytes of WAL that the slot's reader has not confirmed.", lambda found: found.lag_bytes),
    _Figure(
        "rosetta_slot_retained_bytes", "Bytes of WAL that the slot keeps the source from removing.",
        lambda found: found.retained_bytes,
    ),
    _Figure(
        "rosetta_slot_safe_bytes", "Bytes of WAL until the slot may be lost; only where the source sets a limit.",
        lambda found: found.safe_bytes,
    ),
    _Figure(
        "rosetta_slot_growth_bytes_per_second", "Growth of the retained WAL between the last two readings.",
        lambda found: found.growth,
    ),
    _Figure(
        "rosetta_slot_seconds_until_lost", "Seconds until the slot is lost at this growth.",
        lambda found: found.seconds_until_lost,
    ),
    _Figure(
        "rosetta_slot_reading_age_seconds", "Seconds since the slot was last read (WAL_MONITOR_INTERVAL_SECONDS).",
        lambda found: found.slot_reading_age,
    ),
    _Figure(
        "rosetta_failed_attempts", "Runs that failed one after the other, until now.", lambda found: found.failed_attempts
    ),
    _Figure("rosetta_failed_runs", "Runs that failed.", lambda found: found.failed_runs, CounterMetricFamily),
    _Figure(
        "rosetta_batches", "Batches made durable, at all destinations.", lambda found: found.batch_count, CounterMetricFamily
    ),
    _Figure(
        "rosetta_batch_wait_seconds", "Seconds that batches waited until they were applied.",
        lambda found: found.wait_seconds, CounterMetricFamily,
    ),
    _Figure(
        "rosetta_batch_apply_seconds", "Seconds that destinations took to apply batches.",
        lambda found: found.apply_seconds, CounterMetricFamily,
    ),
)  # fmt: skip


def families(found: Measurements) -> Iterator[Metric]:
    """Yield every metric, also those without a sample."""
    yield _info(found.pipelines)
    yield _one_of("rosetta_wanted_status", "status", tuple(Status), found.pipelines, lambda each: each.wanted_status)
    yield _one_of("rosetta_run_status", "status", tuple(RunStatus), found.pipelines, lambda each: each.run_status)
    yield _one_of("rosetta_health", "health", tuple(Health), found.pipelines, lambda each: each.health)
    yield from (_family(figure, found.pipelines) for figure in _FIGURES)
    yield _tables_by_state(found)
    yield _set_aside(found.tables)
    yield _rows(found.tables)


def _info(pipelines: Sequence[PipelineMeasurement]) -> Metric:
    info = GaugeMetricFamily("rosetta_pipeline_info", "The pipelines; always 1.", labels=["pipeline", "source", "engine"])
    for found in pipelines:
        info.add_metric([found.pipeline, found.source, found.engine], 1)
    return info


def _family(figure: _Figure, pipelines: Sequence[PipelineMeasurement]) -> Metric:
    family = figure.kind(figure.name, figure.meaning, labels=["pipeline"])
    for found in pipelines:
        if (value := figure.read(found)) is not None:
            family.add_metric([found.pipeline], value)
    return family


def _one_of(
    name: str,
    label: str,
    values: Sequence[str],
    pipelines: Sequence[PipelineMeasurement],
    read: Callable[[PipelineMeasurement], str],
) -> Metric:
    """Return a metric that is 1 for the value that a pipeline has, and 0 for the others."""
    family = GaugeMetricFamily(name, f"1 for the {label} that the pipeline has.", labels=["pipeline", label])
    for found in pipelines:
        for value in values:
            family.add_metric([found.pipeline, str(value)], float(value == read(found)))
    return family


def _tables_by_state(found: Measurements) -> Metric:
    family = GaugeMetricFamily("rosetta_tables", "Tables by their state.", labels=["pipeline", "state"])
    for pipeline in found.pipelines:
        for state in TableState:
            count = sum((table.pipeline, table.state) == (pipeline.pipeline, state) for table in found.tables)
            family.add_metric([pipeline.pipeline, state.value], count)
    return family


def _set_aside(tables: Sequence[TableMeasurement]) -> Metric:
    family = GaugeMetricFamily(
        "rosetta_table_set_aside", "1 for a table that is set aside.", labels=["pipeline", "namespace", "table"]
    )
    for table in tables:
        family.add_metric([table.pipeline, table.namespace, table.name], float(table.state == TableState.ERROR))
    return family


def _rows(tables: Sequence[TableMeasurement]) -> Metric:
    family = CounterMetricFamily(
        "rosetta_rows", "Rows copied and changes applied.", labels=["pipeline", "namespace", "table", "operation"]
    )
    for table in tables:
        counts = {
            "copy": table.copied, "insert": table.inserted, "update": table.updated, "delete": table.deleted,
            "truncate": table.truncated,
        }  # fmt: skip
        for operation, count in counts.items():
            family.add_metric([table.pipeline, table.namespace, table.name, operation], count)
    return family
