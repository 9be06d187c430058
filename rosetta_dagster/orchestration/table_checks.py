"""Turns what was found of a table into evaluations of the checks that each table's asset carries."""

from collections.abc import Sequence

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import Health, TableState
from rosetta_dagster.cdc.errors import resync_remedy
from rosetta_dagster.cdc.operate.comparison import DestinationDrift, RowCounts
from rosetta_dagster.cdc.store.records import TableRecord
from rosetta_dagster.orchestration.checks import Metadata, evaluation_of
from rosetta_dagster.orchestration.naming import REPLICATED, ROW_COUNT, SCHEMA_DRIFT

#: Checks of each table that a pipeline writes. `replicated` reads the table's row of the configuration database; the others
#: read the catalog or the rows on both sides.
TABLE_CHECKS = {
    REPLICATED: "The table is replicated: it is not set aside. Assets that are made from it wait until then.",
    SCHEMA_DRIFT: "The table has the source's columns.",
    ROW_COUNT: "The table has as many rows as the source's.",
}

#: What an automation condition that asks for blocking checks waits for, and what ends a run before assets downstream.
BLOCKING = frozenset({REPLICATED})

_UNCOPIED = frozenset({TableState.PENDING, TableState.SNAPSHOT, TableState.PAUSED})


def table_check_specs(table: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the specs of the checks of a table."""
    return [
        dg.AssetCheckSpec(name, asset=table, description=description, blocking=name in BLOCKING)
        for name, description in TABLE_CHECKS.items()
    ]


def is_copied(record: TableRecord) -> bool:
    """Return whether the table's copy is complete. Until then its missing rows are still to come."""
    return record.state not in _UNCOPIED


def replicated_evaluation(asset: dg.AssetKey, pipeline: str, records: Sequence[TableRecord]) -> dg.AssetCheckEvaluation:
    """Return the evaluation: a table that is set aside is an error, one that is still to be copied or is paused warns.

    An asset has several records where a translator gives several tables one key.
    """
    set_aside = [record for record in records if record.state is TableState.ERROR and not record.resync]
    is_awaited = not records or any(not is_copied(record) or record.state is TableState.ERROR for record in records)
    health = Health.ERROR if set_aside else Health.WARNING if is_awaited else Health.HEALTHY
    description = " ".join(f"{record.error} {resync_remedy(pipeline, record.id)}" for record in set_aside)
    if any(record.state is TableState.PAUSED for record in records):
        description = "The table is paused."
    elif not description and is_awaited:
        description = "The table is still to be copied."
    states = ", ".join(record.state.value for record in records)
    return evaluation_of(asset, REPLICATED, health, description or None, {"state": dg.MetadataValue.text(states)})


def schema_drift_evaluation(asset: dg.AssetKey, found: Sequence[DestinationDrift]) -> dg.AssetCheckEvaluation:
    """Return the evaluation: differences warn, and those that make a destination refuse rows are errors."""
    health = Health.WARNING if found else Health.HEALTHY
    if any(each.drift.breaks for each in found):
        health = Health.ERROR
    metadata: Metadata = {"differences": dg.MetadataValue.int(len(found))}
    if found:
        statements = "\n".join(f"-- {each.destination}: {each.drift.problem}\n{each.drift.statement};" for each in found)
        metadata["statements"] = dg.MetadataValue.md(f"```sql\n{statements}\n```")
    description = f"{found[0].drift.table}: {found[0].drift.problem}" if found else None
    return evaluation_of(asset, SCHEMA_DRIFT, health, description, metadata)


def row_count_evaluation(asset: dg.AssetKey, found: Sequence[RowCounts], tolerance: float) -> dg.AssetCheckEvaluation:
    """Return the evaluation: counts that stay different warn, since changes in flight can cause that.

    Only `reconciliation` is certain.
    """
    differing = [each for each in found if each.differs(tolerance)]
    metadata: Metadata = {
        "source_rows": dg.MetadataValue.int(sum(each.source_rows for each in found)),
        "destination_rows": dg.MetadataValue.int(sum(each.destination_rows for each in found)),
        "difference": dg.MetadataValue.int(sum(each.destination_rows - each.source_rows for each in found)),
        "tolerance": dg.MetadataValue.float(tolerance),
    }
    description = ", ".join(
        f"{each.table} has {each.destination_rows:,} rows at {each.destination} and {each.source_rows:,} at the source"
        for each in differing
    )
    return evaluation_of(asset, ROW_COUNT, Health.WARNING if differing else Health.HEALTHY, description or None, metadata)
