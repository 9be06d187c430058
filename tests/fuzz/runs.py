"""Runs of one pipeline in a row: each ends as the workload says, and the last one has to catch up."""

import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig, TableConfig, TableState
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import RosettaError, Unexpected
from rosetta_dagster.cdc.report import Phase
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.source.heartbeat import MESSAGE_PREFIX
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database

from .limits import set_limits
from .stage import Stage, end
from .workloads import Ending, Workload

#: Seconds until a run has copied, caught up, or ended, on a machine that is busy.
PATIENCE: Final = 60.0

#: Seconds after which a run that does not end is taken for one that waits: for a lock, when Debezium reads columns.
_WAITS_FOR_OTHERS: Final = 5.0

#: How often a run is begun again that ends by itself.
_ATTEMPTS: Final = 5

_SETTLED: Final = (TableState.STREAMING, TableState.ERROR)

_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND (backend_type = 'walsender' OR application_name LIKE '%rosetta%' OR application_name ILIKE '%debezium%')
"""


_COPIED = """
SELECT table_schema, table_name FROM rosetta.copies
WHERE pipeline = '{}' AND (finished_at IS NOT NULL OR set_aside_at IS NOT NULL)
"""


class Failure(Exception):
    """What a workload shows to be wrong; the kind stays the same when the workload is made smaller."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Runs:
    """The runs of one workload's pipeline. Owns the run that goes on: a thread, or a process that is to be killed."""

    def __init__(self, stage: Stage, workload: Workload, *, only: Engine | None = None, place: int = 0) -> None:
        """The workload's engines, or only this one; into the stage's destination at this place."""
        self._stage = stage
        self._workload = workload
        self._only = only
        self._source = stage.source(workload.engines)
        self.destination = stage.destinations[place]
        stage.count += 1
        self._name = f"fuzz_{stage.count}"
        #: The tables that the run has, and its engine.
        self.tables: tuple[int, ...] = ()
        self._engine = workload.engine
        self._attempts = 0
        self._worker: Worker | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def config(self, engine: Engine) -> PipelineConfig:
        return PipelineConfig(
            id=1,
            name=self._name,
            engine=engine,
            source=SourceConfig(name="the_source", connection=self._source.connection),
            destinations=(DestinationConfig(name="replica", type="POSTGRES", config=self.destination.config),),
            tables=tuple(TableConfig(id=table) for table in (self._workload.anchor, *self._ids(self.tables))),
        )

    def _ids(self, indexes: Iterable[int]) -> list[TableId]:
        return [self._workload.tables[index].id for index in indexes]

    def forget(self, tables: Iterable[int]) -> None:
        """Let the next run copy these tables anew; none goes on."""
        config = self.config(self._engine)
        make_destination(config.destinations[0], config).forget(self._ids(tables))

    def again(self, tables: Iterable[int], *, forgotten: Iterable[int] = ()) -> None:
        """End the run, and begin one with these tables, some copied anew."""
        self.end(Ending.STOP)
        self.forget(forgotten)
        self.start(self._engine, Ending.STOP, tables)

    def errors(self) -> dict[int, str]:
        """The tables that are set aside, and why, as the run reports it."""
        if self._worker is None:
            return {}
        states = self._worker.report().states
        numbers = {table.id: number for number, table in enumerate(self._workload.tables)}
        return {numbers[table]: reason or "" for table, (state, reason) in states.items() if state is TableState.ERROR}

    def start(self, engine: Engine, ending: Ending, tables: Iterable[int]) -> None:
        """Begin a run of these tables that is to end like this."""
        self.tables, self._engine, self._attempts = tuple(tables), self._only or engine, 0
        config, limit, is_confirmed = self.config(self._engine), self._workload.change_limit, self._workload.is_confirmed
        if ending is Ending.KILL:
            given: dict[str, object] = {
                "config": _with_password(config, self._source),
                "change_limit": limit,
                "is_confirmed": is_confirmed,
            }
            self._process = self._stage.process(given)
            return
        set_limits(limit, is_confirmed=is_confirmed)
        self._worker = Worker(config)
        self._worker.start()

    def end(self, ending: Ending, unblock: Callable[[], None] = lambda: None) -> None:
        """End the run in this way. `unblock` ends the transactions of others, for one of which it may wait."""
        if self._process is not None:
            end(self._process)
            self._process = None
        if self._worker is None:
            return
        if ending is Ending.CUT:
            self._cut()
        if not self._worker.stop(_WAITS_FOR_OTHERS):
            unblock()
        if not self._worker.stop(PATIENCE):
            raise Failure("stop", f"the run did not end within {PATIENCE:.0f} seconds")
        self._look()
        self._worker = None

    def is_starting(self) -> bool:
        """Whether the run may wait for transactions of others: for a lock, or for the end of all to make a slot."""
        return self._worker is not None and self._worker.report().phase is not Phase.STREAMING

    @property
    def is_process(self) -> bool:
        """Whether the run is one that is to be killed: it tells nothing of itself."""
        return self._process is not None

    def await_copies(self) -> None:
        """Wait until the run's tables are copied, or set aside, by what the destination says."""
        tables, deadline = set(self._ids(self.tables)), time.monotonic() + PATIENCE
        while not self._copied().issuperset(tables):
            self._look()
            if self._process is None:
                self._try_again()
            if time.monotonic() > deadline:
                raise Failure("late", f"the tables were not copied within {PATIENCE:.0f} seconds")
            time.sleep(0.02)

    def _copied(self) -> set[tuple[str, str]]:
        if self.destination.rows("SELECT to_regclass('rosetta.copies')") == [(None,)]:
            return set()
        return set(self.destination.rows(_COPIED.format(self._name)))

    def catch_up(self) -> None:
        """Wait until the run has applied all that is committed now. Its tables are copied then, or set aside."""
        prefix = f"{MESSAGE_PREFIX}{self.config(self._workload.engine).slot_name}"
        marker = Lsn.parse(self._source.rows(f"SELECT pg_logical_emit_message(true, '{prefix}', '')::text")[0][0])
        deadline = time.monotonic() + PATIENCE
        while not self._is_at(marker):
            self._look()
            self._try_again()
            if time.monotonic() > deadline:
                raise Failure("late", f"the run did not catch up within {PATIENCE:.0f} seconds")
            time.sleep(0.005)

    def _is_at(self, marker: Lsn) -> bool:
        assert self._worker is not None, "the last run is a thread"
        report = self._worker.report()
        states = {table: state for table, (state, _) in report.states.items()}
        is_settled = all(states.get(table) in _SETTLED for table in self._ids(self.tables))
        return is_settled and (report.applied_lsn or 0) >= marker

    def _try_again(self) -> None:
        """Repeat what passes with time in a new attempt, as under Dagster."""
        assert self._worker is not None, "the last run is a thread"
        with suppress(RosettaError):
            if not self._worker.wait(0):
                return
        self._attempts += 1
        if self._attempts > _ATTEMPTS:
            raise Failure("attempts", f"the run ended {_ATTEMPTS} times")
        self._worker = Worker(self.config(self._engine))
        self._worker.start()

    def clean(self) -> None:
        """End what goes on, and remove what the pipeline has left at both ends."""
        if self._process is not None:
            end(self._process)
        if self._worker is not None:
            self._worker.stop(PATIENCE)
        slot = self.config(self._workload.engine).slot_name
        deadline = time.monotonic() + PATIENCE
        while self._source.rows(
            f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
        ):
            assert time.monotonic() < deadline, "somebody still streams"
            time.sleep(0.02)
        self._source.run(
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'",
            f"DROP PUBLICATION IF EXISTS {slot}",
        )
        if self.destination.rows("SELECT to_regclass('rosetta.copies')") != [(None,)]:
            self.destination.run(f"DELETE FROM rosetta.streams WHERE pipeline = '{self._name}'")

    def _cut(self) -> None:
        """The server ends the run's connections, first or last those of the destination."""
        assert self._worker is not None
        databases = [self._source, self.destination]
        for database in databases if self._workload.number % 2 else reversed(databases):
            database.run(_CUT)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                if self._worker.wait(0.01):
                    return
            except RosettaError:
                return

    def _look(self) -> None:
        """Raise what has ended the run, unless it passes with time."""
        if self._worker is None:
            if self._process is not None and self._process.poll() is not None:
                raise Failure("process", f"the worker's process ended with {self._process.returncode}")
            return
        try:
            self._worker.wait(0)
        except RosettaError as error:
            if not error.transient or isinstance(error, Unexpected):
                raise Failure(type(error).__name__, str(error)) from error


class Twins:
    """Two pipelines that do the same at the same time, one of each engine, each into a destination of its own."""

    def __init__(self, stage: Stage, workload: Workload) -> None:
        self._each = tuple(Runs(stage, workload, only=engine, place=place) for place, engine in enumerate(Engine))

    @property
    def tables(self) -> tuple[int, ...]:
        return self._each[0].tables

    def forget(self, tables: Iterable[int]) -> None:
        for runs in self._each:
            runs.forget(tables)

    def again(self, tables: Iterable[int], *, forgotten: Iterable[int] = ()) -> None:
        for runs in self._each:
            runs.again(tables, forgotten=forgotten)

    def errors(self) -> dict[int, str]:
        """The tables that are set aside by one of them, and why."""
        return {table: reason for runs in self._each for table, reason in runs.errors().items()}

    def start(self, engine: Engine, ending: Ending, tables: Iterable[int]) -> None:
        for runs in self._each:
            runs.start(engine, ending, tables)

    def end(self, ending: Ending, unblock: Callable[[], None] = lambda: None) -> None:
        for runs in self._each:
            runs.end(ending, unblock)

    def is_starting(self) -> bool:
        return any(runs.is_starting() for runs in self._each)

    @property
    def is_process(self) -> bool:
        return any(runs.is_process for runs in self._each)

    def await_copies(self) -> None:
        for runs in self._each:
            runs.await_copies()

    def catch_up(self) -> None:
        for runs in self._each:
            runs.catch_up()

    def clean(self) -> None:
        for runs in self._each:
            runs.clean()


def _with_password(config: PipelineConfig, source: Database) -> dict[str, object]:
    password = source.connection.password
    assert password is not None
    values = config.model_dump(mode="json")
    values["source"]["connection"]["password"] = password.get_secret_value()
    return dict(values)
