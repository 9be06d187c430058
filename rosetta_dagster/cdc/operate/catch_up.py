"""Decides when tables are caught up: when every destination holds what the source had committed as the wait began."""

import time
from collections.abc import Collection
from typing import NamedTuple

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, Status, TableState
from rosetta_dagster.cdc.errors import NotCaughtUp, NotReplicated, with_resync_remedy
from rosetta_dagster.cdc.operate.waiting import obstacle
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.heartbeat import emit_message
from rosetta_dagster.cdc.source.slot_reading import slot_reading
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineState, RunStatus, TableRecord
from rosetta_dagster.cdc.table_id import TableId

#: Seconds between two readings of the slot and of the rows.
POLL_INTERVAL = 0.5


class _Reading(NamedTuple):
    """The rows of a pipeline and of the awaited tables."""

    state: PipelineState
    tables: list[TableRecord]

    def is_caught_up(self, inspection: int) -> bool:
        """Return whether all tables stream, as the run reported after the inspection."""
        is_inspected = self.state.inspection_done >= inspection
        is_streaming = self.state.run_status is RunStatus.STREAMING
        return is_inspected and is_streaming and all(_streams(record) for record in self.tables)


def wait_until_caught_up(
    store: Store, name: str, tables: Collection[TableId], *, timeout: float, resync: bool = False
) -> list[TableRecord]:
    """Wait until every destination holds what the source has committed by now. Return the records of these tables.

    With `resync` the tables are copied again first. `NotReplicated` when the pipeline is paused, which this never changes,
    or when a table is set aside. `NotCaughtUp` after `timeout` seconds.
    """
    wait = _Wait(store, name, tables, timeout)
    config = store.pipeline(name)
    if resync:
        refuse_paused(store.state(name))
        _refuse_paused_tables(name, [record for record in store.tables(name) if record.id in tables])
        for table in tables:
            store.ask_resync(name, table)
    _wait_until_confirmed(wait, config)
    # An attached partition, or a name that another table got, is in no stream: the run compares the catalog.
    inspection = store.request_inspection(name)
    while not (reading := wait.read()).is_caught_up(inspection):
        time.sleep(POLL_INTERVAL)
    return reading.tables


def refuse_paused(state: PipelineState) -> None:
    """Raise `NotReplicated` when the pipeline is paused."""
    if state.status is Status.PAUSE:
        raise NotReplicated(
            f"Pipeline {state.name} is paused, so its tables do not change.",
            f"Start it: rosetta start {state.name}",
        )


class _Wait:
    """Waits for tables of one pipeline, until a deadline."""

    def __init__(self, store: Store, name: str, tables: Collection[TableId], timeout: float) -> None:
        self._store = store
        self._name = name
        self._tables = frozenset(tables)
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    def read(self) -> _Reading:
        """Return the rows as they are now. Raise when waiting longer is useless, or the time is over."""
        state = self._store.state(self._name)
        found = [record for record in self._store.tables(self._name) if record.id in self._tables]
        refuse_paused(state)
        self._refuse_missing(found)
        _refuse_paused_tables(self._name, found)
        _refuse_set_aside(self._name, found)
        self._refuse_late(state)
        return _Reading(state, found)

    def _refuse_missing(self, found: Collection[TableRecord]) -> None:
        if missing := self._tables - {record.id for record in found}:
            raise NotReplicated(
                f"These are no longer in pipeline {self._name}: {', '.join(sorted(map(str, missing)))}.",
                "Reload the code location in Dagster.",
            )

    def _refuse_late(self, state: PipelineState) -> None:
        left = self._deadline - time.monotonic()
        waits = state.run_status is RunStatus.FAILED and (state.seconds_until_due or 0.0) > left
        if left < 0 or waits:
            reason = obstacle(state) or "It runs, and is behind its source or copies a table."
            raise NotCaughtUp(
                f"{_listed(self._tables)} of pipeline {self._name} cannot catch up with the source within "
                f"{self._timeout:,.0f} seconds. {reason}",
                f"rosetta status {self._name} says more. If it is only behind, give the run a longer timeout_seconds.",
            )


def _wait_until_confirmed(wait: _Wait, config: PipelineConfig) -> None:
    """Write a message into the WAL, and wait until the slot has confirmed it.

    A slot confirms an LSN when all changes before it are durable at every destination. Without the message, an idle stream
    would confirm nothing until its next heartbeat.
    """
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        wait.read()
        written = emit_message(connection, config.slot_name)
        while True:
            slot = slot_reading(connection, config.slot_name)
            if slot is not None and slot.confirmed_flush_lsn is not None and slot.confirmed_flush_lsn >= written:
                return
            wait.read()
            time.sleep(POLL_INTERVAL)


def _refuse_paused_tables(name: str, found: Collection[TableRecord]) -> None:
    for record in found:
        if record.state is TableState.PAUSED:
            raise NotReplicated(
                f"Table {record.id} of pipeline {name} is paused.", f"Resume it: rosetta table resume {name} {record.id}"
            )


def _refuse_set_aside(name: str, found: Collection[TableRecord]) -> None:
    for record in found:
        if record.state is TableState.ERROR and not record.resync:
            reason = with_resync_remedy(str(record.error), name, record.id)
            raise NotReplicated(f"Table {record.id} of pipeline {name} is set aside: {reason}", "")


def _streams(record: TableRecord) -> bool:
    return record.state is TableState.STREAMING and not record.resync


def _listed(tables: Collection[TableId]) -> str:
    shown = sorted(map(str, tables))
    more = f" and {len(shown) - 3:,} more" if len(shown) > 3 else ""
    return f"Table {shown[0]}" if len(shown) == 1 else f"Tables {', '.join(shown[:3])}{more}"
