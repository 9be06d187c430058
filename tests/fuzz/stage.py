"""The servers and processes that many workloads share: databases with the types, and a process that waits to be killed."""

import json
import subprocess
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database

from .types import PGOUTPUT_TYPES, TYPES

#: Defaults that would change most text forms; and nothing that works on tables by itself, so that a seed repeats.
_SETTINGS: Final = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "timezone": "Asia/Kolkata",
    "autovacuum": "off",
}


class Stage:
    """One server with databases for sources and destinations; owns it, and a process that is ready to be a worker."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._spare: subprocess.Popen[bytes] | None = None
        #: How many workloads were begun: names of pipelines are made of it.
        self.count = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            server = stack.enter_context(EmbeddedPostgres(settings=_SETTINGS))
            self._sources = {
                is_shared: Database(url=server.create_database("shared" if is_shared else "pgoutput_only"))
                for is_shared in (True, False)
            }
            self.destinations = tuple(Database(url=server.create_database(name)) for name in ("destination", "other"))
            self._sources[True].run(TYPES)
            self._sources[False].run(TYPES, PGOUTPUT_TYPES)
            for destination in self.destinations:
                destination.run(TYPES, PGOUTPUT_TYPES)
            stack.callback(self._end_spare)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    @property
    def destination(self) -> Database:
        return self.destinations[0]

    def source(self, engines: set[Engine]) -> Database:
        """The database to replicate from with these engines."""
        return self._sources[Engine.DEBEZIUM in engines]

    def process(self, given: dict[str, object]) -> "subprocess.Popen[bytes]":
        """A process that runs a pipeline, with this for its input, until it is killed; the caller has to end it."""
        process, self._spare = self._spare or _worker_process(), _worker_process()
        assert process.stdin is not None
        process.stdin.write(json.dumps(given).encode() + b"\n")
        process.stdin.flush()
        return process

    def _end_spare(self) -> None:
        if self._spare is not None:
            end(self._spare)


def _worker_process() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tests.fuzz.killed_worker"], stdin=subprocess.PIPE)


def end(process: "subprocess.Popen[bytes]") -> None:
    """kill -9."""
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
