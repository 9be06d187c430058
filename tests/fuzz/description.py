"""Shows a workload as the statements that it consists of."""

import re
from collections.abc import Iterator

from .alterations import altered
from .statements import copy_statement, statement
from .surroundings import around_statements
from .tables import Table
from .workloads import Act, Alter, CopyIn, Happen, Restart, Workload

#: Longer literals, and longer statements, are cut: the seed repeats them whole.
_LITERAL = re.compile(r"'((?:[^']|''){40})(?:[^']|'')+'")
_SHOWN = 600


def described(workload: Workload) -> str:
    return "\n".join(f"  {_LITERAL.sub(_shortened, line)[:_SHOWN]}" for line in _lines(workload))


def _shortened(found: "re.Match[str]") -> str:
    return f"'{found[1]}…'"


def _lines(workload: Workload) -> Iterator[str]:
    tables = list(workload.tables)
    for table in tables:
        yield from table.ddl()
    for insert in workload.first:
        yield statement(insert, tables)
    yield f"-- the pipeline has the tables {list(workload.begins_with)}"
    yield f"-- start {workload.engine}, change_limit {workload.change_limit}, is_confirmed {workload.is_confirmed}"
    yield f"-- is_copied_first {workload.is_copied_first}"
    for act in workload.acts:
        match act:
            case Restart():
                yield f"-- after {act.delay} ms {act.ending}, then start {act.engine}{_about_tables(act)}"
            case Happen():
                yield f"-- around the stream: {'; '.join(around_statements(act.around, tables[act.table], ['p']))}"
            case CopyIn():
                yield f"session {act.session}: {copy_statement(act, tables[act.table])}; -- {act.count} rows like {act.row}"
            case Alter():
                yield f"session {'of its own' if act.session is None else act.session}: {_alteration(act, tables)}"
                tables[act.table] = altered(tables[act.table], act.change)
            case _:
                yield f"session {_session(act)}: {statement(act, tables)}"


def _session(act: Act) -> int:
    assert not isinstance(act, Restart | Alter | Happen)
    return act.session


def _about_tables(act: Restart) -> str:
    return f" with the tables {list(act.tables)}" + (f", {list(act.forgotten)} anew" if act.forgotten else "")


def _alteration(act: Alter, tables: list[Table]) -> str:
    try:
        return statement(act, tables)
    except LookupError:
        return f"-- nothing: {tables[act.table].sql} lost the column"
