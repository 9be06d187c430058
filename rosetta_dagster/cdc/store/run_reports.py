"""Writes what runs and observations report of a pipeline: progress, failures, its slot and its health."""

from collections.abc import Collection
from typing import Any

import psycopg

from rosetta_dagster.cdc.config.pipeline import Health
from rosetta_dagster.cdc.config.slot_policy import SlotAction
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.records import Progress, WalSample
from rosetta_dagster.cdc.store.session import StoreSession


class RunReports(StoreSession):
    """The state of pipelines, as those who know it write it."""

    def report_started(self, pipeline_id: int, run_id: str) -> None:
        self._execute(queries.NEW_DATA_VERSIONS, {"run_id": run_id, "pipeline_id": pipeline_id})
        self._execute(queries.STARTED, [run_id, pipeline_id])

    def report_progress(self, pipeline_id: int, run_id: str, progress: Progress) -> None:
        """Add what a run did since its last report. Nothing is written when another run has taken over."""
        with self.connected() as connection, connection.transaction():
            cursor = connection.execute(
                queries.PROGRESS,
                {
                    "pipeline_id": pipeline_id,
                    "run_id": run_id,
                    "run_status": progress.run_status,
                    "applied_lsn": str(progress.applied_lsn) if progress.applied_lsn is not None else None,
                    "inspection_done": progress.inspection_done,
                    "lag_seconds": progress.lag_seconds,
                    "success_age": progress.success_age,
                    "copied": progress.copied,
                    "applied": progress.applied,
                    "batches": progress.batches.count,
                    "wait_seconds": progress.batches.wait_seconds,
                    "apply_seconds": progress.batches.apply_seconds,
                },
            )
            if cursor.rowcount:
                self._add_to_tables(connection, pipeline_id, progress)

    def report_failure(self, pipeline_id: int, run_id: str | None, message: str, *, transient: bool) -> None:
        """Record why a run failed, and when the next may start."""
        self._execute(
            queries.FAILED,
            {"pipeline_id": pipeline_id, "run_id": run_id, "message": message, "transient": transient},
        )

    def retry_failed(self, names: Collection[str]) -> None:
        """End the wait of those of these pipelines that failed with a terminal error."""
        self._execute(queries.RETRY_FAILED, [list(names)])

    def report_stopped(self, pipeline_id: int, run_id: str) -> None:
        """Record that a run ended without an error."""
        self._execute(queries.STOPPED, [pipeline_id, run_id])

    def wal_sample(self, pipeline_id: int) -> WalSample:
        """Return what `report_slot` recorded last."""
        rows = self._rows(queries.WAL_SAMPLE, [pipeline_id])
        return WalSample(retained_bytes=rows[0][0], age=rows[0][1]) if rows else WalSample(retained_bytes=None, age=None)

    def report_slot(self, pipeline_id: int, slot_name: str, slot: SlotReading | None, growth: float | None = None) -> None:
        """Record the state of the pipeline's slot, None when it does not exist, and how fast its WAL grows."""
        self._execute(
            queries.SLOT,
            {
                "pipeline_id": pipeline_id,
                "slot_name": slot_name,
                "wal_status": slot.wal_status if slot else None,
                "confirmed_flush_lsn": str(slot.confirmed_flush_lsn)
                if slot and slot.confirmed_flush_lsn is not None
                else None,
                "wal_size": slot.retained_bytes if slot else None,
                "lag_bytes": slot.lag_bytes if slot else None,
                "safe_wal_size": slot.safe_wal_bytes if slot else None,
                "wal_growth": growth,
            },
        )

    def report_slot_action(self, pipeline_id: int, action: SlotAction | None, reason: str | None) -> None:
        """Record what was done because the slot retained too much WAL, and why; None: that is over."""
        self._execute(queries.SLOT_ACTION, [action, reason, pipeline_id])

    def report_health(self, pipeline_id: int, health: Health) -> None:
        self._execute(queries.HEALTH, [health, pipeline_id])

    def _add_to_tables(self, connection: "psycopg.Connection[Any]", pipeline_id: int, progress: Progress) -> None:
        for table, done in progress.tables.items():
            connection.execute(
                queries.TABLE_PROGRESS,
                {
                    "pipeline_id": pipeline_id,
                    "namespace": table.namespace,
                    "name": table.name,
                    "state": done.state,
                    "error": done.error,
                    "copied": done.copied,
                    "applied": done.applied,
                    "inserted": done.inserted,
                    "updated": done.updated,
                    "deleted": done.deleted,
                    "truncated": done.truncated,
                    "last_change_at": done.last_change_at,
                    "data_version": done.data_version,
                },
            )
