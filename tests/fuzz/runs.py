"""Runs of one pipeline in a row: each ends as the workload says, and the last one has to catch up."""

import subprocess
import time
from typing import Final

from rosetta_dagster.cdc.config import DestinationConfig, PipelineConfig, SourceConfig, TableConfig
from rosetta_dagster.cdc.errors import RosettaError, Unexpected
from rosetta_dagster.cdc.position import Engine, Lsn
from rosetta_dagster.cdc.report import Phase
from rosetta_dagster.cdc.source.heartbeat import MESSAGE_PREFIX
from rosetta_dagster.cdc.worker import Worker
from tests.conftest import Database

from .limits import set_limits
from .stage import Stage, end
from .workloads import Ending, Workload

#: Seconds until a run has copied, caught up, or ended, on a machine that is busy.
PATIENCE: Final = 60.0

_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND (backend_type = 'walsender' OR application_name LIKE '%rosetta%' OR application_name ILIKE '%debezium%')
"""


class Failure(Exception):
    """What a workload shows to be wrong; the kind stays the same when the workload is made smaller."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Runs:
    """The runs of one workload's pipeline. Owns the run that goes on: a thread, or a process that is to be killed."""

    def __init__(self, stage: Stage, workload: Workload) -> None:
        self._stage = stage
        self._workload = workload
        self._source = stage.source(workload.engines)
        stage.count += 1
        self._name = f"fuzz_{stage.count}"
        self._worker: Worker | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def config(self, engine: Engine) -> PipelineConfig:
        return PipelineConfig(
            id=1,
            name=self._name,
            engine=engine,
            source=SourceConfig(name="the_source", connection=self._source.connection),
            destinations=(DestinationConfig(name="replica", type="POSTGRES", config=self._stage.destination.config),),
            tables=tuple(TableConfig(id=table.id) for table in self._workload.tables),
        )

    def start(self, engine: Engine, ending: Ending) -> None:
        """Begin a run that is to end like this."""
        config, limit, is_confirmed = self.config(engine), self._workload.change_limit, self._workload.is_confirmed
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

    def end(self, ending: Ending) -> None:
        """End the run in this way."""
        if self._process is not None:
            end(self._process)
            self._process = None
        if self._worker is None:
            return
        if ending is Ending.CUT:
            self._cut()
        if not self._worker.stop(PATIENCE):
            raise Failure("stop", f"the run did not end within {PATIENCE:.0f} seconds")
        self._look(may_be_cut=ending is Ending.CUT)
        self._worker = None

    def is_starting(self) -> bool:
        """Whether the run may wait for transactions of others: for a lock, or for the end of all to make a slot."""
        return self._worker is not None and self._worker.report().phase is not Phase.STREAMING

    def is_copied(self) -> bool:
        """Whether the destination holds every table's copy. What ended the run before is raised."""
        self._look()
        if self._stage.destination.rows("SELECT to_regclass('rosetta.copies')") == [(None,)]:
            return False
        found = self._stage.destination.rows(
            f"SELECT count(*) FROM rosetta.copies WHERE pipeline = '{self._name}' AND finished_at IS NOT NULL"
        )
        return found == [(len(self._workload.tables),)]

    def wait_until_copied(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.is_copied():
            if time.monotonic() > deadline:
                raise Failure("late", f"the tables were not copied within {PATIENCE:.0f} seconds")
            time.sleep(0.01)

    def catch_up(self) -> None:
        """Wait until the run has applied all that is committed now."""
        assert self._worker is not None, "the last run is a thread"
        prefix = f"{MESSAGE_PREFIX}{self.config(self._workload.engine).slot_name}"
        marker = Lsn.parse(self._source.rows(f"SELECT pg_logical_emit_message(true, '{prefix}', '')::text")[0][0])
        deadline = time.monotonic() + PATIENCE
        while (self._worker.report().applied_lsn or 0) < marker:
            self._look()
            if time.monotonic() > deadline:
                raise Failure("late", f"the run did not catch up within {PATIENCE:.0f} seconds")
            time.sleep(0.005)

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
        if self._stage.destination.rows("SELECT to_regclass('rosetta.copies')") != [(None,)]:
            self._stage.destination.run(f"DELETE FROM rosetta.streams WHERE pipeline = '{self._name}'")

    def _cut(self) -> None:
        """The server ends the run's connections, first or last those of the destination."""
        assert self._worker is not None
        databases = [self._source, self._stage.destination]
        for database in databases if self._workload.number % 2 else reversed(databases):
            database.run(_CUT)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                if self._worker.wait(0.01):
                    return
            except RosettaError:
                return

    def _look(self, *, may_be_cut: bool = False) -> None:
        """Raise what has ended the run, unless it is the loss of its connections."""
        if self._worker is None:
            if self._process is not None and self._process.poll() is not None:
                raise Failure("process", f"the worker's process ended with {self._process.returncode}")
            return
        try:
            self._worker.wait(0)
        except RosettaError as error:
            if not may_be_cut or not error.transient or isinstance(error, Unexpected):
                raise Failure(type(error).__name__, str(error)) from error


def _with_password(config: PipelineConfig, source: Database) -> dict[str, object]:
    password = source.connection.password
    assert password is not None
    values = config.model_dump(mode="json")
    values["source"]["connection"]["password"] = password.get_secret_value()
    return dict(values)
