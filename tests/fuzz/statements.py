"""The SQL of an act, given what its tables look like by then."""

from collections.abc import Sequence

from .alterations import alter_statement
from .names import quoted
from .tables import Table
from .workloads import Alter, Control, CopyIn, Delete, Insert, Truncate, Update


def statement(act: Insert | Update | Delete | Truncate | Alter | Control, tables: Sequence[Table]) -> str:
    match act:
        case Control():
            return act.sql
        case Insert():
            return tables[act.table].insert(list(act.rows))
        case Delete():
            table = tables[act.table]
            return f"DELETE FROM {table.sql} WHERE {table.some_rows(act.count, act.skip)}"
        case Update():
            return _update(act, tables[act.table])
        case Truncate():
            return f"TRUNCATE {', '.join(tables[index].sql for index in act.tables)}"
        case Alter():
            return alter_statement(act.change, tables[act.table])


def _update(act: Update, table: Table) -> str:
    first = quoted(table.columns[0].name)
    assignments = table.assignments(act.row) or f"{first} = {first}"
    return f"UPDATE {table.sql} SET {assignments} WHERE {table.some_rows(act.count, act.skip)}"


def copy_statement(act: CopyIn, table: Table) -> str:
    return f"COPY {table.sql} ({', '.join(quoted(c.name) for c in table.there(act.row))}) FROM STDIN"


def copy_data(act: CopyIn, table: Table) -> str:
    """The rows in COPY's text format."""
    marks = [column.mark for column in table.there(act.row)]
    return "".join("\t".join(_cell(act, mark, number) for mark in marks) + "\n" for number in range(act.count))


def _cell(act: CopyIn, mark: int, number: int) -> str:
    """The first column of all counts the rows, when it can."""
    if mark == act.counted and act.first is not None:
        return str(act.first + number)
    return _escaped(act.row[mark])


def _escaped(text: str | None) -> str:
    if text is None:
        return "\\N"
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
