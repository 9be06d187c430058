"""Shows a workload as the statements that it consists of."""

import re
from collections.abc import Iterator

from .statements import copy_statement, statement
from .workloads import Act, AddColumn, CopyIn, Restart, Workload

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
    yield f"-- start {workload.engine}, change_limit {workload.change_limit}, is_confirmed {workload.is_confirmed}"
    for act in workload.acts:
        match act:
            case Restart():
                yield f"-- after {act.delay} ms {act.ending}, then start {act.engine}"
            case CopyIn():
                yield f"session {act.session}: {copy_statement(act, tables[act.table])}; -- {act.count} rows like {act.row}"
            case AddColumn():
                yield f"-- once the tables are copied: {statement(act, tables)}"
                tables[act.table] = tables[act.table].with_column(act.column)
            case _:
                yield f"session {_session(act)}: {statement(act, tables)}"


def _session(act: Act) -> int:
    assert not isinstance(act, Restart | AddColumn)
    return act.session
