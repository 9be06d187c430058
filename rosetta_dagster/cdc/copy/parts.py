"""Decides what a copy reads of a table at once, and builds the statements that read it."""

from dataclasses import dataclass

from psycopg import sql

from rosetta_dagster.cdc.change.pages import PageRange
from rosetta_dagster.cdc.change.schema import TableSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A range of a table that one reader copies."""

    table: TableSchema
    pages: PageRange
    #: Whether the destination may hold rows with the same keys already.
    replacing: bool = False
    #: Whether rows that the table no longer has are removed once the last part is loaded. Only with `replacing`.
    removes: bool = True
    #: Only rows that were written by this transaction or a later one; None: all rows.
    since_xid: int | None = None
    #: Only rows with this condition of an operator; None: all rows.
    condition: str | None = None


def copy_statement(part: Part, *, binary: bool = False) -> sql.Composed:
    """Return the statement that reads a part in COPY's text or binary format."""
    columns = sql.SQL(", ").join(map(sql.Identifier, part.table.column_names))
    relation, first_page, end_page = part.pages
    conditions: list[sql.Composable] = []
    if first_page or end_page is not None:
        conditions.append(sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({first_page},0)")))
    if end_page is not None:
        conditions.append(sql.SQL("ctid < {}::tid").format(sql.Literal(f"({end_page},0)")))
    if part.table.row_filter is not None:
        conditions.append(_in_brackets(part.table.row_filter))
    if part.since_xid is not None:
        # Transaction ids of 32 bits wrap around, so they are compared by age.
        conditions.append(sql.SQL("age(xmin) <= age({}::xid)").format(sql.Literal(str(part.since_xid % (1 << 32)))))
    if part.condition is not None:
        conditions.append(own_condition(part.condition))
    where = sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")
    options = sql.SQL(" (FORMAT binary)" if binary else "")
    return sql.SQL("COPY (SELECT {} FROM ONLY {}{}) TO STDOUT{}").format(
        columns, sql.Identifier(*relation.id), where, options
    )


def keys_statement(table: TableSchema) -> sql.Composed:
    """Return the statement that reads all keys of a table in COPY's text format."""
    columns = sql.SQL(", ").join(map(sql.Identifier, table.key))
    only = sql.SQL("" if table.is_partitioned else "ONLY ")
    where = sql.SQL(" WHERE ") + _in_brackets(table.row_filter) if table.row_filter else sql.SQL("")
    return sql.SQL("COPY (SELECT {} FROM {}{}{}) TO STDOUT").format(columns, only, sql.Identifier(*table.id), where)


def _in_brackets(condition: str) -> sql.Composed:
    """Return a condition that the server itself has written out."""
    return sql.SQL("(") + sql.SQL(condition) + sql.SQL(")")


def own_condition(condition: str) -> sql.Composed:
    """Return a condition that an operator wrote, and preflight has verified. A comment at its end ends with the line."""
    return sql.SQL("(\n") + sql.SQL(condition) + sql.SQL("\n)")
