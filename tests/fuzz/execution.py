"""Runs a workload: its statements over sessions that overlap, beside the runs of its pipeline, and compares at the end."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import psycopg

from tests.support.database import Database

from .alterations import AddColumn, DropColumn, may_be_set_aside
from .columns import Columns
from .comparison import difference
from .names import quoted
from .runs import Failure, Runs, Twins
from .stage import Stage
from .statements import copy_data, copy_statement, statement
from .surroundings import Around, around_statements
from .tables import Table, may_be_null
from .workloads import SESSION_COUNT, Act, Alter, CopyIn, Ending, Happen, Restart, Update, Workload

_SESSION = "SET lock_timeout = '50ms'; SET synchronous_commit = off; SET TimeZone = 'America/New_York'"


_PUBLICATIONS = """
SELECT pubname::text FROM pg_publication JOIN pg_publication_rel ON prpubid = pg_publication.oid
WHERE prrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) ORDER BY 1
"""


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
    #: Tables that were set aside, as they may be, and copied anew at the end.
    set_aside: int = 0


def execute(stage: Stage, workload: Workload, tally: Tally) -> None:
    """Run the workload. `Failure` when the destination is not what the source is, or the pipeline failed."""
    _execute(stage, workload, tally, Runs(stage, workload), stage.destinations[:1])


def execute_twice(stage: Stage, workload: Workload, tally: Tally) -> None:
    """Run the workload over both engines at once. `Failure` when the destinations differ from the source or each other."""
    # So that the engines have to tell what the copies would hold otherwise.
    workload = replace(workload, is_copied_first=True)
    _execute(stage, workload, tally, Twins(stage, workload), stage.destinations)


def _execute(stage: Stage, workload: Workload, tally: Tally, runs: Runs | Twins, destinations: Sequence[Database]) -> None:
    source = stage.source(workload.engines)
    with source.connect() as admin, _namespaces(stage, admin, workload), ExitStack() as stack:
        stack.callback(runs.clean)
        admin.execute("SET lock_timeout = '50ms'")
        admin.execute(f"CREATE TABLE {quoted(*workload.anchor)} (id integer PRIMARY KEY)")
        _make_tables(admin, workload)
        sessions = [stack.enter_context(_session(source.url)) for _ in range(SESSION_COUNT)]
        readers = [stack.enter_context(_reader(database)) for database in (source, *destinations)]
        _Execution(runs, workload, sessions, admin, readers=readers, tally=tally).run()
    tally.workloads += 1


def _make_tables(admin: "psycopg.Connection[Any]", workload: Workload) -> None:
    for ddl in (ddl for table in workload.tables for ddl in table.ddl()):
        try:
            admin.execute(ddl)
        except psycopg.Error as error:
            raise Failure("ddl", f"the source refuses {ddl}: {error}") from error


def _compare(readers: "Sequence[psycopg.Connection[Any]]", tables: Iterable[Table]) -> None:
    """Look at the source, by its first reader, and at each destination. `Failure` when they differ."""
    source, *destinations = readers
    for table in tables:
        found = [difference(source, destination, table.id) for destination in destinations]
        found += [difference(*pair, table.id, as_of=source) for pair in pairwise(destinations)]
        if any(found):
            told = [str(each or "no difference") for each in found]
            raise Failure("difference", f"table {table.sql}: {'; '.join(told)}")


@contextmanager
def _reader(database: Database) -> Iterator["psycopg.Connection[Any]"]:
    with database.connect() as connection:
        connection.execute("SET extra_float_digits = 1; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
        yield connection


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
        for destination in stage.destinations:
            destination.run(f"DROP SCHEMA IF EXISTS {names} CASCADE")


class _Execution:
    """One workload on its way."""

    def __init__(
        self,
        runs: Runs | Twins,
        workload: Workload,
        sessions: "list[psycopg.Connection[Any]]",
        admin: "psycopg.Connection[Any]",
        *,
        readers: "Sequence[psycopg.Connection[Any]]",
        tally: Tally,
    ) -> None:
        self._runs = runs
        self._workload = workload
        self._sessions = sessions
        self._admin = admin
        self._readers = readers
        self._tally = tally
        self._columns = Columns(admin, workload.tables)
        #: Tables whose columns changed and that took no last change, as when a column is left that may not be NULL.
        self._untouched: set[int] = set()

    def run(self) -> None:
        for insert in self._workload.first:
            self._execute(insert)
        self._commit_all()
        endings = [act.ending for act in self._workload.acts if isinstance(act, Restart)]
        self._runs.start(self._workload.engine, (*endings, Ending.STOP)[0], self._workload.begins_with)
        self._let_copy()
        for act in self._workload.acts:
            self._tally.acts[_name(act)] += 1
            if isinstance(act, Happen):
                self._happen(act)
            elif isinstance(act, Restart):
                endings.pop(0)
                self._restart(act, (*endings, Ending.STOP)[0])
            else:
                self._execute(act)
        self._commit_all()
        self._runs.catch_up()
        self._settle()
        self._runs.end(Ending.STOP)
        self._compare(range(len(self._workload.tables)))

    def _happen(self, act: Happen) -> None:
        """Let it happen when every session has ended its transaction, unless a copy holds the table."""
        self._commit_all()
        table = self._columns.now(self._admin)[act.table]
        publications = [quoted(name) for (name,) in self._admin.execute(_PUBLICATIONS, table.id)]

        def done() -> int:
            with self._admin.transaction():
                for each in around_statements(act.around, table, publications):
                    self._admin.execute(each)
            if act.around is Around.REPLACED:
                self._columns.replaced(self._admin, act.table, table)
            return 0

        self._refused_or(done, self._admin)

    def _restart(self, act: Restart, ending: Ending) -> None:
        time.sleep(act.delay / 1000)
        if self._runs.is_starting():
            # It cannot be stopped while it waits.
            self._commit_all()
        streamed = set(self._runs.tables)
        kept = streamed.intersection(act.tables).difference(act.forgotten)
        self._look_at(streamed - kept)
        self._errors()
        self._runs.end(act.ending, self._commit_all)
        self._tally.endings[act.ending] += 1
        self._runs.forget(act.forgotten)
        self._runs.start(act.engine, ending, act.tables)
        if kept != set(act.tables):
            self._let_copy()

    def _let_copy(self) -> None:
        """Wait for the copies, if the workload is one of those, so that what is written then has to come over the stream."""
        if self._workload.is_copied_first:
            # A copy begins when they have ended.
            self._commit_all()
            self._runs.await_copies()

    def _look_at(self, indexes: Collection[int]) -> None:
        """Compare these tables before a copy mends what the stream did to them; if the workload waited for it."""
        if not indexes or not self._workload.is_copied_first or self._runs.is_process:
            return
        # One that takes inserts only can be touched only once.
        touched = [index for index in indexes if self._workload.tables[index].may_change]
        self._commit_all()
        self._touch(touched)
        left_out = self._errors()
        left_out += [index for index in indexes if index not in touched and self._workload.alterations(index)]
        left_out += self._workload.surrounded
        self._compare(index for index in indexes if index not in left_out)

    def _compare(self, indexes: Iterable[int]) -> None:
        """Look at these tables at all ends. A table that took no last change may lack columns at a destination."""
        tables = [self._workload.tables[index] for index in indexes if index not in self._untouched]
        _compare(self._readers, tables)

    def _settle(self) -> None:
        """Let the pipeline have every table, each table a last change, and copy those anew that were set aside."""
        everything = range(len(self._workload.tables))
        if self._runs.tables != tuple(everything) or self._workload.surrounded:
            self._runs.again(everything)
        self._touch(everything)
        errors = self._errors()
        if errors:
            self._tally.set_aside += len(errors)
            self._runs.again(everything, forgotten=errors)
            self._touch(everything)
        if left := self._runs.errors():
            raise Failure("set aside again", str(left))

    def _errors(self) -> list[int]:
        """The tables that are set aside. `Failure` when LIMITATIONS.md does not say that they may be."""
        errors = self._runs.errors()
        for index, reason in errors.items():
            table = self._workload.tables[index]
            if index in self._workload.surrounded:
                continue
            if not reason or not may_be_set_aside(table, self._workload.alterations(index), reason):
                raise Failure("set aside", f"table {table.sql}: {reason}")
        return list(errors)

    def _touch(self, indexes: Iterable[int]) -> None:
        """A change of each of the tables: columns are followed with the next one."""
        for index in indexes:
            last, table = self._workload.last[index], self._workload.tables[index]
            needed = replace(
                last, rows=({mark: text for mark, text in last.rows[0].items() if self._is_needed(table, mark)},)
            )
            again = Update(session=0, table=index, row={}, count=1, skip=0)
            acts: tuple[Act, ...] = (last, again, needed) if table.may_change else (last, needed)
            self._untouched.discard(index)
            if not any(map(self._committed, acts)) and self._workload.alterations(index):
                self._untouched.add(index)
        self._runs.catch_up()

    def _committed(self, act: Act) -> int:
        """Do it and commit; how many rows were written."""
        written = self._execute(act)
        self._commit_all()
        return written

    def _is_needed(self, table: Table, mark: int) -> bool:
        return any(column.mark == mark and not may_be_null(table, column) for column in table.columns)

    def _execute(self, act: Act) -> int:
        """Do it; how many rows were written."""
        assert not isinstance(act, Restart | Happen)
        session = self._admin if act.session is None else self._sessions[act.session]

        def done() -> int:
            tables = self._columns.now(session)
            if _leaves_nothing(act, tables):
                raise LookupError
            if isinstance(act, CopyIn):
                return _copy_in(session, act, tables[act.table])
            written = session.execute(statement(act, tables)).rowcount
            if isinstance(act, Alter) and isinstance(act.change, AddColumn):
                self._columns.added(session, act.table, act.change.column)
            return written

        return self._refused_or(done, session)

    def _refused_or(self, do: Callable[[], int], session: "psycopg.Connection[Any]") -> int:
        """Do it; a statement that the source refuses ends its transaction."""
        try:
            written = max(0, do())
        except LookupError:
            self._tally.refused["no column"] += 1
            return 0
        except psycopg.Error as error:
            self._tally.refused[error.sqlstate or "?"] += 1
            if not session.autocommit:
                session.rollback()
            return 0
        self._tally.changes += written
        return written

    def _commit_all(self) -> None:
        for session in self._sessions:
            try:
                session.commit()
            except psycopg.Error as error:
                self._tally.refused[error.sqlstate or "?"] += 1
                session.rollback()


def _name(act: Act) -> str:
    if isinstance(act, Happen):
        return act.around
    return type(act.change if isinstance(act, Alter) else act).__name__


def _leaves_nothing(act: Act, tables: Sequence[Table]) -> bool:
    """Whether it drops the last column, since the source refused to add another one. LIMITATIONS.md says what that does."""
    return isinstance(act, Alter) and isinstance(act.change, DropColumn) and len(tables[act.table].columns) == 1


def _copy_in(session: "psycopg.Connection[Any]", act: CopyIn, table: Table) -> int:
    cursor = session.cursor()
    with cursor.copy(copy_statement(act, table)) as copy:
        copy.write(copy_data(act, table))
    return cursor.rowcount
