"""Reads what an operator wants to know of pipelines at one moment: state, tables, rates, and what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rosetta_dagster.cdc.config.pipeline import Health
from rosetta_dagster.cdc.operate.waiting import explanation, is_running
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState, SkippedTable, TableRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatus:
    """A pipeline at one moment."""

    state: PipelineState
    tables: tuple[TableRecord, ...]
    #: What an operator has to know; None when all is well.
    explanation: str | None
    #: Tables that match a pattern of the pipeline and are not replicated.
    skipped: tuple[SkippedTable, ...] = ()
    #: Rows copied and changes applied per second since an earlier reading; None without one.
    rate: float | None = None

    @property
    def lag_seconds(self) -> float | None:
        """The lag of the last change; None when no run streams, since the recorded lag is old then."""
        return self.state.lag_seconds if is_running(self.state) else None


def read_status(store: Store, name: str | None = None) -> list[PipelineStatus]:
    """Return the status of one pipeline, or of all. `PipelineNotFound` when none has that name."""
    states = store.states() if name is None else [store.state(name)]
    return [
        PipelineStatus(
            state=state,
            tables=tuple(store.tables(state.name)),
            explanation=explanation(state),
            skipped=tuple(store.skipped_tables(state.name)),
        )
        for state in states
    ]


def row_count(status: PipelineStatus) -> int:
    """Return how many rows and changes the pipeline has written since it was added."""
    return status.state.rows_copied + status.state.rows_applied


def rates(before: Sequence[PipelineStatus], now: Sequence[PipelineStatus], seconds: float) -> Mapping[str, float]:
    """Return the rows per second of each pipeline between two readings."""
    counts = {status.state.name: row_count(status) for status in before}
    return {
        status.state.name: max(0.0, (row_count(status) - counts[status.state.name]) / seconds)
        for status in now
        if status.state.name in counts
    }


def is_failing(statuses: Sequence[PipelineStatus]) -> bool:
    """Return whether a pipeline is in error: `rosetta status --check` exits with 1 then. A warning is no failure."""
    return any(status.state.health is Health.ERROR for status in statuses)
