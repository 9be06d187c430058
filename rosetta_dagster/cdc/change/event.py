"""What one change of one row is, independent of source and destination.

A value is PostgreSQL's text form as bytes in UTF-8, which COPY reads and writes. So a value passes from PostgreSQL to
PostgreSQL as it is. A destination that needs another form converts whole columns at once.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal, NamedTuple, Self, TypeAlias

from rosetta_dagster.cdc.change.position import Position
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, TerminalError
from rosetta_dagster.cdc.table_id import TableId


class Unchanged(Enum):
    """A value that PostgreSQL did not send again because the update did not change it: neither NULL nor new."""

    UNCHANGED = auto()

    def __repr__(self) -> str:
        return self.name


UNCHANGED: Final = Unchanged.UNCHANGED

#: PostgreSQL's text form, NULL, or not sent again.
Value: TypeAlias = bytes | None | Literal[Unchanged.UNCHANGED]
#: One value for each column of the table's schema, in the schema's order.
Row: TypeAlias = tuple[Value, ...]
#: The values of the key's columns, in the key's order.
Key: TypeAlias = tuple[Value, ...]


class Operation(Enum):
    """What happened to the row, or to the whole table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"

    #: Enum hashes its members' names in Python code, which is slow: each change is counted by its operation.
    __hash__ = object.__hash__


#: The number of changes by table and operation.
Counts: TypeAlias = "Counter[tuple[TableId, Operation]]"


class Change(NamedTuple):
    """One change. A flat tuple, because millions are made: the first three fields are its position."""

    transaction_lsn: int
    lsn: int
    ordinal: int
    #: The transaction's id: 32 bits, as in the stream.
    xid: int
    operation: Operation
    table: TableSchema
    #: The new row; None for a delete or truncate.
    row: Row | None
    #: The old row: whole under REPLICA IDENTITY FULL, else only its key columns have values. Present for a delete, and for
    #: an update that changed the key or of a table with REPLICA IDENTITY FULL.
    old_row: Row | None

    @property
    def position(self) -> Position:
        return Position(self.transaction_lsn, self.lsn, self.ordinal)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableTable(TableSchema):
    """Stands for the table of a change that could not be read. Such a change has no rows.

    That is an error only if a destination misses the change. A copy of the table that was made later contains it.
    """

    #: Raised when a destination misses the change.
    error: TerminalError

    @classmethod
    def because(cls, table: TableId, error: TerminalError) -> Self:
        """Make the stand-in for this table. The error breaks the table, not the pipeline."""
        error.broken = BrokenTable(table)
        return cls(id=table, columns=(), key=(), identity=Identity.NOTHING, error=error)


def key_of(table: TableSchema, row: Row) -> Key:
    """Return the values that identify the row; an empty tuple for a table without a key."""
    return tuple([row[index] for index in table.key_indexes])
