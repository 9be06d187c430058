"""Strategies for what happens to tables: statements of several sessions that overlap, and how runs of the pipeline end.

Left out on purpose, since LIMITATIONS.md says so: another primary key or REPLICA IDENTITY while changes wait. Left out by
`types` and `names`: what Debezium is known to refuse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final, TypeAlias

from hypothesis import strategies as st

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.table_id import TableId

from .alterations import (
    NARROWER,
    VOLATILE,
    WIDER,
    AddColumn,
    Alteration,
    ChangeType,
    DropColumn,
    DropNotNull,
    RenameColumn,
    SetDefault,
    SetNotNull,
    altered,
    constant,
)
from .names import names, told_apart
from .surroundings import Around, possible
from .tables import Column, Row, Table, may_be_null, namespace_of, rows, tables, value
from .types import types

SESSION_COUNT: Final = 3

#: What happens, as often as it stands here.
_KINDS: Final = (
    *["update"] * 40, *["insert"] * 17, *["end"] * 25, *["delete"] * 10, *["copy"] * 8, *["savepoint"] * 6,
    *["restart"] * 6, *["truncate"] * 2, *["alter"] * 9,
)  # fmt: skip

#: How columns change, as often as it stands here.
_ALTERATIONS: Final = (
    *["add"] * 6, *["rename"] * 4, *["widen"] * 4, *["drop"] * 3, *["swap"] * 2, *["chain"] * 2, *["drop and add"] * 1,
    *["nullable"] * 3, *["not null"] * 2, *["default"] * 2, *["narrow"] * 1, *["volatile"] * 1,
)  # fmt: skip


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
    """COPY of many rows: each is the row with one column, an integer, counted up from `first`; else all are equal."""

    session: int
    table: int
    row: Row
    first: int | None
    count: int
    #: The mark of the column that is counted up.
    counted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    session: int
    tables: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alter:
    """ALTER TABLE within the session's transaction; without a session at once, which others that hold the table prevent."""

    session: int | None
    table: int
    change: Alteration


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """COMMIT, ROLLBACK, or a savepoint."""

    session: int
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The run ends so many milliseconds later, and the next one begins with this engine and these tables."""

    ending: Ending
    engine: Engine
    delay: int
    tables: tuple[int, ...]
    #: Tables that are copied anew.
    forgotten: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Happen:
    """Something happens around the stream, at once and in one transaction."""

    table: int
    around: Around


Act: TypeAlias = Insert | Update | Delete | CopyIn | Truncate | Alter | Control | Happen | Restart


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
    #: Whether nothing is written while tables are copied. Else a copy may hold, or mend, what the stream has to bring.
    is_copied_first: bool
    #: The tables of the pipeline's first run.
    begins_with: tuple[int, ...]
    #: A row for each table, written when all has happened: columns are followed with the next change.
    last: tuple[Insert, ...]

    @property
    def engines(self) -> set[Engine]:
        return {self.engine, *(act.engine for act in self.acts if isinstance(act, Restart))}

    @property
    def anchor(self) -> TableId:
        """A table that the pipeline has always, so that it goes on when others are gone or set aside."""
        return TableId(self.tables[0].id.namespace, "the anchor")

    @property
    def surrounded(self) -> set[int]:
        """The tables that miss changes unless what happens around the stream is noticed."""
        return {act.table for act in self.acts if isinstance(act, Happen)}

    def alterations(self, table: int) -> list[Alteration]:
        return [act.change for act in self.acts if isinstance(act, Alter) and act.table == table]


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
    begins_with, acts = script.some_tables(), tuple(script.acts(draw(st.integers(10, 60))))
    return Workload(
        number=number,
        engine=draw(st.sampled_from(choices)),
        tables=tuple(made),
        first=first,
        acts=acts,
        begins_with=begins_with,
        last=tuple(script.insert(0, index) for index in range(count)),
        change_limit=draw(st.sampled_from([None, None, 3, 20])),
        is_confirmed=draw(st.sampled_from([True, True, False])),
        is_copied_first=draw(st.sampled_from([True, True, True, False])),
    )


@st.composite
def surrounded_workloads(draw: st.DrawFn, number: int, engine: Engine | None) -> Workload:
    """A workload of this number, with changes that no stream carries."""
    workload = draw(workloads(number, engine))
    happenings = [
        Happen(table=index, around=around) for index, table in enumerate(workload.tables) for around in possible(table)
    ]
    acts = list(workload.acts)
    for happening in draw(st.lists(st.sampled_from(happenings), min_size=1, max_size=4)) if happenings else ():
        acts.insert(draw(st.integers(0, len(acts))), happening)
    return replace(workload, acts=tuple(acts))


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
        #: How many columns each table has had.
        self._marks = [len(table.columns) for table in made]
        #: Names that columns have had.
        self._names = [{column.name for column in table.columns} for table in made]
        #: Columns whose values were cut; another type would hide it (LIMITATIONS.md).
        self._cut: set[tuple[int, int]] = set()
        #: Columns that have a wider type; at the destination it may stay when they are cut (LIMITATIONS.md).
        self._wide: set[tuple[int, int]] = set()

    def some_tables(self) -> tuple[int, ...]:
        """Mostly all of them."""
        everything = range(len(self._tables))
        if self._draw(st.integers(0, 3)):
            return tuple(everything)
        return tuple(sorted(self._draw(st.lists(st.sampled_from(everything), unique=True))))

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
        if kind == "truncate":
            return [*self._end_all(), *self._truncate(session)]
        if kind == "alter":
            return self._alter(session, table)
        self._open.add(session)
        return [self._savepoint(session) if kind == "savepoint" else self._write(kind, session, table)]

    def _write(self, kind: str, session: int, table: int) -> Act:
        if kind == "copy":
            return self._copy(session, table)
        if kind == "insert" or not self._tables[table].may_change:
            return self.insert(session, table)
        if kind == "delete":
            return Delete(session=session, table=table, count=self._few(), skip=self._skipped())
        return self._update(session, table)

    def _few(self) -> int:
        return self._draw(st.sampled_from([1, 1, 1, 2, 5, 100]))

    def _skipped(self) -> int:
        """Few: a statement that finds no row tells nothing."""
        return self._draw(st.sampled_from([0, 0, 0, 1, 2, 5]))

    def _savepoint(self, session: int) -> Act:
        if session not in self._saved:
            self._saved.add(session)
            return Control(session=session, sql="SAVEPOINT saved")
        return Control(session=session, sql=self._draw(st.sampled_from(["ROLLBACK TO saved", "SAVEPOINT saved"])))

    def _end(self, session: int) -> list[Act]:
        self._open.discard(session)
        self._saved.discard(session)
        return [Control(session=session, sql=self._draw(st.sampled_from([*["COMMIT"] * 5, "ROLLBACK"])))]

    def _end_all(self) -> list[Act]:
        return [act for session in sorted(self._open) for act in self._end(session)]

    def _restart(self) -> Restart:
        return Restart(
            ending=self._draw(st.sampled_from([Ending.STOP] * 4 + [Ending.CUT] * 3 + [Ending.KILL])),
            engine=self._draw(st.sampled_from(self._engines)),
            delay=self._draw(st.sampled_from([0, 0, 5, 20, 60, 200])),
            tables=self.some_tables(),
            forgotten=() if self._draw(st.integers(0, 3)) else self.some_tables(),
        )

    def _alter(self, session: int, table: int) -> list[Act]:
        """Changes of columns, in a session's own transaction or at once; others have mostly ended theirs before."""
        kind = self._draw(st.sampled_from(_ALTERATIONS))
        is_within = self._draw(st.integers(0, 2)) == 0
        before = self._end_all() if self._draw(st.integers(0, 2)) else []
        acts: list[Act] = []
        for change in self._changes(kind, table):
            acts.append(Alter(session=session if is_within else None, table=table, change=change))
            self._tables[table] = altered(self._tables[table], change)
            if self._draw(st.integers(0, 2)) == 0:
                writer = session if is_within else self._draw(st.integers(0, SESSION_COUNT - 1))
                acts.append(self._write(self._draw(st.sampled_from(["insert", "update", "delete"])), writer, table))
                self._open.add(writer)
                acts += [] if is_within else self._end(writer)
        if is_within:
            self._open.add(session)
            acts += self._end(session) if self._draw(st.integers(0, 3)) else []
        return [*before, *acts]

    def _changes(self, kind: str, table: int) -> Sequence[Alteration]:
        columns = self._tables[table].columns
        one = self._draw(st.sampled_from(columns))
        changes: dict[str, Callable[[], Sequence[Alteration]]] = {
            "add": lambda: [self._added(table)],
            "volatile": lambda: [self._added(table, is_volatile=True)],
            "rename": lambda: [self._renamed(table, one)],
            "widen": lambda: self._widened(table),
            "narrow": lambda: self._narrowed(table),
            "swap": lambda: self._swapped(table, one, is_swap=True),
            "chain": lambda: self._swapped(table, one, is_swap=False),
            "nullable": lambda: [DropNotNull(mark=column.mark) for column in columns if column.not_null][:1],
            "not null": lambda: [self._not_null(one)] if self._tables[table].may_change else [],
            "default": lambda: [self._default(one)],
            "drop": lambda: self._dropped(table, is_added=False),
            "drop and add": lambda: self._dropped(table, is_added=True),
        }
        return changes[kind]()

    def _swapped(self, table: int, one: Column, *, is_swap: bool) -> list[Alteration]:
        """Another column gets the name of this one, which gets the other's or a third."""
        others = [column for column in self._tables[table].columns if column is not one]
        if not others:
            return []
        other = self._draw(st.sampled_from(others))
        third = RenameColumn(mark=one.mark, name=other.name)
        return [self._renamed(table, one), RenameColumn(mark=other.mark, name=one.name), *([third] if is_swap else [])]

    def _default(self, column: Column) -> SetDefault:
        return SetDefault(mark=column.mark, default=self._draw(st.sampled_from([None, self._constant(column)])))

    def _not_null(self, column: Column) -> SetNotNull:
        return SetNotNull(mark=column.mark, value=self._constant(column))

    def _constant(self, column: Column) -> str:
        return constant(column, self._draw(value(column, may_be_null=False, has_large=False)))

    def _name(self, table: int) -> str:
        """A name that no column has; a column that is gone or has another one may have had it."""
        identity = partial(told_apart, for_debezium=self._for_debezium)
        taken = {identity(column.name) for column in self._tables[table].columns}
        former = sorted(name for name in self._names[table] if identity(name) not in taken)
        fresh = names(for_debezium=self._for_debezium).filter(lambda found: identity(found) not in taken)
        is_former = bool(former) and self._draw(st.integers(0, 3)) == 0
        name = self._draw(st.sampled_from(former) if is_former else fresh)
        self._names[table].add(name)
        return name

    def _renamed(self, table: int, column: Column) -> RenameColumn:
        return RenameColumn(mark=column.mark, name=self._name(table))

    def _added(self, table: int, *, is_volatile: bool = False, name: str | None = None) -> AddColumn:
        known = types(for_debezium=self._for_debezium)
        if is_volatile:
            known = tuple(each for each in known if each.sql in VOLATILE)
        chosen = self._draw(st.sampled_from(known))
        default = self._draw(value(Column(mark=0, name="", type=chosen), may_be_null=True, has_large=False))
        not_null = default is not None and self._draw(st.integers(0, 2)) == 0
        column = Column(
            mark=self._marks[table],
            name=self._name(table) if name is None else name,
            type=chosen,
            not_null=not_null,
        )
        self._marks[table] += 1
        if is_volatile:
            return AddColumn(column=column, default=VOLATILE[chosen.sql])
        return AddColumn(column=column, default=None if default is None else constant(column, default))

    def _widened(self, table: int) -> list[Alteration]:
        by_sql = {each.sql: each for each in types(for_debezium=self._for_debezium)}
        found = [
            ChangeType(mark=column.mark, type=by_sql[wider])
            for column in self._tables[table].columns
            if (table, column.mark) not in self._cut
            for wider in WIDER.get(column.type.sql, ())
            if wider in by_sql
        ]
        if not found:
            return []
        chosen = self._draw(st.sampled_from(found))
        self._wide.add((table, chosen.mark))
        return [chosen]

    def _narrowed(self, table: int) -> list[Alteration]:
        by_sql = {each.sql: each for each in types(for_debezium=self._for_debezium)}
        found = [
            ChangeType(mark=column.mark, type=by_sql[narrower], using=using)
            for column in self._tables[table].columns
            if column.mark not in self._tables[table].key and column.type.sql in NARROWER
            if (table, column.mark) not in self._wide
            for narrower, using in [NARROWER[column.type.sql]]
            if narrower in by_sql
        ]
        self._cut |= {(table, change.mark) for change in found[:1]}
        return list(found[:1])

    def _dropped(self, table: int, *, is_added: bool) -> list[Alteration]:
        shape = self._tables[table]
        found = [column for column in shape.columns if column.mark not in shape.key]
        if shape.partition_count:
            found = [column for column in found if column is not shape.columns[0]]
        if not found or len(shape.columns) == 1:
            return []
        column = self._draw(st.sampled_from(found))
        added = [self._added(table, name=column.name)] if is_added else []
        return [DropColumn(mark=column.mark), *added]

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
        start = 10_000 + self._copied if is_counted else None
        return CopyIn(session=session, table=table, row=row, first=start, count=count, counted=first.mark)

    def _update(self, session: int, table: int) -> Update:
        columns = self._tables[table].columns
        least = self._draw(st.sampled_from([0, 1, 1, 1]))
        chosen = self._draw(
            st.lists(st.sampled_from(columns), min_size=least, max_size=3, unique_by=lambda column: column.mark)
        )
        key = set(self._tables[table].key)
        row = {c.mark: self._draw(value(c, may_be_null=may_be_null(self._tables[table], c))) for c in chosen}
        count = 1 if key & set(row) else self._few()
        return Update(session=session, table=table, row=row, count=count, skip=self._skipped())


def without_column(workload: Workload, table: int, mark: int) -> Workload:
    """The workload whose table lacks a column."""
    changed = replace(
        workload.tables[table], columns=tuple(c for c in workload.tables[table].columns if c.mark != mark), generated=""
    )
    return replace(workload, tables=tuple(changed if n == table else each for n, each in enumerate(workload.tables)))
