"""Merges the batch of one table through a staging table. The caller owns the transaction."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import psycopg
from psycopg.sql import Composed

from rosetta_dagster.cdc.change.batch import Merge, Move, Recount, Step, TableBatch, Truncate
from rosetta_dagster.cdc.change.event import UNCHANGED, Row
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.postgres import sql
from rosetta_dagster.cdc.destination.postgres.copy_text import blocks
from rosetta_dagster.cdc.destination.postgres.direct import DirectWriter
from rosetta_dagster.cdc.destination.postgres.state import StreamState
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.table_id import TableId

#: Fewer new rows are merged with the others: a statement costs as much as a few dozen rows.
DIRECT_ROWS = 64


class Merger:
    """Applies table batches over one connection; staging tables live as long as it does."""

    def __init__(
        self,
        connection: "psycopg.Connection[tuple[object, ...]]",
        targets: Targets,
        state: StreamState,
        translation: Translation,
    ) -> None:
        self._connection = connection
        self._targets = targets
        self._state = state
        self._translation = translation
        self._direct = DirectWriter(connection, targets, state)
        #: For each table the schema that its staging table was made for, and the staging table's name.
        self._staging: dict[TableId, tuple[TableSchema, str]] = {}

    def merge_small(self, batches: Sequence[TableBatch]) -> Sequence[TableBatch]:
        """Write the small ones among the batches of different tables at once; those that are still to be merged."""
        return self._direct.write(batches)

    def merge(self, batch: TableBatch) -> None:
        """Do all of the table's steps in order. Its columns change with it also when its changes cancel each other out."""
        self._adapt(batch.table)
        for number, step in enumerate(batch.steps):
            self._do(batch.table, step, is_first=number == 0)

    def _do(self, table: TableSchema, step: Step, *, is_first: bool) -> None:
        match step:
            case Truncate():
                self._connection.execute(sql.truncate(self._targets.of(table.id)))
            case Move():
                self._connection.execute(sql.move(self._targets.of(table.id), table, step.old_key, step.row))
            case Merge():
                self._merge(table, step, is_first=is_first)
            case Recount():
                self._recount(table, step, is_first=is_first)

    def _merge(self, table: TableSchema, step: Merge, *, is_first: bool) -> None:
        target, staging = self._targets.of(table.id), self._staging_of(table, is_first=is_first)
        if step.deleted:
            self._stage(staging, table, ("op", *_cells(table.key_indexes)), [(b"d", *key) for key in step.deleted])
            self._connection.execute(sql.delete_by_key(target, staging, table))
        rows = step.rows
        in_part = [] if step.is_whole else [row for row in rows[step.new_count :] if UNCHANGED in row]
        if in_part:
            rows = [row for row in rows if UNCHANGED not in row]
            self._update_in_part(staging, table, in_part)
        if step.new_count >= DIRECT_ROWS and self._insert(table, rows[: step.new_count]):
            rows = rows[step.new_count :]
        if rows:
            self._stage(staging, table, _all_cells(table), rows)
            self._connection.execute(sql.upsert(target, staging, table))

    def _update_in_part(self, staging: str, table: TableSchema, rows: Sequence[Row]) -> None:
        columns = ("op", "unchanged", *_all_cells(table))
        self._stage(staging, table, columns, [(b"p", _digits(row), *row) for row in rows])
        unsent = {index for row in rows for index in _unsent(row)}
        self._connection.execute(sql.update_in_part(self._targets.of(table.id), staging, table, unsent))

    def _insert(self, table: TableSchema, rows: Sequence[Row]) -> bool:
        """Load rows that are new straight into the table, which costs half of a merge; whether that worked.

        Somebody else may have written a row of such a key. Then nothing has happened, and the rows are to be merged, which
        also says better what is wrong with a row.
        """
        try:
            with self._connection.transaction():
                self._copy(sql.copy_into(self._targets.of(table.id), table), rows)
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError, psycopg.errors.NotSupportedError):
            return False
        return True

    def _recount(self, table: TableSchema, step: Recount, *, is_first: bool) -> None:
        target, staging = self._targets.of(table.id), self._staging_of(table, is_first=is_first)
        columns = ("op", "copies", *_all_cells(table))
        rows = [*_counted(b"d", step.deleted), *_counted(b"u", step.inserted)]
        self._stage(staging, table, columns, rows)
        if step.deleted:
            self._connection.execute(sql.delete_copies(target, staging, table))
        if step.inserted:
            self._connection.execute(sql.insert_copies(target, staging, table))

    def _stage(self, staging: str, table: TableSchema, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Load rows into these columns of the staging table."""
        with translated(replace(self._translation, named=partial(_staged_place, table))):
            self._copy(sql.copy_into_staging(staging, columns), rows)

    def _copy(self, statement: Composed, rows: Sequence[Row]) -> None:
        with self._connection.cursor().copy(statement) as copy:
            for block in blocks(rows):
                copy.write(block)

    def _staging_of(self, table: TableSchema, *, is_first: bool) -> str:
        """The table's staging table, empty: made at first use, and anew when the columns changed."""
        known = self._staging.get(table.id)
        if known is not None and known[0] is table:
            if not is_first:
                self._connection.execute(sql.empty_staging(known[1]))
            return known[1]
        return self._make_staging(table, known[1] if known else f"rosetta_staging_{len(self._staging)}")

    def _make_staging(self, table: TableSchema, staging: str) -> str:
        self._connection.execute(sql.drop_staging(staging))
        self._connection.execute(sql.create_staging(staging, self._targets.staging_types(self._connection, table)))
        self._staging[table.id] = (table, staging)
        return staging

    def _adapt(self, table: TableSchema) -> None:
        before = self._state.schemas.get(table.id)
        if before is not None and before != table:
            self._targets.adapt(self._connection, table, before)
        if before != table:
            self._state.remember(table)


def _staged_place(table: TableSchema, place: str) -> str:
    """The table and column that a place in a staging table stands for."""
    found = re.search(r"column c(\d+)$", place)
    return f"table {table.id}, column {table.column_names[int(found[1])]}" if found else f"table {table.id}"


def _cells(indexes: Iterable[int]) -> list[str]:
    return [f"c{index}" for index in indexes]


def _all_cells(table: TableSchema) -> list[str]:
    return _cells(range(len(table.columns)))


def _counted(op: bytes, rows: Iterable[tuple[Row, int]]) -> list[Row]:
    return [(op, str(copies).encode(), *row) for row, copies in rows]


def _digits(row: Row) -> bytes:
    return b"".join([b"1" if value is UNCHANGED else b"0" for value in row])


def _unsent(row: Row) -> list[int]:
    return [index for index, value in enumerate(row) if value is UNCHANGED]
