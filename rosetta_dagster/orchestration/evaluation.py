"""Evaluates the requested checks of a pipeline: reads its row, its slot and its tables."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableState
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.comparison import compare_row_counts, schema_drift
from rosetta_dagster.cdc.operate.health import observe, thresholds_of
from rosetta_dagster.cdc.reconcile.reconcile import reconcile
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration.checks import (
    STREAM_CHECKS,
    evaluations,
    not_evaluated,
    reconciliation_evaluation,
    row_count_evaluation,
    schema_drift_evaluation,
)
from rosetta_dagster.orchestration.naming import RECONCILIATION, ROW_COUNT, SCHEMA_DRIFT
from rosetta_dagster.orchestration.specs import PipelineSpecs

_UNCOPIED = frozenset({TableState.PENDING, TableState.SNAPSHOT})


def evaluate(store: Store, specs: PipelineSpecs, wanted: AbstractSet[str]) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluations of these checks, in the order of their definition. `PipelineNotFound` without a row."""
    found: list[dg.AssetCheckEvaluation] = []
    if wanted & STREAM_CHECKS.keys():
        observation = observe(store, specs.shape.name)
        found += [each for each in evaluations(specs.stream.key, observation) if each.check_name in wanted]
    if SCHEMA_DRIFT in wanted:
        found.append(_guarded(store, specs, SCHEMA_DRIFT, lambda config: _schema_drift(store, specs, config)))
    if ROW_COUNT in wanted:
        found.append(_guarded(store, specs, ROW_COUNT, lambda config: _row_count(store, specs, config)))
    if RECONCILIATION in wanted:
        found.append(_guarded(store, specs, RECONCILIATION, lambda config: _reconciliation(specs, config)))
    return found


def _guarded(
    store: Store, specs: PipelineSpecs, check: str, evaluated: Callable[[PipelineConfig], dg.AssetCheckEvaluation]
) -> dg.AssetCheckEvaluation:
    try:
        return evaluated(store.pipeline(specs.shape.name))
    except RosettaError as error:
        return not_evaluated(specs.stream.key, check, str(error))


def _schema_drift(store: Store, specs: PipelineSpecs, config: PipelineConfig) -> dg.AssetCheckEvaluation:
    return schema_drift_evaluation(specs.stream.key, schema_drift(_copied(store, config)))


def _row_count(store: Store, specs: PipelineSpecs, config: PipelineConfig) -> dg.AssetCheckEvaluation:
    tolerance = thresholds_of(store, config.name).row_count_tolerance
    return row_count_evaluation(specs.stream.key, compare_row_counts(_copied(store, config), tolerance), tolerance)


def _copied(store: Store, config: PipelineConfig) -> PipelineConfig:
    """Return the pipeline without the tables whose copy is not complete: their missing rows are still to come."""
    uncopied = {record.id for record in store.tables(config.name) if record.state in _UNCOPIED}
    return config.model_copy(update={"tables": tuple(table for table in config.tables if table.id not in uncopied)})


def _reconciliation(specs: PipelineSpecs, config: PipelineConfig) -> dg.AssetCheckEvaluation:
    return reconciliation_evaluation(specs.stream.key, list(reconcile(config)))
