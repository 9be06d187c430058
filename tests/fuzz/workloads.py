"""Strategies for what happens to tables: statements of several sessions that overlap, and how runs of the pipeline end.

Left out on purpose, since LIMITATIONS.md says so: columns that are dropped, renamed, or get another type while the stream
runs; a default for an added column (`WITH_DEFAULTS`); a column added while tables are copied; another REPLICA IDENTITY while
changes wait. Left out by `types` and `names`: what Debezium is known to refuse.
"""

import os
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

from hypothesis import strategies as st

from rosetta_dagster.cdc.position import Engine

from .names import names
from .tables import Column, Table, namespace_of, rows, tables, value
from .types import types

#: Whether added columns may have a constant default.
WITH_DEFAULTS: Final = bool(os.environ.get("FUZZ_DEFAULTS"))

SESSION_COUNT: Final = 3

#: What happens, as often as it stands here.
_KINDS: Final = (
    *["update"] * 30, *["insert"] * 17, *["end"] * 12, *["delete"] * 10, *["copy"] * 8, *["savepoint"] * 8,
    *["restart"] * 7, *["truncate"] * 5, *["add column"] * 3,
)  # fmt: skip

Row: TypeAlias = dict[str, str | None]


class Ending(StrEnum):
    """How a run of the pipeline ends."""

    STOP = "STOP"
    #: Its connections are ended by the server.
    CUT = "CUT"
    #: kill -9 of its process.
    KILL = "KILL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    session: int
    table: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """New values for some rows; a row without entries is changed to what it is."""

    session: int
    table: int
    row: Row
    count: int
    skip: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    session: int
    table: int
    count: int
    skip: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyIn:
    """COPY of many rows: each is the row with its first column, an integer, counted up from `first`; else all are equal."""

    session: int
    table: int
    row: Row
    first: int | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    session: int
    tables: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddColumn:
    table: int
    column: Column
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """COMMIT, ROLLBACK, or a savepoint."""

    session: int
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The run ends so many milliseconds later, and the next one begins with this engine."""

    ending: Ending
    engine: Engine
    delay: int


Act: TypeAlias = Insert | Update | Delete | CopyIn | Truncate | AddColumn | Control | Restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One example: tables, the rows that they have before the first run, and what happens then."""

    number: int
    engine: Engine
    tables: tuple[Table, ...]
    first: tuple[Insert, ...]
    acts: tuple[Act, ...]
    #: How many changes are a batch; None: as many as in production.
    change_limit: int | None = None
    #: Whether the slot moves.
    is_confirmed: bool = True

    @property
    def engines(self) -> set[Engine]:
        return {self.engine, *(act.engine for act in self.acts if isinstance(act, Restart))}


@st.composite
def workloads(draw: st.DrawFn, number: int, engine: Engine | None) -> Workload:
    """A workload of this number; of both engines when none is named."""
    choices = (engine,) if engine else draw(st.sampled_from([(Engine.PGOUTPUT,)] * 5 + [(Engine.DEBEZIUM,), tuple(Engine)]))
    for_debezium = Engine.DEBEZIUM in choices
    # With the number before it, a name with quotes in it is one that Debezium cannot read.
    named = names(for_debezium=for_debezium).filter(lambda name: '"' not in name or not for_debezium)
    namespaces = [namespace_of(number, place, draw(named)) for place in range(2)]
    count = draw(st.integers(1, 3))
    made = draw(
        st.lists(
            st.sampled_from(namespaces).flatmap(lambda each: tables(namespace=each, for_debezium=for_debezium)),
            min_size=count,
            max_size=count,
            unique_by=lambda table: table.id,
        )
    )
    script = _Script(list(made), draw, choices, for_debezium=for_debezium)
    first = tuple(script.insert(0, draw(st.integers(0, len(made) - 1))) for _ in range(draw(st.integers(0, 4))))
    return Workload(
        number=number,
        engine=draw(st.sampled_from(choices)),
        tables=tuple(made),
        first=first,
        acts=tuple(script.acts(draw(st.integers(3, 40)))),
        change_limit=draw(st.sampled_from([None, None, 3, 20])),
        is_confirmed=draw(st.sampled_from([True, True, False])),
    )


class _Script:
    """Writes the acts; knows what columns a table has by then, and which sessions are in a transaction."""

    def __init__(self, made: list[Table], draw: st.DrawFn, engines: tuple[Engine, ...], *, for_debezium: bool) -> None:
        self._tables = made
        self._draw = draw
        self._engines = engines
        self._for_debezium = for_debezium
        self._open: set[int] = set()
        #: Sessions that have set a savepoint.
        self._saved: set[int] = set()
        self._copied = 0

    def acts(self, count: int) -> list[Act]:
        acts: list[Act] = []
        while len(acts) < count:
            acts += self._next()
        return acts

    def insert(self, session: int, table: int) -> Insert:
        found = self._draw(st.lists(rows(self._tables[table]), min_size=1, max_size=4))
        return Insert(session=session, table=table, rows=tuple(found))

    def _next(self) -> list[Act]:
        session = self._draw(st.integers(0, SESSION_COUNT - 1))
        table = self._draw(st.integers(0, len(self._tables) - 1))
        kind = self._draw(st.sampled_from(_KINDS))
        if kind == "end":
            return self._end(session) if session in self._open else []
        if kind == "restart":
            return [self._restart()]
        if kind in {"truncate", "add column"}:
            return [*self._end_all(), *(self._truncate(session) if kind == "truncate" else [self._add_column(table)])]
        self._open.add(session)
        return [self._savepoint(session) if kind == "savepoint" else self._write(kind, session, table)]

    def _write(self, kind: str, session: int, table: int) -> Act:
        if kind == "copy":
            return self._copy(session, table)
        if kind == "insert" or not self._tables[table].may_change:
            return self.insert(session, table)
        if kind == "delete":
            return Delete(session=session, table=table, count=self._few(), skip=self._few())
        return self._update(session, table)

    def _few(self) -> int:
        return self._draw(st.sampled_from([0, 1, 1, 1, 2, 5, 100]))

    def _savepoint(self, session: int) -> Act:
        if session not in self._saved:
            self._saved.add(session)
            return Control(session=session, sql="SAVEPOINT saved")
        return Control(session=session, sql=self._draw(st.sampled_from(["ROLLBACK TO saved", "SAVEPOINT saved"])))

    def _end(self, session: int) -> list[Act]:
        self._open.discard(session)
        self._saved.discard(session)
        return [Control(session=session, sql=self._draw(st.sampled_from(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"])))]

    def _end_all(self) -> list[Act]:
        return [act for session in sorted(self._open) for act in self._end(session)]

    def _restart(self) -> Restart:
        return Restart(
            ending=self._draw(st.sampled_from([Ending.STOP] * 4 + [Ending.CUT] * 3 + [Ending.KILL])),
            engine=self._draw(st.sampled_from(self._engines)),
            delay=self._draw(st.sampled_from([0, 0, 5, 20, 60, 200])),
        )

    def _add_column(self, table: int) -> AddColumn:
        taken = {column.name for column in self._tables[table].columns}
        name = self._draw(names(for_debezium=self._for_debezium).filter(lambda found: found not in taken))
        column = Column(name=name, type=self._draw(st.sampled_from(types(for_debezium=self._for_debezium))))
        self._tables[table] = self._tables[table].with_column(column)
        default = self._draw(value(column, may_be_null=True, has_large=False)) if WITH_DEFAULTS else None
        return AddColumn(table=table, column=column, default=default)

    def _truncate(self, session: int) -> list[Act]:
        """Others have to wait for a transaction with a TRUNCATE, so it often ends at once."""
        self._open.add(session)
        indexes = st.lists(st.integers(0, len(self._tables) - 1), min_size=1, unique=True)
        act = Truncate(session=session, tables=tuple(self._draw(indexes)))
        return [act, *(self._end(session) if self._draw(st.integers(0, 2)) else [])]

    def _copy(self, session: int, table: int) -> Act:
        first = self._tables[table].columns[0]
        is_counted = first.type.sql in {"integer", "bigint", "numeric", "text", "oid", "types.whole"}
        row = self._draw(rows(self._tables[table], has_large=False))
        count = self._draw(st.sampled_from([1, 5, 30, 300]))
        if not is_counted and self._tables[table].key:
            count = 1
        self._copied += 1000
        return CopyIn(
            session=session, table=table, row=row, first=10_000 + self._copied if is_counted else None, count=count
        )

    def _update(self, session: int, table: int) -> Update:
        columns = self._tables[table].columns
        chosen = self._draw(st.lists(st.sampled_from(columns), max_size=3, unique_by=lambda column: column.name))
        key = set(self._tables[table].key)
        row = {c.name: self._draw(value(c, may_be_null=c.name not in key)) for c in chosen}
        count = 1 if key & set(row) else self._few()
        return Update(session=session, table=table, row=row, count=count, skip=self._few())


def without_column(workload: Workload, table: int, name: str) -> Workload:
    """The workload whose table lacks a column."""
    changed = replace(
        workload.tables[table], columns=tuple(c for c in workload.tables[table].columns if c.name != name), generated=""
    )
    return replace(workload, tables=tuple(changed if n == table else each for n, each in enumerate(workload.tables)))
