"""Reports a run's progress to Dagster, rarely enough that a run of months does not fill the event log."""

import time
from collections.abc import Sequence
from contextlib import suppress

import dagster as dg

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.errors import PipelineNotFound, RosettaError, StoreUnavailable
from rosetta_dagster.cdc.operate.health import Observation, observe
from rosetta_dagster.cdc.operate.inspection import TableFacts, inspect
from rosetta_dagster.cdc.report import Phase, Report, TableCounts
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import TableRecord
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.checks import evaluations
from rosetta_dagster.orchestration.naming import END_TAG, PIPELINE_TAG, SLOT_TAG, START_TAG
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.orchestration.summary import stream_metadata

#: Data version of every stream. It never changes, since tables that follow their stream are never older than it.
STREAM_VERSION = "stream"


class Events:
    """Decides what a run reports to Dagster next, from what it has reported so far."""

    def __init__(
        self, context: dg.AssetExecutionContext, store: Store, specs: PipelineSpecs, materialize_interval: float
    ) -> None:
        """Report each changed table at most once in `materialize_interval` seconds."""
        self._context = context
        self._store = store
        #: The pipeline as it was last read.
        self._specs = specs
        self._materialize_interval = materialize_interval
        self._phase: Phase | None = None
        #: The counts that were last reported of each table.
        self._reported: dict[TableId, TableCounts] = {}
        #: The states of the tables when the stream was last materialized.
        self._reported_states: list[tuple[TableId, TableState, str | None]] = []
        self._materialized_at = 0.0
        self._start_lsn: Lsn | None = None

    def note(self, report: Report) -> None:
        """Report to Dagster what is due."""
        if report.phase is not self._phase:
            self._enter(report)
        elif report.phase is Phase.STREAMING and time.monotonic() - self._materialized_at >= self._materialize_interval:
            self._report_changes(report)

    def finish(self, report: Report) -> None:
        """Report the rest: the run has ended without an error."""
        self._refresh_specs()
        if report.phase is Phase.STREAMING:
            self._materialize(report, self._changed(report))
        self._check()

    def ended(self, report: Report) -> None:
        """Tag the run with the LSN up to which it has applied changes, however it ended."""
        end = report.applied_lsn or self._start_lsn
        if end is not None:
            self._context.instance.add_run_tags(self._context.run.run_id, {END_TAG: str(end)})

    def stream_metadata(self, report: Report) -> dict[str, dg.MetadataValue]:
        """Return the metadata of the stream's asset."""
        run = dg.MetadataValue.dagster_run(self._context.run.run_id)
        return {"run": run, **stream_metadata(self._specs, self._records(), report)}

    def _enter(self, report: Report) -> None:
        self._phase = report.phase
        self._context.log.info("Pipeline %s: %s", self._specs.shape.name, report.phase)
        if report.phase is Phase.STREAMING:
            self._refresh_specs()
            self._materialize_stream(report)
            self._note_start(self._check())
            everything = frozenset(table for _, table in self._specs.tables)
            self._materialize(report, everything if self._may_have_missed_changes() else self._changed(report))

    def _refresh_specs(self) -> None:
        """Read which tables the pipeline has now. An error that lasts ends the run elsewhere."""
        with suppress(PipelineNotFound, StoreUnavailable):
            self._specs = self._specs.reshaped(self._store.shape(self._specs.shape.name))

    def _note_start(self, observation: Observation | None) -> None:
        if observation is None:
            return
        self._start_lsn = observation.slot.confirmed_flush_lsn if observation.slot else None
        tags = {SLOT_TAG: observation.slot_name}
        if self._start_lsn is not None:
            tags[START_TAG] = str(self._start_lsn)
        self._context.instance.add_run_tags(self._context.run.run_id, tags)

    def _may_have_missed_changes(self) -> bool:
        """Return whether the previous run ended before it could report its last changes."""
        of_pipeline = dg.RunsFilter(tags={PIPELINE_TAG: self._specs.shape.name})
        runs = self._context.instance.get_runs(of_pipeline, limit=2)
        before = [run for run in runs if run.run_id != self._context.run.run_id]
        return bool(before) and before[0].status is not dg.DagsterRunStatus.SUCCESS

    def _changed(self, report: Report) -> frozenset[TableId]:
        return frozenset(table for table, counts in report.tables.items() if counts != self._reported.get(table))

    def _report_changes(self, report: Report) -> None:
        self._refresh_specs()
        if _states(self._records()) != self._reported_states:
            self._materialize_stream(report)
            self._check()
        self._materialize(report, self._changed(report))

    def _materialize_stream(self, report: Report) -> None:
        """Materialize the stream: at its start, and when a table is added, removed, set aside or recovers."""
        self._reported_states = _states(self._records())
        metadata, tags = self.stream_metadata(report), {"dagster/data_version": STREAM_VERSION}
        self._context.log_event(dg.AssetMaterialization(self._specs.stream.key, metadata=metadata, tags=tags))

    def _records(self) -> list[TableRecord]:
        try:
            return self._store.tables(self._specs.shape.name)
        except RosettaError as error:
            self._context.log.warning("The tables could not be read: %s", error)
            return []

    def _materialize(self, report: Report, tables: frozenset[TableId]) -> None:
        self._materialized_at = time.monotonic()
        # Tables that were removed meanwhile have no asset.
        tables = tables & {table for _, table in self._specs.tables}
        if not tables:
            return
        try:
            facts = inspect(self._store.pipeline(self._specs.shape.name), tables)
        except RosettaError as error:
            # The counts are information only, so the run goes on. A real fault ends it elsewhere.
            self._context.log.warning("The tables could not be read: %s", error)
            return
        for fact in facts:
            if (fact.destination, fact.table.id) in self._specs.tables:
                self._context.log_event(self._materialization(report, fact))
        self._reported |= {table: report.tables[table] for table in tables if table in report.tables}

    def _materialization(self, report: Report, fact: TableFacts) -> dg.AssetMaterialization:
        spec = self._specs.tables[fact.destination, fact.table.id]
        counts = report.tables.get(fact.table.id, TableCounts())
        stream = self._specs.stream.key.to_user_string()
        return dg.AssetMaterialization(
            spec.key,
            description=fact.table.comment,
            metadata={
                **spec.metadata,
                "dagster/row_count": fact.row_count,
                "dagster/column_schema": column_schema(fact.table),
                "dagster/column_lineage": column_lineage(fact.table, self._specs.sources[fact.table.id].key),
                **({} if fact.table.row_filter is None else {"row_filter": fact.table.row_filter}),
                **change_metadata(self._reported.get(fact.table.id, TableCounts()), counts),
                **({} if report.lag_seconds is None else {"lag_seconds": report.lag_seconds}),
            },
            tags={
                PIPELINE_TAG: self._specs.shape.name,
                "dagster/data_version": data_version(counts, self._context.run.run_id),
                # The table's input. Without it the UI shows every table as unsynced.
                f"dagster/input_data_version/{stream}": STREAM_VERSION,
            },
        )

    def _check(self) -> Observation | None:
        """Report the quick checks; return the observation, or None when the pipeline could not be read."""
        try:
            observation = observe(self._store, self._specs.shape.name)
        except RosettaError as error:
            self._context.log.warning("The pipeline could not be read: %s", error)
            return None
        for evaluation in evaluations(self._specs.stream.key, observation):
            self._context.log_event(evaluation)
        return observation


def _states(records: Sequence[TableRecord]) -> list[tuple[TableId, TableState, str | None]]:
    return [(record.id, record.state, record.error) for record in records]


def data_version(counts: TableCounts, run_id: str) -> str:
    """Return the version of a table's contents: the LSN of its last change, or this run if it has not changed in it.

    Downstream assets run again when it changes, so it must not change with other tables.
    """
    return f"as of run {run_id}" if counts.last_lsn is None else str(counts.last_lsn)


def change_metadata(before: TableCounts, now: TableCounts) -> dict[str, int | str | dg.MetadataValue]:
    """Return the changes of a table since it was last reported, by operation, and the time of the last commit."""
    metadata: dict[str, int | str | dg.MetadataValue] = {
        "rows_copied": now.copied - before.copied,
        "rows_inserted": now.inserted - before.inserted,
        "rows_updated": now.updated - before.updated,
        "rows_deleted": now.deleted - before.deleted,
        "truncates": now.truncated - before.truncated,
    }
    if now.last_lsn is not None:
        metadata["lsn"] = str(now.last_lsn)
    if now.last_change_at is not None:
        metadata["source_commit_time"] = dg.MetadataValue.timestamp(now.last_change_at)
    return metadata


def column_schema(table: TableSchema) -> dg.TableSchema:
    """Return the columns as the source describes them."""
    return dg.TableSchema(columns=[_column(column, is_key=column.name in table.key) for column in table.columns])


def column_lineage(table: TableSchema, source: dg.AssetKey) -> dg.TableColumnLineage:
    """Return the lineage: each column comes from the source's column of the same name."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(source, name)] for name in table.column_names})


def _column(column: Column, *, is_key: bool) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(nullable=not column.not_null, other=["primary key"] if is_key else [])
    return dg.TableColumn(column.name, column.type, column.comment, constraints=constraints)
