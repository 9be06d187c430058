"""The body of a pipeline's run in Dagster: runs the engine until it is told to stop, and tells Dagster what it does."""

import os
import time
from collections.abc import Iterator
from contextlib import closing

import dagster as dg

from rosetta_dagster.cdc.config import Status
from rosetta_dagster.cdc.errors import LeaseHeld, RosettaError
from rosetta_dagster.cdc.health import observe
from rosetta_dagster.cdc.inspection import TableFacts, inspect
from rosetta_dagster.cdc.report import Phase, Report, TableCounts
from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.cdc.supervision import WorkerStuck, supervised
from rosetta_dagster.cdc.worker import unexpected
from rosetta_dagster.orchestration.checks import evaluations, failed_run
from rosetta_dagster.orchestration.naming import PIPELINE_TAG, REQUESTED_TAG, destination_key, stream_key
from rosetta_dagster.settings import open_store

#: Seconds between two materializations of a table that changes. Each is a row in Dagster's event log.
MATERIALIZE_INTERVAL = 60.0

#: Data version of every stream. Tables follow their stream as long as it runs, so it is never newer than they are.
STREAM_VERSION = "stream"

#: What the process ends with when the engine cannot be stopped: the walsender ends with it.
STUCK_EXIT_CODE = 70


def replicate_until_told(context: dg.AssetExecutionContext, shape: PipelineShape) -> Iterator[dg.MaterializeResult[None]]:
    """Run the pipeline; on PAUSE the step succeeds, with one result for the stream."""
    try:
        report = _replicate(context, shape)
    except RosettaError as error:
        if not isinstance(error, LeaseHeld):
            context.log_event(failed_run(shape.name, context.run.run_id, str(error)))
        raise dg.Failure(description=error.message, metadata={"remedy": error.remedy}, allow_retries=False) from None
    except WorkerStuck as stuck:
        context.log.critical("%s The process ends itself.", stuck)
        os._exit(STUCK_EXIT_CODE)
    if report is not None:
        yield dg.MaterializeResult(
            asset_key=stream_key(shape.name), metadata=_totals(report), data_version=dg.DataVersion(STREAM_VERSION)
        )


def _replicate(context: dg.AssetExecutionContext, shape: PipelineShape) -> Report | None:
    """The report of the run; None when the run was not wanted any more."""
    with open_store() as store:
        if not _claim(context, store, shape.name):
            return None
        try:
            return _run(context, store, shape)
        except (RosettaError, WorkerStuck):
            raise
        except Exception as error:
            # Whatever else fails in this step fails the run, and has to wait before the next one like any failure.
            failure = unexpected(error)
            store.report_failure(store.state(shape.name).id, context.run.run_id, str(failure), transient=True)
            raise


def _claim(context: dg.AssetExecutionContext, store: Store, name: str) -> bool:
    """Whether the run is wanted. A run that a person launched is: it starts a paused pipeline."""
    # Runs of the "Materialize" button carry no tags of the job.
    context.instance.add_run_tags(context.run.run_id, {PIPELINE_TAG: name})
    if REQUESTED_TAG not in context.run.tags:
        store.set_status(name, Status.START, only_from=Status.PAUSE)
    if store.status(name) is Status.PAUSE:
        context.log.info("The pipeline was paused before the run began.")
        return False
    return True


def _run(context: dg.AssetExecutionContext, store: Store, shape: PipelineShape) -> Report:
    report = Report()
    events = _Events(context, store, shape)
    with closing(supervised(store, shape.name, context.run.run_id)) as reports:
        try:
            for report in reports:
                events.note(report)
        except dg.DagsterExecutionInterruptedError:
            _follow_cancel(context, store, shape.name)
            raise
    events.finish(report)
    return report


def _follow_cancel(context: dg.AssetExecutionContext, store: Store, name: str) -> None:
    """Terminate in the UI means PAUSE: otherwise the sensor would start the pipeline again."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
        store.set_status(name, Status.PAUSE, only_from=Status.START)


class _Events:
    """Tells Dagster of a run's progress, seldom enough that a run of months does not fill its event log."""

    def __init__(self, context: dg.AssetExecutionContext, store: Store, shape: PipelineShape) -> None:
        self._context = context
        self._store = store
        self._shape = shape
        self._phase: Phase | None = None
        #: What was last told of each table.
        self._told: dict[TableId, TableCounts] = {}
        self._told_at = 0.0

    def note(self, report: Report) -> None:
        if report.phase is not self._phase:
            self._phase = report.phase
            self._context.log.info("Pipeline %s: %s", self._shape.name, report.phase)
            if report.phase is Phase.STREAMING:
                self._context.log_event(
                    dg.AssetMaterialization(stream_key(self._shape.name), tags={"dagster/data_version": STREAM_VERSION})
                )
                self._check()
                self._tell(report)
        elif report.phase is Phase.STREAMING and time.monotonic() - self._told_at >= MATERIALIZE_INTERVAL:
            self._tell(report)

    def finish(self, report: Report) -> None:
        if report.phase is Phase.STREAMING:
            self._tell(report)
        self._check()

    def _tell(self, report: Report) -> None:
        """Materialize the tables that something was done to."""
        self._told_at = time.monotonic()
        changed = frozenset(table for table, counts in report.tables.items() if counts != self._told.get(table))
        if not changed:
            return
        try:
            facts = inspect(self._store.pipeline(self._shape.name), changed)
        except RosettaError as error:
            # The counts are for people to look at: the run goes on, and what is really wrong ends it.
            self._context.log.warning("The tables could not be looked at: %s", error)
            return
        self._learn(changed)
        for fact in facts:
            self._context.log_event(self._materialization(report, fact))
        self._told |= {table: report.tables[table] for table in changed}

    def _learn(self, tables: frozenset[TableId]) -> None:
        """Tables may have come to the pipeline since the run began."""
        if not tables <= {table.id for table in self._shape.tables}:
            self._shape = next((s for s in self._store.shapes() if s.name == self._shape.name), self._shape)

    def _materialization(self, report: Report, fact: TableFacts) -> dg.AssetMaterialization:
        destination = next(d for d in self._shape.destinations if d.name == fact.destination)
        table = next(t for t in self._shape.tables if t.id == fact.table.id)
        counts = report.tables[fact.table.id]
        columns = [
            dg.TableColumn(column.name, column.type, column.comment, constraints=_constraints(column.not_null))
            for column in fact.table.columns
        ]
        return dg.AssetMaterialization(
            destination_key(destination, table),
            metadata={
                "dagster/row_count": fact.row_count,
                "dagster/column_schema": dg.TableSchema(columns=columns),
                "dagster/table_name": str(destination.target_of(table)),
                "rows_copied": counts.copied,
                "rows_inserted": counts.inserted,
                "rows_updated": counts.updated,
                "rows_deleted": counts.deleted,
            },
            tags={PIPELINE_TAG: self._shape.name, **_input_versions(self._shape.name)},
        )

    def _check(self) -> None:
        for evaluation in evaluations(observe(self._store, self._shape.name)):
            self._context.log_event(evaluation)


def _constraints(not_null: bool) -> dg.TableColumnConstraints:  # noqa: FBT001 - private, one argument
    return dg.TableColumnConstraints(nullable=not not_null)


def _input_versions(pipeline: str) -> dict[str, str]:
    """What a table was made of; without it the UI calls every table unsynced."""
    return {f"dagster/input_data_version/{stream_key(pipeline).to_user_string()}": STREAM_VERSION}


def _totals(report: Report) -> dict[str, int | float]:
    totals: dict[str, int | float] = {
        "rows_copied": sum(counts.copied for counts in report.tables.values()),
        "rows_applied": sum(counts.applied for counts in report.tables.values()),
    }
    if report.lag_seconds is not None:
        totals["lag_seconds"] = report.lag_seconds
    return totals
