"""Merges the batch of one table through a staging table. The caller owns the transaction."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

import psycopg
from psycopg.sql import Composed

from rosetta_dagster.cdc.change.batch import Merge, Move, Recount, Step, TableBatch, Truncate
from rosetta_dagster.cdc.change.event import UNCHANGED, Row
from rosetta_dagster.cdc.change.schema import TableSchema, following
from rosetta_dagster.cdc.destination.postgres import merge_sql, sql
from rosetta_dagster.cdc.destination.postgres.catalog import Connection
from rosetta_dagster.cdc.destination.postgres.copy_text import array, blocks
from rosetta_dagster.cdc.destination.postgres.direct import DirectWriter, SmallBatches
from rosetta_dagster.cdc.destination.postgres.merge_sql import Staging
from rosetta_dagster.cdc.destination.postgres.state import StreamState
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.table_id import TableId

#: Fewer new rows are merged with the others: a statement costs as much as a few dozen rows.
DIRECT_ROWS = 64

#: The server's errors that `BatchFailed` is raised for: a row too large for the staging table, an unknown enum label.
_MendableError: TypeAlias = psycopg.errors.ProgramLimitExceeded | psycopg.errors.InvalidTextRepresentation
_MENDABLE: Final = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.InvalidTextRepresentation)


class BatchFailed(Exception):
    """The batch may be applied after a repair outside of its transaction, which has to be rolled back first."""

    def __init__(self, table: TableSchema, error: _MendableError, named: Callable[[str], str] = str) -> None:
        super().__init__(table.id)
        self.table = table
        self.error = error
        #: As in `Translation`, for the error's message.
        self.named = named


class Merger:
    """Applies table batches over one connection; staging tables live as long as it does."""

    def __init__(
        self,
        connection: Connection,
        targets: Targets,
        state: StreamState,
        translation: Translation,
    ) -> None:
        self._connection = connection
        self._targets = targets
        self._state = state
        self._translation = translation
        self._direct = DirectWriter(connection, targets, state)
        #: For each table its staging table, and the schema that it was created for.
        self._staging: dict[TableId, tuple[TableSchema, Staging]] = {}
        #: Tables whose rows may not fit into a staging table of the ordinary form.
        self._wide: set[TableId] = set()

    def split(self, batches: Sequence[TableBatch]) -> SmallBatches:
        """Distinguish the batches that are small enough to be written without a staging table."""
        return self._direct.split(batches)

    def write_with(self, small: SmallBatches, move: bytes) -> bool:
        """Write small batches and run `move` in one message, which is one transaction. Return false when that failed."""
        return self._direct.write_with(small, move)

    def write(self, small: SmallBatches) -> bool:
        """Write small batches in the open transaction. Return false when that failed; nothing is written then."""
        return self._direct.write(small)

    def merge(self, batch: TableBatch) -> None:
        """Do all of the table's steps in order. Follows its schema even when its changes cancel each other out.

        Raise `BatchFailed` when a repair outside of the transaction may help.
        """
        self._adapt(batch.table)
        try:
            for number, step in enumerate(batch.steps):
                self._do(batch.table, step, is_first=number == 0)
        except _MENDABLE as error:
            raise BatchFailed(batch.table, error) from None

    def stage_wide(self, table: TableId) -> bool:
        """Use the wide form of staging table for this table from now on. Return whether it was not used before."""
        was_wide = table in self._wide
        self._wide.add(table)
        return not was_wide

    def rolled_back(self) -> None:
        """Forget the staging tables: those that were created in the transaction are gone."""
        self._staging.clear()

    def _do(self, table: TableSchema, step: Step, *, is_first: bool) -> None:
        target = self._targets.of(table.id)
        match step:
            case Truncate():
                self._connection.execute(sql.truncate(target))
            case Move():
                fixed = self._targets.unassignable(self._connection, table.id)
                self._connection.execute(merge_sql.move(target, self._targets.stored(table), step.old_key, step.row, fixed))
            case Merge():
                self._merge(table, step, is_first=is_first)
            case Recount():
                self._recount(table, step, is_first=is_first)

    def _merge(self, table: TableSchema, step: Merge, *, is_first: bool) -> None:
        target, staging = self._targets.of(table.id), self._staging_of(table, is_first=is_first)
        if step.deleted:
            self._stage(staging, table, ("op",), [(b"d", *key) for key in step.deleted], table.key_indexes)
            self._connection.execute(merge_sql.delete_by_key(target, staging, table))
        rows = step.rows
        in_part = [] if step.is_whole else [row for row in rows[step.new_count :] if UNCHANGED in row]
        if in_part:
            rows = [row for row in rows if UNCHANGED not in row]
            self._update_in_part(staging, table, in_part)
        if step.new_count >= DIRECT_ROWS and self._insert(table, rows[: step.new_count]):
            rows = rows[step.new_count :]
        if rows:
            fixed = self._targets.unassignable(self._connection, table.id)
            self._stage(staging, table, (), rows)
            self._reinsert(staging, table)
            self._connection.execute(merge_sql.upsert(target, staging, table, fixed))

    def _update_in_part(self, staging: Staging, table: TableSchema, rows: Sequence[Row]) -> None:
        self._stage(staging, table, ("op", "unchanged"), [(b"p", _digits(row), *row) for row in rows])
        self._reinsert(staging, table)
        unsent = {index for row in rows for index in _unsent(row)}
        fixed = self._targets.unassignable(self._connection, table.id)
        update = merge_sql.update_in_part(self._targets.of(table.id), staging, table, unsent, fixed)
        if update is not None:
            self._connection.execute(update)

    def _reinsert(self, staging: Staging, table: TableSchema) -> None:
        fixed = self._targets.unassignable(self._connection, table.id)
        statement = merge_sql.reinsert_with_identity(self._targets.of(table.id), staging, table, fixed)
        if statement is not None:
            self._connection.execute(statement)

    def _insert(self, table: TableSchema, rows: Sequence[Row]) -> bool:
        """Load new rows straight into the table, which costs half of a merge. Return whether that worked.

        It does not when somebody else wrote a row with such a key. Then nothing has happened; the merge that follows also
        says better what is wrong with a row.
        """
        if self._targets.unassignable(self._connection, table.id).generated:
            return False
        try:
            with self._connection.transaction():
                self._copy(sql.copy_into(self._targets.of(table.id), table), rows)
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError, psycopg.errors.NotSupportedError):
            return False
        return True

    def _recount(self, table: TableSchema, step: Recount, *, is_first: bool) -> None:
        target, staging = self._targets.of(table.id), self._staging_of(table, is_first=is_first)
        fixed = self._targets.unassignable(self._connection, table.id)
        rows = [*_counted(b"d", step.deleted), *_counted(b"u", step.inserted)]
        self._stage(staging, table, ("op", "copies"), rows)
        if step.deleted:
            self._connection.execute(merge_sql.delete_copies(target, staging, table, fixed))
        if step.inserted:
            self._connection.execute(merge_sql.insert_copies(target, staging, table, fixed))

    def _stage(
        self,
        staging: Staging,
        table: TableSchema,
        marks: Sequence[str],
        rows: Sequence[Row],
        indexes: Sequence[int] | None = None,
    ) -> None:
        """Load rows into the staging table: values of the columns that mark a row, then those of the table's columns.

        The table's columns are those at `indexes`; all of them by default.
        """
        width = len(table.columns)
        if staging.is_wide:
            rows = [(*row[: len(marks)], array(_spread(row[len(marks) :], width, indexes))) for row in rows]
            columns = (*marks, "cells")
        else:
            columns = (*marks, *(f"c{index}" for index in (range(width) if indexes is None else indexes)))
        named = partial(_staged_place, table)
        with translated(replace(self._translation, named=named)):
            try:
                self._copy(merge_sql.copy_into_staging(staging, columns), rows)
            except _MENDABLE as error:
                raise BatchFailed(table, error, named) from None

    def _copy(self, statement: Composed, rows: Sequence[Row]) -> None:
        with self._connection.cursor().copy(statement) as copy:
            for block in blocks(rows):
                copy.write(block)

    def _staging_of(self, table: TableSchema, *, is_first: bool) -> Staging:
        """Return the table's staging table, empty. Creates it at first use, and again when the columns have changed."""
        known = self._staging.get(table.id)
        if known is not None and known[0] is table:
            if not is_first:
                self._connection.execute(merge_sql.empty_staging(known[1]))
            return known[1]
        return self._create_staging(table, known[1].name if known else f"rosetta_staging_{len(self._staging)}")

    def _create_staging(self, table: TableSchema, name: str) -> Staging:
        is_wide = table.id in self._wide or len(table.columns) > merge_sql.COLUMN_LIMIT
        staging = Staging(name, self._targets.staging_types(self._connection, table), is_wide)
        self._connection.execute(merge_sql.drop_staging(name))
        self._connection.execute(merge_sql.create_staging(staging))
        self._staging[table.id] = (table, staging)
        return staging

    def _adapt(self, table: TableSchema) -> None:
        before = self._state.schemas.get(table.id)
        if before is not None and before != table:
            self._targets.adapt(self._connection, table, before)
        if before != table:
            self._state.remember(table if before is None else following(before, table))


def _staged_place(table: TableSchema, place: str) -> str:
    """Return the table and column that a place in a staging table stands for."""
    found = re.search(r"column c(\d+)$", place)
    return f"table {table.id}, column {table.column_names[int(found[1])]}" if found else f"table {table.id}"


def _spread(values: Row, width: int, indexes: Sequence[int] | None) -> Row:
    """Return a row of that many values, with the given ones at their indexes and NULL elsewhere."""
    if indexes is None:
        return values
    at = dict(zip(indexes, values, strict=True))
    return tuple([at.get(index) for index in range(width)])


def _counted(op: bytes, rows: Iterable[tuple[Row, int]]) -> list[Row]:
    return [(op, str(copies).encode(), *row) for row, copies in rows]


def _digits(row: Row) -> bytes:
    return b"".join([b"1" if value is UNCHANGED else b"0" for value in row])


def _unsent(row: Row) -> list[int]:
    return [index for index, value in enumerate(row) if value is UNCHANGED]
