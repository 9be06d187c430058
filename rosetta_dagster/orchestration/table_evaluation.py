"""Evaluates the requested checks of tables: reads their rows of the configuration database, and what both sides hold."""

from collections.abc import Callable, Collection, Mapping

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.comparison import compare_row_counts, schema_drift
from rosetta_dagster.cdc.operate.health import thresholds_of
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import TableRecord
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.checks import not_evaluated
from rosetta_dagster.orchestration.naming import REPLICATED, ROW_COUNT, SCHEMA_DRIFT
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.orchestration.table_checks import (
    is_copied,
    replicated_evaluation,
    row_count_evaluation,
    schema_drift_evaluation,
)


def evaluate_tables(
    store: Store, specs: PipelineSpecs, wanted: Collection[dg.AssetCheckKey]
) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluations of these checks. One that cannot be evaluated fails with the reason."""
    found: list[dg.AssetCheckEvaluation] = []
    for check, evaluated in _EVALUATED.items():
        keys = [key.asset_key for key in wanted if key.name == check]
        if not keys:
            continue
        try:
            found += evaluated(store, specs, keys)
        except RosettaError as error:
            found += [not_evaluated(key, check, str(error)) for key in keys]
    return found


def replicated(
    specs: PipelineSpecs, records: Mapping[TableId, TableRecord], keys: Collection[dg.AssetKey]
) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluations of `replicated` for these assets."""
    of_key = specs.replicas
    return [
        replicated_evaluation(
            key, specs.shape.name, [records[table] for _, table in sorted(of_key[key]) if table in records]
        )
        for key in keys
    ]


def _replicated(store: Store, specs: PipelineSpecs, keys: Collection[dg.AssetKey]) -> list[dg.AssetCheckEvaluation]:
    return replicated(specs, {record.id: record for record in store.tables(specs.shape.name)}, keys)


def _schema_drift(store: Store, specs: PipelineSpecs, keys: Collection[dg.AssetKey]) -> list[dg.AssetCheckEvaluation]:
    found, of_key = schema_drift(_copied(store, specs, keys)), specs.replicas
    return [
        schema_drift_evaluation(key, [each for each in found if (each.destination, each.drift.table) in of_key[key]])
        for key in keys
    ]


def _row_count(store: Store, specs: PipelineSpecs, keys: Collection[dg.AssetKey]) -> list[dg.AssetCheckEvaluation]:
    tolerance = thresholds_of(store, specs.shape.name).row_count_tolerance
    found, of_key = compare_row_counts(_copied(store, specs, keys), tolerance), specs.replicas
    return [
        row_count_evaluation(key, [each for each in found if (each.destination, each.table) in of_key[key]], tolerance)
        for key in keys
    ]


def _copied(store: Store, specs: PipelineSpecs, keys: Collection[dg.AssetKey]) -> PipelineConfig:
    """Return the pipeline with the tables of these assets whose copy is complete: rows of others are still to come."""
    of_key = specs.replicas
    wanted = {table for key in keys for _, table in of_key[key]}
    copied = {record.id for record in store.tables(specs.shape.name) if is_copied(record)}
    config = store.pipeline(specs.shape.name)
    return config.model_copy(update={"tables": tuple(table for table in config.tables if table.id in wanted & copied)})


_EVALUATED: Mapping[str, Callable[[Store, PipelineSpecs, Collection[dg.AssetKey]], list[dg.AssetCheckEvaluation]]] = {
    REPLICATED: _replicated,
    SCHEMA_DRIFT: _schema_drift,
    ROW_COUNT: _row_count,
}
