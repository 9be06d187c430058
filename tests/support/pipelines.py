"""Pipelines between real databases: a run in this process, and what a test waits for."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig, TableConfig
from rosetta_dagster.cdc.errors import TransientError
from rosetta_dagster.cdc.report import Phase
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.testing import digest
from tests.support.database import Database, current_lsn, digest_of, digest_or_none
from tests.support.waiting import TIMEOUT


def pipeline(engine: Engine, source: Database, destinations: Sequence[Database], *tables: str | TableId) -> PipelineConfig:
    """A pipeline of these tables whose slot no other test has."""
    database = source.connection.database
    return PipelineConfig(
        id=1,
        name=database,
        engine=engine,
        source=SourceConfig(name="the_source", connection=source.connection),
        destinations=tuple(
            DestinationConfig(name=f"replica_{n}", type="POSTGRES", config=each.config)
            for n, each in enumerate(destinations)
        ),
        tables=tuple(TableConfig(id=TableId.parse(each) if isinstance(each, str) else each) for each in tables),
    )


@contextmanager
def running(config: PipelineConfig) -> Iterator[Worker]:
    """A run of the pipeline. At the end it stops, has not failed, and leaves nobody on the slot."""
    worker = Worker(config)
    worker.start()
    try:
        yield worker
    finally:
        has_ended = worker.stop(TIMEOUT)
    assert has_ended, "the run did not stop"
    assert worker.wait(0)
    assert_no_walsender(config)


def assert_no_walsender(config: PipelineConfig) -> None:
    """The server takes a moment to notice that the connection is closed."""
    deadline = time.monotonic() + 20
    while walsenders(config):
        assert time.monotonic() < deadline, "somebody still streams"
        time.sleep(0.02)


def walsenders(config: PipelineConfig) -> list[tuple[Any, ...]]:
    """Who streams from the pipeline's slots, or from its source at all."""
    with psycopg.connect(config.source.connection.conninfo()) as connection:
        return connection.execute(
            "SELECT pid, application_name FROM pg_stat_activity"
            " WHERE backend_type = 'walsender' AND datname = current_database()"
            " UNION SELECT active_pid, slot_name FROM pg_replication_slots WHERE database = current_database() AND active"
        ).fetchall()


def wait_until(
    worker: Worker, condition: Callable[[], bool], explain: Callable[[], object] = lambda: "it did not happen in time"
) -> None:
    """Poll while the run goes on; what ends the run is raised."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, explain()
        assert not worker.wait(0.05), "the run ended before"


def wait_until_equal(worker: Worker, source: Database, destination: Database, *tables: str | TableId) -> None:
    """Wait until the destination holds what the source holds now."""
    ids = [TableId.parse(each) if isinstance(each, str) else each for each in tables]
    with source.connect() as reader:
        expected = {table: digest(reader, table) for table in ids}
    with destination.connect() as reader:

        def different() -> list[str]:
            states = worker.report().states
            return [f"{table}: {states.get(table)}" for table in ids if digest_or_none(reader, table) != expected[table]]

        wait_until(worker, lambda: not different(), different)


def replicate(config: PipelineConfig, source: Database, *destinations: Database) -> None:
    """Run the pipeline until every destination equals the source, and it streams: empty tables are equal before."""
    with running(config) as worker:
        for destination in destinations:
            wait_until_equal(worker, source, destination, *(table.id for table in config.tables))
        wait_until(worker, lambda: is_streaming(worker))


def failure(config: PipelineConfig) -> None:
    """Run the pipeline until it fails, and raise that."""
    worker = Worker(config)
    worker.start()
    try:
        assert worker.wait(TIMEOUT), "the run did not end"
    finally:
        assert worker.stop(TIMEOUT)
        assert_no_walsender(config)


def confirmed_lsn(source: Database, config: PipelineConfig) -> Lsn:
    rows = source.rows(f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{config.slot_name}'")
    return Lsn.parse(rows[0][0])


def is_streaming(worker: Worker) -> bool:
    return worker.report().phase is Phase.STREAMING


def follow(engine: Engine, source: Database, destination: Database, tables: Sequence[str | TableId], *changes: str) -> None:
    """Copy the tables, let the changes follow, and start once more: nothing may be done twice."""
    config = pipeline(engine, source, [destination], *tables)
    with running(config) as worker:
        wait_until_equal(worker, source, destination, *tables)
        wait_until(worker, lambda: is_streaming(worker))
        before = [digest_of(source, table) for table in tables]
        source.run(*changes)
        assert all(old != digest_of(source, table) for old, table in zip(before, tables, strict=True)), "nothing changed"
        wait_until_equal(worker, source, destination, *tables)
    with running(config) as worker:
        wait_until(worker, lambda: is_streaming(worker))
        written = current_lsn(source)
        wait_until(worker, lambda: (worker.report().applied_lsn or 0) >= written)
        wait_until_equal(worker, source, destination, *tables)


def started(config: PipelineConfig) -> Worker:
    worker = Worker(config)
    worker.start()
    return worker


def end_of(worker: Worker) -> TransientError:
    """What ends the run; it leaves no thread behind."""
    with pytest.raises(TransientError) as caught:
        assert worker.wait(TIMEOUT), "the run did not end"
    assert worker.stop(0)
    return caught.value


def reader_of_slot(source: Database, config: PipelineConfig) -> int | None:
    rows = source.rows(f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{config.slot_name}'")
    pid: int | None = rows[0][0] if rows else None
    return pid
