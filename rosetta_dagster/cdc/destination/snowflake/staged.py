"""Writes the steps of a table's batch as one table of values, which is staged at once."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from rosetta_dagster.cdc.change.batch import Merge, Move, Recount, Step
from rosetta_dagster.cdc.change.event import UNCHANGED, Key, Row
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.snowflake.layout import Layout
from rosetta_dagster.cdc.destination.snowflake.values import ColumnConverter


class Moves(NamedTuple):
    """Moves with distinct keys, whose order makes no difference."""

    moves: list[Move]


class StagedRow(NamedTuple):
    """A row of the staging table."""

    step: int
    op: str
    row: Row
    copies: int | None = None
    old_key: Key | None = None


def grouped(steps: Iterable[Step], layout: Layout) -> list[Step | Moves]:
    """Return the steps in order. Consecutive independent moves are joined, since each step is a statement."""
    result: list[Step | Moves] = []
    keys: set[Key] = set()
    for step in steps:
        if not isinstance(step, Move):
            result.append(step)
            continue
        own = {step.old_key, tuple([step.row[index] for index in layout.key])}
        last = result[-1] if result else None
        if isinstance(last, Moves) and not keys & own:
            last.moves.append(step)
            keys |= own
        else:
            result.append(Moves([step]))
            keys = own
    return result


#: The step that fills added columns; the others are numbered.
FILL = -1


def fill_row(schema: TableSchema, columns: Collection[int]) -> StagedRow:
    """Return the row with the old rows' values of the columns at these indexes."""
    values = [
        column.fill_value.encode() if index in columns and column.fill_value is not None else None
        for index, column in enumerate(schema.columns)
    ]
    return StagedRow(FILL, "f", tuple(values))


def staged_rows(number: int, step: Step | Moves, layout: Layout) -> list[StagedRow]:
    """Return the rows that a step needs."""
    match step:
        case Merge():
            rows = [StagedRow(number, "p" if UNCHANGED in row else "u", row) for row in step.rows]
            return rows + [StagedRow(number, "d", _row_of_key(layout, key)) for key in step.deleted]
        case Moves():
            return [StagedRow(number, "m", move.row, None, move.old_key) for move in step.moves]
        case Recount():
            # A row is staged once for each time that it is inserted.
            rows = [StagedRow(number, "u", row) for row, copies in step.inserted for _ in range(copies)]
            return rows + [StagedRow(number, "d", row, copies) for row, copies in step.deleted]
        case _:
            return []


def _row_of_key(layout: Layout, key: Key) -> Row:
    values = dict(zip(layout.key, key, strict=True))
    return tuple([values.get(index) for index in range(len(layout.columns))])


def to_table(rows: Sequence[StagedRow], layout: Layout, columns: Sequence[ColumnConverter]) -> Any:
    """Return the rows as an Arrow table. Raise `DestinationRejected` for a value that cannot be held, or a NULL in a key."""
    cells = [
        column.convert(_strings(values))
        for column, values in zip(columns, zip(*(row.row for row in rows), strict=True), strict=True)
    ]
    fill_count = sum(row.op == "f" for row in rows)
    for index in layout.key:
        # The row that fills added columns comes first, and has no key.
        if cells[index].slice(fill_count).null_count:
            columns[index].refuse("23502", "A row has no value for a column of its key.")
    old_keys = [_strings([row.old_key and row.old_key[number] for row in rows]) for number in range(len(layout.key))]
    arrays = {
        "STEP": pa.array([row.step for row in rows], pa.int64()),
        "OP": pa.array([row.op for row in rows], pa.string()),
        "UNCHANGED": pa.array([_mask(row.row) for row in rows], pa.string()),
        "COPIES": pa.array([row.copies for row in rows], pa.int64()),
        **{f"C{index}": cell for index, cell in enumerate(cells)},
        **{f"K{n}": columns[index].convert(old_keys[n]) for n, index in enumerate(layout.key)},
    }
    return pa.table(arrays)


def _strings(values: Sequence[Any]) -> Any:
    return pa.array([None if value is UNCHANGED else value for value in values], pa.string())


def _mask(row: Row) -> str | None:
    if UNCHANGED not in row:
        return None
    return "".join(["1" if value is UNCHANGED else "0" for value in row])


def unsent(rows: Iterable[Row]) -> frozenset[int]:
    """Return the positions of values that were not sent in any of the rows."""
    return frozenset(index for row in rows if UNCHANGED in row for index, value in enumerate(row) if value is UNCHANGED)
