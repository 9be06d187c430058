"""What the checks `wal_lag` and `health` of a pipeline say."""

from collections.abc import Iterator

import dagster as dg

from rosetta_dagster.cdc.config import Health
from rosetta_dagster.cdc.health import LAG_ERROR_BYTES, LAG_WARNING_BYTES, Observation
from rosetta_dagster.orchestration.naming import HEALTH, WAL_LAG

_SEVERITY = {
    Health.HEALTHY: dg.AssetCheckSeverity.WARN,
    Health.WARNING: dg.AssetCheckSeverity.WARN,
    Health.ERROR: dg.AssetCheckSeverity.ERROR,
}


def check_specs(stream: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(WAL_LAG, asset=stream, description="Whether the replication slot keeps up with the source's WAL."),
        dg.AssetCheckSpec(HEALTH, asset=stream, description="Whether the pipeline does what its status says."),
    ]


def evaluations(stream: dg.AssetKey, observation: Observation) -> list[dg.AssetCheckEvaluation]:
    """Both checks, as events that need no run."""
    return [_wal_lag(stream, observation), _health(stream, observation)]


def results(stream: dg.AssetKey, observation: Observation) -> Iterator[dg.AssetCheckResult]:
    """Both checks, as results of the step that executes them."""
    for evaluation in evaluations(stream, observation):
        yield dg.AssetCheckResult(
            asset_key=evaluation.asset_key,
            check_name=evaluation.check_name,
            passed=evaluation.passed,
            severity=evaluation.severity,
            description=evaluation.description,
            metadata=evaluation.metadata,
        )


def failed_run(stream: dg.AssetKey, run_id: str, message: str) -> dg.AssetCheckEvaluation:
    """The health check of a pipeline whose run has just failed."""
    return dg.AssetCheckEvaluation(
        asset_key=stream,
        check_name=HEALTH,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=message,
        metadata={"run": dg.MetadataValue.dagster_run(run_id), "last_error": message},
    )


def _wal_lag(stream: dg.AssetKey, observation: Observation) -> dg.AssetCheckEvaluation:
    slot = observation.slot
    metadata: dict[str, dg.MetadataValue] = {
        "slot": dg.MetadataValue.text(observation.slot_name),
        "warning_from_bytes": dg.MetadataValue.int(LAG_WARNING_BYTES),
        "error_from_bytes": dg.MetadataValue.int(LAG_ERROR_BYTES),
    }
    if slot is not None:
        metadata |= {
            "lag_bytes": dg.MetadataValue.int(slot.lag_bytes),
            "retained_wal_bytes": dg.MetadataValue.int(slot.retained_bytes),
            "confirmed_flush_lsn": dg.MetadataValue.text(str(slot.confirmed_flush_lsn)),
            "active": dg.MetadataValue.bool(slot.active),
            "wal_status": dg.MetadataValue.text(slot.wal_status or "unknown"),
        }
    return dg.AssetCheckEvaluation(
        asset_key=stream,
        check_name=WAL_LAG,
        passed=observation.lag is Health.HEALTHY,
        severity=_SEVERITY[observation.lag],
        description=observation.error or ("The slot does not exist yet." if slot is None else None),
        metadata=metadata,
    )


def _health(stream: dg.AssetKey, observation: Observation) -> dg.AssetCheckEvaluation:
    state = observation.state
    metadata: dict[str, dg.MetadataValue] = {
        "status": dg.MetadataValue.text(state.status.value),
        "run_status": dg.MetadataValue.text(state.run_status),
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
    return dg.AssetCheckEvaluation(
        asset_key=stream,
        check_name=HEALTH,
        passed=observation.health is Health.HEALTHY,
        severity=_SEVERITY[observation.health],
        description=observation.problem or observation.error,
        metadata=metadata,
    )
