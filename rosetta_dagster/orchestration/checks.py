"""Turns observations of a pipeline into evaluations of its stream's checks, for the UI and for the health sensor."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import Health, Status
from rosetta_dagster.cdc.operate.health import Observation
from rosetta_dagster.cdc.reconcile.reconcile import Reconciliation
from rosetta_dagster.cdc.store.records import RunStatus
from rosetta_dagster.orchestration.naming import (
    FRESHNESS,
    HEALTH,
    NOT_EVALUATED,
    RECONCILIATION,
    RUN_STATUS,
    WAL_LAG,
    WANTED_STATUS,
)

#: Quick checks, of the pipeline and its slot.
STREAM_CHECKS = {
    WAL_LAG: "The replication slot keeps up with the source's WAL and is not about to be lost.",
    HEALTH: "The pipeline does what its status says.",
    FRESHNESS: "Changes reach the destinations in time. An idle source is not stale.",
}

#: Checks that read every row. They run on request only.
ROW_CHECKS = {RECONCILIATION: "The destinations have the source's rows, by value. The stream runs meanwhile."}

#: Keys that a check names for each table. The rest are counted.
SHOWN_KEYS = 20

_SEVERITY = {
    Health.HEALTHY: dg.AssetCheckSeverity.WARN,
    Health.WARNING: dg.AssetCheckSeverity.WARN,
    Health.ERROR: dg.AssetCheckSeverity.ERROR,
}

Metadata = dict[str, dg.MetadataValue]


def check_specs(stream: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the specs of the checks of a stream."""
    return [
        dg.AssetCheckSpec(name, asset=stream, description=description)
        for name, description in {**STREAM_CHECKS, **ROW_CHECKS}.items()
    ]


def evaluations(stream: dg.AssetKey, observation: Observation) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluations of the quick checks, as events that need no run."""
    return [_wal_lag(stream, observation), _health(stream, observation), _freshness(stream, observation)]


def results(evaluated: Iterable[dg.AssetCheckEvaluation]) -> Iterator[dg.AssetCheckResult]:
    """Yield evaluations as results of the step that executes the checks."""
    for evaluation in evaluated:
        yield dg.AssetCheckResult(
            asset_key=evaluation.asset_key,
            check_name=evaluation.check_name,
            passed=evaluation.passed,
            severity=evaluation.severity,
            description=evaluation.description,
            metadata=evaluation.metadata,
        )


def evaluation_of(
    asset: dg.AssetKey, check: str, health: Health, description: str | None, metadata: Mapping[str, dg.MetadataValue]
) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a check that found this health."""
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=check,
        passed=health is Health.HEALTHY,
        severity=_SEVERITY[health],
        description=description,
        metadata=dict(metadata),
    )


def failed_run(stream: dg.AssetKey, run_id: str, message: str) -> dg.AssetCheckEvaluation:
    """Return the health check's evaluation for a run that has just failed."""
    metadata: Metadata = {
        RUN_STATUS: dg.MetadataValue.text(RunStatus.FAILED.value),
        "run": dg.MetadataValue.dagster_run(run_id),
        "last_error": dg.MetadataValue.text(message),
    }
    return evaluation_of(stream, HEALTH, Health.ERROR, message, metadata)


def not_evaluated(asset: dg.AssetKey, check: str, reason: str) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a check that could not be evaluated."""
    return evaluation_of(asset, check, Health.ERROR, reason, {NOT_EVALUATED: dg.MetadataValue.bool(True)})


def reconciliation_evaluation(stream: dg.AssetKey, found: Sequence[Reconciliation]) -> dg.AssetCheckEvaluation:
    """Return the evaluation: rows that differ are an error, tables that cannot be compared warn. Rows in flight pass."""
    differing = [each for each in found if each.left]
    health = Health.ERROR if differing else Health.WARNING if any(each.problem for each in found) else Health.HEALTHY
    metadata: Metadata = {
        "rows": dg.MetadataValue.int(sum(each.comparison.row_count for each in found if each.comparison)),
        "differing_rows": dg.MetadataValue.int(sum(len(each.left) for each in found)),
        "rows_in_flight": dg.MetadataValue.int(sum(len(each.comparison.in_flight) for each in found if each.comparison)),
        "repaired_rows": dg.MetadataValue.int(sum(each.repaired_count for each in found)),
    }
    if found:
        metadata["tables"] = dg.MetadataValue.table([_reconciled_table(each) for each in found])
    description = "; ".join(
        f"{each.table} at {each.destination}: {_shown_keys(each)}" if each.left else f"{each.table}: {each.problem}"
        for each in found
        if each.left or each.problem
    )
    return evaluation_of(stream, RECONCILIATION, health, description or None, metadata)


def summary_of(found: Reconciliation) -> str:
    """Return a table's reconciliation in one sentence."""
    if found.comparison is None:
        return found.problem or ""
    counts = (
        f"{found.comparison.row_count:,} rows, {len(found.comparison.in_flight)} in flight, {found.repaired_count} repaired"
    )
    return f"{counts}; differing: {_shown_keys(found) or 'none'}"


def _reconciled_table(found: Reconciliation) -> dg.TableRecord:
    comparison = found.comparison
    return dg.TableRecord(
        {
            "destination": found.destination,
            "table": str(found.table),
            "rows": comparison.row_count if comparison else 0,
            "buckets": comparison.bucket_count if comparison else 0,
            "differing_rows": len(found.left),
            "in_flight": len(comparison.in_flight) if comparison else 0,
            "repaired": found.repaired_count,
            "keys": _shown_keys(found),
            "problem": found.problem or "",
        }
    )


def _shown_keys(found: Reconciliation) -> str:
    shown = ", ".join(f"({', '.join(each.key)}) {each.kind.lower()}" for each in found.left[:SHOWN_KEYS])
    more = len(found.left) - SHOWN_KEYS
    return f"{shown} and {more:,} more" if more > 0 else shown


def _wal_lag(stream: dg.AssetKey, observation: Observation) -> dg.AssetCheckEvaluation:
    slot, thresholds = observation.slot, observation.thresholds
    metadata: Metadata = {
        "slot": dg.MetadataValue.text(observation.slot_name),
        "warning_from_bytes": dg.MetadataValue.int(thresholds.wal_warning_bytes),
        "error_from_bytes": dg.MetadataValue.int(thresholds.wal_error_bytes),
    }
    if slot is not None:
        metadata |= {
            "lag_bytes": dg.MetadataValue.int(slot.lag_bytes),
            "retained_wal_bytes": dg.MetadataValue.int(slot.retained_bytes),
            "confirmed_flush_lsn": dg.MetadataValue.text(str(slot.confirmed_flush_lsn)),
            "active": dg.MetadataValue.bool(slot.active),
            "wal_status": dg.MetadataValue.text(slot.wal_status or "unknown"),
        }
        if slot.safe_wal_bytes is not None:
            metadata["safe_wal_bytes"] = dg.MetadataValue.int(slot.safe_wal_bytes)
    if observation.error is not None:
        metadata[NOT_EVALUATED] = dg.MetadataValue.bool(True)
    if observation.growth is not None:
        metadata["growth_bytes_per_second"] = dg.MetadataValue.float(round(observation.growth, 1))
    if observation.seconds_until_lost is not None:
        metadata["seconds_until_lost"] = dg.MetadataValue.float(round(observation.seconds_until_lost, 1))
    return evaluation_of(stream, WAL_LAG, observation.lag, _wal_lag_description(observation), metadata)


def _wal_lag_description(observation: Observation) -> str | None:
    slot = observation.slot
    if observation.error is not None or observation.slot_notice is not None:
        return observation.error or observation.slot_notice
    if slot is None:
        return "The slot does not exist yet."
    if slot.is_lost:
        return (
            f"Slot {observation.slot_name} is lost: the source removed WAL that it still needed. Raise "
            "max_slot_wal_keep_size at the source and resync the pipeline."
        )
    left = observation.seconds_until_lost
    if left is not None and observation.lag is not Health.HEALTHY:
        return f"At this rate the slot is lost in {left / 60:,.0f} minutes: find out why the pipeline does not read it."
    return None


def _health(stream: dg.AssetKey, observation: Observation) -> dg.AssetCheckEvaluation:
    state = observation.state
    metadata: Metadata = {
        WANTED_STATUS: dg.MetadataValue.text(state.status.value),
        RUN_STATUS: dg.MetadataValue.text(state.run_status.value),
        "rows_copied": dg.MetadataValue.int(state.rows_copied),
        "rows_applied": dg.MetadataValue.int(state.rows_applied),
    }
    if state.heartbeat_age is not None:
        metadata["heartbeat_age_seconds"] = dg.MetadataValue.float(round(state.heartbeat_age, 1))
    if state.lag_seconds is not None:
        metadata["lag_seconds"] = dg.MetadataValue.float(state.lag_seconds)
    if state.last_success_time is not None:
        metadata["last_success_time"] = dg.MetadataValue.timestamp(state.last_success_time)
    if state.run_id is not None:
        metadata["run"] = dg.MetadataValue.dagster_run(state.run_id)
    if state.last_error is not None:
        metadata["last_error"] = dg.MetadataValue.text(state.last_error)
    return evaluation_of(
        stream,
        HEALTH,
        observation.health,
        observation.problem or observation.error or observation.slot_notice or observation.set_aside or observation.exposed,
        metadata,
    )


def _freshness(stream: dg.AssetKey, observation: Observation) -> dg.AssetCheckEvaluation:
    thresholds = observation.thresholds
    metadata: Metadata = {
        "warning_from_seconds": dg.MetadataValue.float(thresholds.freshness_warning_seconds),
        "error_from_seconds": dg.MetadataValue.float(thresholds.freshness_error_seconds),
    }
    if observation.age is not None:
        metadata["age_seconds"] = dg.MetadataValue.float(round(observation.age, 1))
    if observation.last_commit_at is not None:
        metadata["last_source_commit"] = dg.MetadataValue.timestamp(observation.last_commit_at)
    return evaluation_of(stream, FRESHNESS, observation.freshness, _freshness_description(observation), metadata)


def _freshness_description(observation: Observation) -> str | None:
    if observation.state.status is Status.PAUSE:
        return "The pipeline is paused."
    if observation.age is None:
        return "The pipeline has never caught up with its source."
    if observation.freshness is not Health.HEALTHY:
        return f"The destinations are {observation.age / 60:,.1f} minutes behind the source."
    return None
