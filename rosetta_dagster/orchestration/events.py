"""Reports a run's progress to Dagster, rarely enough that a run of months does not fill the event log."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress

import dagster as dg

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import TableState
from rosetta_dagster.cdc.errors import PipelineNotFound, RosettaError, StoreUnavailable
from rosetta_dagster.cdc.operate.health import Observation, observe
from rosetta_dagster.cdc.operate.inspection import TableFacts, inspect
from rosetta_dagster.cdc.report import Phase, Report, TableCounts
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import TableRecord
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.checks import evaluations
from rosetta_dagster.orchestration.naming import END_TAG, PIPELINE_TAG, ROW_COUNT, SCHEMA_DRIFT, SLOT_TAG, START_TAG
from rosetta_dagster.orchestration.reported_checks import latest_evaluations, news, report_checks
from rosetta_dagster.orchestration.specs import PipelineSpecs
from rosetta_dagster.orchestration.summary import stream_metadata
from rosetta_dagster.orchestration.table_checks import is_copied
from rosetta_dagster.orchestration.table_evaluation import replicated
from rosetta_dagster.orchestration.tables import table_metadata
from rosetta_dagster.settings import Settings

#: The version of an asset's contents, on a materialization.
DATA_VERSION_TAG = "dagster/data_version"

#: Times in an interval that a table may stay unchanged that this is looked for: it is confirmed at most a quarter late.
CONFIRMATIONS = 4


class Events:
    """Decides what a run reports to Dagster next, from what it has reported so far."""

    def __init__(self, context: dg.OpExecutionContext, store: Store, specs: PipelineSpecs, settings: Settings) -> None:
        self._context = context
        self._store = store
        #: The pipeline as it was last read.
        self._specs = specs
        self._materialize_interval = settings.materialize_interval_seconds
        self._confirm_interval = math.inf if settings.confirm_interval_seconds is None else settings.confirm_interval_seconds
        self._phase: Phase | None = None
        #: Whether the run has streamed.
        self._is_begun = False
        #: The counts that were last reported of each table.
        self._reported: dict[TableId, TableCounts] = {}
        #: The version that each table had before the run.
        self._versions: dict[TableId, str | None] = {}
        #: The states of the tables when the stream was last reported.
        self._reported_states: list[tuple[TableId, TableState, str | None]] = []
        self._materialized_at = 0.0
        self._confirmed_at = 0.0
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
            self._check_tables(self._table_ids)
            self._observe_stream(report)
        self._check()

    def ended(self, report: Report) -> None:
        """Tag the run with the LSN up to which it has applied changes, however it ended."""
        end = report.applied_lsn or self._start_lsn
        if end is not None:
            self._context.instance.add_run_tags(self._context.run.run_id, {END_TAG: str(end)})

    def _stream_metadata(self, report: Report) -> dict[str, dg.MetadataValue]:
        """Return the metadata of the stream's asset."""
        records = self._records()
        self._reported_states = _states(records)
        run = dg.MetadataValue.dagster_run(self._context.run.run_id)
        return {"run": run, **stream_metadata(self._specs, records, report)}

    def _enter(self, report: Report) -> None:
        self._phase = report.phase
        self._context.log.info("Pipeline %s: %s", self._specs.shape.name, report.phase)
        if report.phase is Phase.STREAMING:
            self._refresh_specs()
            if self._is_begun:
                # The run began again by itself, as when a table was set aside.
                self._observe_stream(report)
                self._check()
            else:
                self._is_begun = True
                self._materialize_stream(report)
                self._note_start(self._check())
            self._materialize(report, self._changed(report) | self._unknown(report))
            self._check_tables(self._table_ids)

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

    def _unknown(self, report: Report) -> frozenset[TableId]:
        """Return the replicated tables of which Dagster has no materialization, or an old one, or one of another version.

        It has none after its records were deleted, in another instance, and after a key was changed.
        """
        versions = {record.id: record.data_version for record in self._records()}
        self._versions = versions | self._versions
        replicated = {table for table, (state, _) in report.states.items() if state is TableState.STREAMING}
        keys = {spec.key: table for (_, table), spec in self._specs.tables.items() if table in replicated}
        known = {
            record.asset_entry.asset_key: record.asset_entry.last_materialization
            for record in self._context.instance.get_asset_records(list(keys))
        }
        oldest = time.time() - self._confirm_interval
        return frozenset(table for key, table in keys.items() if not _is_of(known.get(key), versions.get(table), oldest))

    def _changed(self, report: Report) -> frozenset[TableId]:
        return frozenset(table for table, counts in report.tables.items() if counts != self._reported.get(table))

    def _report_changes(self, report: Report) -> None:
        self._refresh_specs()
        tables = self._changed(report)
        has_new_states = _states(self._records()) != self._reported_states
        if has_new_states:
            self._observe_stream(report)
            self._check()
            # A table that was added is one even without rows.
            tables |= self._unknown(report)
        elif self._is_confirmation_due():
            tables |= self._unknown(report)
        self._materialize(report, tables)
        self._check_tables(self._table_ids if has_new_states else tables)

    def _is_confirmation_due(self) -> bool:
        """Return whether tables that have not changed for long are to be materialized as of now: they have to be so."""
        now = time.monotonic()
        if now - self._confirmed_at < self._confirm_interval / CONFIRMATIONS:
            return False
        self._confirmed_at = now
        observation = self._check()
        return observation is not None and observation.age is not None and observation.age < self._confirm_interval

    def _materialize_stream(self, report: Report) -> None:
        """Materialize the stream, at its start only: Dagster hides the results of checks that are older."""
        self._context.log_event(dg.AssetMaterialization(self._specs.stream.key, metadata=self._stream_metadata(report)))

    def _observe_stream(self, report: Report) -> None:
        """Observe the stream: when a table is added, removed, set aside or recovers, and at the end."""
        self._context.log_event(dg.AssetObservation(self._specs.stream.key, metadata=self._stream_metadata(report)))

    def _records(self) -> list[TableRecord]:
        try:
            return self._store.tables(self._specs.shape.name)
        except RosettaError as error:
            self._context.log.warning("The tables could not be read: %s", error)
            return []

    def _materialize(self, report: Report, tables: frozenset[TableId]) -> None:
        self._materialized_at = time.monotonic()
        # Tables that were removed meanwhile have no asset.
        tables = tables & self._table_ids
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
        spec, run_id = self._specs.tables[fact.destination, fact.table.id], self._context.run.run_id
        counts = report.tables.get(fact.table.id, TableCounts())
        version = counts.data_version(run_id) or self._versions.get(fact.table.id) or f"as of run {run_id}"
        return dg.AssetMaterialization(
            spec.key,
            description=fact.table.comment,
            metadata={
                **spec.metadata,
                **table_metadata(self._specs, fact),
                **change_metadata(self._reported.get(fact.table.id, TableCounts()), counts),
                **({} if report.lag_seconds is None else {"lag_seconds": report.lag_seconds}),
            },
            tags={PIPELINE_TAG: self._specs.shape.name, DATA_VERSION_TAG: version},
        )

    @property
    def _table_ids(self) -> frozenset[TableId]:
        return frozenset(table for _, table in self._specs.tables)

    def _check_tables(self, tables: frozenset[TableId]) -> None:
        """Report whether these tables are replicated, and again what other checks have found of them.

        Dagster shows an evaluation until the next materialization. What a check found does not end with that.
        """
        copied = {record.id: record for record in self._records() if record.id in tables and is_copied(record)}
        keys = {spec.key for (_, table), spec in self._specs.tables.items() if table in copied}
        instance = self._context.instance
        others = [dg.AssetCheckKey(key, check) for key in keys for check in (SCHEMA_DRIFT, ROW_COUNT)]
        failed = [each for each in latest_evaluations(instance, others).values() if not each.passed]
        report_checks(instance, news(instance, [*replicated(self._specs, copied, keys), *failed]))

    def _check(self) -> Observation | None:
        """Report the quick checks; return the observation, or None when the pipeline could not be read."""
        try:
            observation = observe(self._store, self._specs.shape.name)
        except RosettaError as error:
            self._context.log.warning("The pipeline could not be read: %s", error)
            return None
        report_checks(self._context.instance, evaluations(self._specs.stream.key, observation))
        return observation


def _states(records: Sequence[TableRecord]) -> list[tuple[TableId, TableState, str | None]]:
    return [(record.id, record.state, record.error) for record in records]


def _is_of(entry: dg.EventLogEntry | None, version: str | None, oldest: float) -> bool:
    """Return whether the materialization is one of this version, and not older than this."""
    return entry is not None and (entry.tags or {}).get(DATA_VERSION_TAG) == version and entry.timestamp >= oldest


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
