"""Decides which evaluations Dagster is given, and of which materialization they are.

Dagster shows an evaluation as long as its asset has no later materialization, and keeps one evaluation of a check for each
run. A run of months would have one that is overwritten, behind those of the sensors. So all are reported without a run.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

#: Seconds after which an evaluation is reported again although it is the same.
REPETITION_INTERVAL = 86400.0


def report_checks(instance: dg.DagsterInstance, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """Report these evaluations as of the last materializations of their assets."""
    for evaluation in targeted(instance, evaluations):
        instance.report_runless_asset_event(evaluation)


def targeted(instance: dg.DagsterInstance, evaluations: Sequence[dg.AssetCheckEvaluation]) -> list[dg.AssetCheckEvaluation]:
    """Return these evaluations as of the last materializations of their assets."""
    targets = _targets(instance, {evaluation.asset_key for evaluation in evaluations})
    return [_of(evaluation, targets.get(evaluation.asset_key)) for evaluation in evaluations]


def news(instance: dg.DagsterInstance, evaluations: Sequence[dg.AssetCheckEvaluation]) -> list[dg.AssetCheckEvaluation]:
    """Return those of these evaluations that Dagster does not show already. A check of every table would fill its log."""
    before = _latest(instance, [evaluation.asset_check_key for evaluation in evaluations])
    return [
        evaluation
        for evaluation in targeted(instance, evaluations)
        if not _is_shown(evaluation, before.get(evaluation.asset_check_key))
    ]


class Evaluated(NamedTuple):
    """An evaluation, and when it was made, in seconds since the epoch."""

    evaluation: dg.AssetCheckEvaluation
    at: float


def latest_evaluated(instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]) -> dict[dg.AssetCheckKey, Evaluated]:
    """Return the last evaluations of these checks as `latest_evaluations` does, with their times."""
    return {
        key: Evaluated(found, record.event.timestamp)
        for key, record in _latest(instance, keys).items()
        if (found := _evaluation(record)) is not None and record.event is not None
    }


def latest_evaluations(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
    """Return the last evaluations of these checks; none of a check that is being executed, or has never been."""
    return {key: found for key, record in _latest(instance, keys).items() if (found := _evaluation(record)) is not None}


def _latest(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> Mapping[dg.AssetCheckKey, AssetCheckExecutionRecord]:
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))


def _evaluation(record: AssetCheckExecutionRecord | None) -> dg.AssetCheckEvaluation | None:
    # While the check is being executed, it is what was planned.
    found = None if record is None else record.evaluation
    return found if isinstance(found, dg.AssetCheckEvaluation) else None


def _is_shown(evaluation: dg.AssetCheckEvaluation, record: AssetCheckExecutionRecord | None) -> bool:
    shown = _evaluation(record)
    if record is None or shown is None or time.time() - record.create_timestamp > REPETITION_INTERVAL:
        return False
    return _outcome(evaluation) == _outcome(shown)


def _outcome(evaluation: dg.AssetCheckEvaluation) -> tuple[object, ...]:
    target = evaluation.target_materialization_data
    return (
        evaluation.passed, evaluation.severity, evaluation.description, evaluation.metadata,
        None if target is None else target.storage_id,
    )  # fmt: skip


def _targets(
    instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey]
) -> dict[dg.AssetKey, AssetCheckEvaluationTargetMaterializationData]:
    targets: dict[dg.AssetKey, AssetCheckEvaluationTargetMaterializationData] = {}
    for record in instance.get_asset_records(list(assets)):
        last = record.asset_entry.last_materialization_record
        if last is not None:
            targets[record.asset_entry.asset_key] = AssetCheckEvaluationTargetMaterializationData(
                storage_id=last.storage_id, run_id=last.run_id, timestamp=last.timestamp
            )
    return targets


def _of(
    evaluation: dg.AssetCheckEvaluation, target: AssetCheckEvaluationTargetMaterializationData | None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        metadata=evaluation.metadata,
        target_materialization_data=target,
        severity=evaluation.severity,
        description=evaluation.description,
        blocking=evaluation.blocking,
    )
