"""Decides when tables are materialized by a run of their own: once they hold what the source had when the run began."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.catch_up import wait_until_caught_up
from rosetta_dagster.cdc.operate.inspection import TableFacts, inspect
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import TableRecord
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.checks import results
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.orchestration.table_evaluation import evaluate_tables
from rosetta_dagster.settings import open_store


class CatchUp(dg.Config):
    """How a run that materializes tables waits for them."""

    resync: bool = Field(default=False, description="true: the selected tables are copied again first.")
    timeout_seconds: float = Field(default=600.0, description="Seconds until the run fails; a first copy can take longer.")


def caught_up_tables(
    context: dg.AssetExecutionContext, config: CatchUp, specs: PipelineSpecs
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Wait until the selected tables are caught up, and yield a result for each. The stream's run is left alone.

    Their checks follow, also when they cannot catch up. A run of checks alone waits for nothing.
    """
    failure: RosettaError | None = None
    with open_store() as store:
        try:
            yield from _materialized(store, specs, frozenset(context.selected_asset_keys), config)
        except RosettaError as error:
            failure = error
        yield from results(evaluate_tables(store, specs, context.selected_asset_check_keys))
    if failure is not None:
        # A retry cannot start a pipeline that is paused; it can wait for one that is late.
        raise dg.Failure(description=failure.message, metadata={"remedy": failure.remedy}, allow_retries=failure.transient)


def _materialized(
    store: Store, specs: PipelineSpecs, selected: frozenset[dg.AssetKey], config: CatchUp
) -> Iterator[dg.MaterializeResult[None]]:
    # Of tables that share a key, one stands for all: an asset is materialized once in a run.
    first = {min(specs.replicas[key]): key for key in selected}
    tables = frozenset(table for key in selected for _, table in specs.replicas[key])
    if tables:
        for record, fact in _caught_up(store, specs.shape.name, tables, config):
            if (fact.destination, fact.table.id) in first:
                yield _result(specs, record, fact)


def _caught_up(store: Store, name: str, tables: frozenset[TableId], config: CatchUp) -> list[tuple[TableRecord, TableFacts]]:
    records = wait_until_caught_up(store, name, tables, timeout=config.timeout_seconds, resync=config.resync)
    by_id = {record.id: record for record in records}
    return [(by_id[fact.table.id], fact) for fact in inspect(store.pipeline(name), tables)]


def _result(specs: PipelineSpecs, record: TableRecord, fact: TableFacts) -> dg.MaterializeResult[None]:
    metadata = table_metadata(specs, fact) | {
        "rows_copied": dg.MetadataValue.int(record.rows_copied),
        "rows_applied": dg.MetadataValue.int(record.rows_applied),
    }
    if record.last_change_time is not None:
        metadata["source_commit_time"] = dg.MetadataValue.timestamp(record.last_change_time)
    return dg.MaterializeResult(
        asset_key=specs.tables[fact.destination, fact.table.id].key,
        metadata=metadata,
        data_version=dg.DataVersion(record.data_version) if record.data_version else None,
    )


def table_metadata(specs: PipelineSpecs, fact: TableFacts) -> dict[str, dg.MetadataValue]:
    """Return what a materialization says of a table itself: its rows, columns and their lineage."""
    return {
        "dagster/row_count": dg.MetadataValue.int(fact.row_count),
        "dagster/column_schema": dg.MetadataValue.table_schema(_column_schema(fact.table)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(
            _column_lineage(fact.table, specs.sources[fact.table.id].key)
        ),
        **({} if fact.table.row_filter is None else {"row_filter": dg.MetadataValue.text(fact.table.row_filter)}),
    }


def _column_schema(table: TableSchema) -> dg.TableSchema:
    """Return the columns as the source describes them, and which of them are masked."""
    return dg.TableSchema(columns=[_column(column, is_key=column.name in table.key) for column in table.columns])


def _column_lineage(table: TableSchema, source: dg.AssetKey) -> dg.TableColumnLineage:
    """Return the lineage: each column comes from the source's column of the same name."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(source, name)] for name in table.column_names})


def _column(column: Column, *, is_key: bool) -> dg.TableColumn:
    other = [*(["primary key"] if is_key else []), *([f"masked: {column.mask}"] if column.mask else [])]
    constraints = dg.TableColumnConstraints(nullable=not column.not_null, other=other)
    return dg.TableColumn(column.name, column.type, column.comment, constraints=constraints)
