"""Runs a workload: its statements over sessions that overlap, beside the runs of its pipeline, and compares at the end."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from .comparison import difference
from .names import quoted
from .runs import Failure, Runs
from .stage import Stage
from .statements import copy_data, copy_statement, statement
from .tables import Table
from .workloads import SESSION_COUNT, Act, AddColumn, CopyIn, Ending, Restart, Workload

_SESSION = "SET lock_timeout = '50ms'; SET synchronous_commit = off; SET TimeZone = 'America/New_York'"


@dataclass(slots=True)
class Tally:
    """What the workloads were made of."""

    workloads: int = 0
    #: Rows that statements of the source have written.
    changes: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    #: Statements that the source itself refused, by SQLSTATE. They change nothing.
    refused: Counter[str] = field(default_factory=Counter)


def execute(stage: Stage, workload: Workload, tally: Tally) -> None:
    """Run the workload. `Failure` when the destination is not what the source is, or the pipeline failed."""
    runs = Runs(stage, workload)
    source = stage.source(workload.engines)
    with source.connect() as admin, _namespaces(stage, admin, workload), ExitStack() as stack:
        stack.callback(runs.clean)
        _make_tables(admin, workload)
        sessions = [stack.enter_context(_session(source.url)) for _ in range(SESSION_COUNT)]
        _Execution(runs, workload, sessions, admin, tally).run()
        with stage.destination.connect() as reader:
            _compare(admin, reader, workload)
    tally.workloads += 1


def _make_tables(admin: "psycopg.Connection[Any]", workload: Workload) -> None:
    for ddl in (ddl for table in workload.tables for ddl in table.ddl()):
        try:
            admin.execute(ddl)
        except psycopg.Error as error:
            raise Failure("ddl", f"the source refuses {ddl}: {error}") from error


def _compare(source: "psycopg.Connection[Any]", destination: "psycopg.Connection[Any]", workload: Workload) -> None:
    for connection in (source, destination):
        connection.execute("SET extra_float_digits = 1; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
    for table in workload.tables:
        found = difference(source, destination, table.id)
        if found:
            raise Failure("difference", f"table {table.sql}: {found}")


@contextmanager
def _session(url: str) -> Iterator["psycopg.Connection[Any]"]:
    connection = psycopg.connect(url)
    try:
        connection.execute(_SESSION)
        connection.commit()
        yield connection
    finally:
        connection.close()


@contextmanager
def _namespaces(stage: Stage, admin: "psycopg.Connection[Any]", workload: Workload) -> Iterator[None]:
    """The namespaces of the workload, at the source until the block ends; at the destination they go then, too."""
    each = [quoted(name) for name in sorted({table.id.namespace for table in workload.tables})]
    names = ", ".join(each)
    for name in each:
        admin.execute(f"CREATE SCHEMA {name}")
    try:
        yield
    finally:
        admin.execute(f"DROP SCHEMA IF EXISTS {names} CASCADE")
        stage.destination.run(f"DROP SCHEMA IF EXISTS {names} CASCADE")


class _Execution:
    """One workload on its way."""

    def __init__(
        self,
        runs: Runs,
        workload: Workload,
        sessions: "list[psycopg.Connection[Any]]",
        admin: "psycopg.Connection[Any]",
        tally: Tally,
    ) -> None:
        self._runs = runs
        self._workload = workload
        self._sessions = sessions
        self._admin = admin
        self._tally = tally
        self._tables: list[Table] = list(workload.tables)

    def run(self) -> None:
        for insert in self._workload.first:
            self._execute(insert)
        self._commit_all()
        endings = [act.ending for act in self._workload.acts if isinstance(act, Restart)]
        self._runs.start(self._workload.engine, (*endings, Ending.STOP)[0])
        for act in self._workload.acts:
            self._tally.acts[type(act).__name__] += 1
            if isinstance(act, Restart):
                endings.pop(0)
                self._restart(act, (*endings, Ending.STOP)[0])
            elif isinstance(act, AddColumn):
                self._add_column(act)
            else:
                self._execute(act)
        self._commit_all()
        self._runs.catch_up()
        self._runs.end(Ending.STOP)

    def _restart(self, act: Restart, ending: Ending) -> None:
        time.sleep(act.delay / 1000)
        if self._runs.is_starting():
            # It cannot be stopped while it waits.
            self._commit_all()
        self._runs.end(act.ending)
        self._tally.endings[act.ending] += 1
        self._runs.start(act.engine, ending)

    def _add_column(self, act: AddColumn) -> None:
        self._commit_all()
        self._runs.wait_until_copied()
        self._refused_or(lambda: self._admin.execute(statement(act, self._tables)).rowcount, self._admin)
        self._tables[act.table] = self._tables[act.table].with_column(act.column)

    def _execute(self, act: Act) -> None:
        assert not isinstance(act, Restart | AddColumn)
        session = self._sessions[act.session]

        def done() -> int:
            if not isinstance(act, CopyIn):
                return session.execute(statement(act, self._tables)).rowcount
            table, cursor = self._tables[act.table], session.cursor()
            with cursor.copy(copy_statement(act, table)) as copy:
                copy.write(copy_data(act, table))
            return cursor.rowcount

        self._refused_or(done, session)

    def _refused_or(self, do: Any, session: "psycopg.Connection[Any]") -> None:
        """Do it; a statement that the source refuses ends its transaction."""
        try:
            self._tally.changes += max(0, do())
        except psycopg.Error as error:
            self._tally.refused[error.sqlstate or "?"] += 1
            if not session.autocommit:
                session.rollback()

    def _commit_all(self) -> None:
        for session in self._sessions:
            try:
                session.commit()
            except psycopg.Error as error:
                self._tally.refused[error.sqlstate or "?"] += 1
                session.rollback()
