"""Evaluates the requested checks of a stream: reads the pipeline's row and its slot, or every row of its tables."""

from collections.abc import Set as AbstractSet

import dagster as dg

from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.slot_guard import observe_guarded
from rosetta_dagster.cdc.reconcile.reconcile import reconcile
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration.checks import STREAM_CHECKS, evaluations, not_evaluated, reconciliation_evaluation
from rosetta_dagster.orchestration.naming import RECONCILIATION
from rosetta_dagster.orchestration.specs import PipelineSpecs


def evaluate(store: Store, specs: PipelineSpecs, wanted: AbstractSet[str]) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluations of these checks, in the order of their definition. `PipelineNotFound` without a row."""
    found: list[dg.AssetCheckEvaluation] = []
    if wanted & STREAM_CHECKS.keys():
        observation = observe_guarded(store, specs.shape.name)
        found += [each for each in evaluations(specs.stream.key, observation) if each.check_name in wanted]
    if RECONCILIATION in wanted:
        found.append(_reconciliation(store, specs))
    return found


def _reconciliation(store: Store, specs: PipelineSpecs) -> dg.AssetCheckEvaluation:
    try:
        return reconciliation_evaluation(specs.stream.key, list(reconcile(store.pipeline(specs.shape.name))))
    except RosettaError as error:
        return not_evaluated(specs.stream.key, RECONCILIATION, str(error))
