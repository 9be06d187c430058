"""One change of one row, as it travels from any source to any destination.

A value is PostgreSQL's own text form, as bytes in UTF-8: what COPY reads and writes. So a value passes from PostgreSQL to
PostgreSQL as it is, and a destination that wants another form converts whole columns at once.
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
    """A value that PostgreSQL did not send again, since the update left it alone: neither NULL nor new."""

    UNCHANGED = auto()

    def __repr__(self) -> str:
        return self.name


UNCHANGED: Final = Unchanged.UNCHANGED

#: PostgreSQL's text form, NULL, or not sent.
Value: TypeAlias = bytes | None | Literal[Unchanged.UNCHANGED]
#: One value for each column of the table's schema, in its order.
Row: TypeAlias = tuple[Value, ...]
#: The values of the key's columns, in the key's order.
Key: TypeAlias = tuple[Value, ...]


class Operation(Enum):
    """What happened to the row, or to the whole table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"

    #: An enumeration hashes its names, in Python; each change is counted by its operation.
    __hash__ = object.__hash__


#: How many changes there were of each table and operation.
Counts: TypeAlias = "Counter[tuple[TableId, Operation]]"


class Change(NamedTuple):
    """One change. A flat tuple, since millions of them are made: its position is the first three fields."""

    transaction_lsn: int
    lsn: int
    ordinal: int
    #: The transaction's id, 32 bits as in the stream.
    xid: int
    operation: Operation
    table: TableSchema
    #: The row after the change; None for a delete or truncate.
    row: Row | None
    #: The row before: whole under REPLICA IDENTITY FULL, else only its key columns hold values. Present for a delete,
    #: and for an update that changed the key or of a table with REPLICA IDENTITY FULL.
    old_row: Row | None

    @property
    def position(self) -> Position:
        return Position(self.transaction_lsn, self.lsn, self.ordinal)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableTable(TableSchema):
    """Stands for the table in a change that could not be read; such a change has no rows.

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
    """The values that identify the row; an empty tuple for a table without a key."""
    return tuple([row[index] for index in table.key_indexes])
