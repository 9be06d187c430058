"""Decides what happens to values that are not UTF-8, which only a database with the encoding SQL_ASCII can hold."""

from rosetta_dagster.cdc.errors import ChangeUndecodable
from rosetta_dagster.cdc.table_id import TableId

#: The encoding of a database that stores any bytes as text, unchecked and unconverted.
UNCHECKED = "SQL_ASCII"


def not_utf8(table: TableId) -> ChangeUndecodable:
    """Return the error for a table that has such a value: the other tables go on without it."""
    return ChangeUndecodable(
        f"Table {table} has a text value that is not UTF-8: the source database has the encoding {UNCHECKED}, which accepts "
        "any bytes.",
        "Correct the value at the source, then resync the table.",
    )
