"""The SQL of an act, given what its tables look like by then."""

from collections.abc import Sequence

from .names import literal, quoted
from .tables import Table
from .workloads import AddColumn, Control, CopyIn, Delete, Insert, Truncate, Update


def statement(act: Insert | Update | Delete | Truncate | AddColumn | Control, tables: Sequence[Table]) -> str:
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
        case AddColumn():
            default = "" if act.default is None else f" DEFAULT {literal(act.default)}::{act.column.type.sql}"
            return f"ALTER TABLE {tables[act.table].sql} ADD COLUMN {quoted(act.column.name)} {act.column.type.sql}{default}"


def _update(act: Update, table: Table) -> str:
    first = quoted(table.columns[0].name)
    assignments = table.assignments(act.row) or f"{first} = {first}"
    return f"UPDATE {table.sql} SET {assignments} WHERE {table.some_rows(act.count, act.skip)}"


def copy_statement(act: CopyIn, table: Table) -> str:
    return f"COPY {table.sql} ({', '.join(quoted(c.name) for c in table.columns if c.name in act.row)}) FROM STDIN"


def copy_data(act: CopyIn, table: Table) -> str:
    """The rows in COPY's text format."""
    names = [column.name for column in table.columns if column.name in act.row]
    cells = [_escaped(act.row[name]) for name in names]
    is_counted = act.first is not None and names[:1] == [table.columns[0].name]
    firsts = [str((act.first or 0) + n) if is_counted else cells[0] for n in range(act.count)]
    return "".join("\t".join([first, *cells[1:]]) + "\n" for first in firsts)


def _escaped(text: str | None) -> str:
    if text is None:
        return "\\N"
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
