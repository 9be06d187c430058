"""Merges the batch of one table through a staging table. The caller owns the transaction."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import psycopg

from rosetta_dagster.cdc.batch import Merge, Move, Recount, Step, TableBatch, Truncate
from rosetta_dagster.cdc.destination.postgres import sql
from rosetta_dagster.cdc.destination.postgres.copy_text import blocks, line
from rosetta_dagster.cdc.destination.postgres.state import StreamState
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.event import UNCHANGED, Key, Row
from rosetta_dagster.cdc.postgres_errors import Translation, translated
from rosetta_dagster.cdc.schema import TableId, TableSchema


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
        #: For each table the schema that its staging table was made for, and the staging table's name.
        self._staging: dict[TableId, tuple[TableSchema, str]] = {}

    def merge(self, batch: TableBatch) -> None:
        """Do all of the table's steps in order."""
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
        self._stage(staging, table, _merge_lines(table, step))
        if step.deleted:
            self._connection.execute(sql.delete_by_key(target, staging, table))
        unsent = {index for row in step.rows if UNCHANGED in row for index in _unsent(row)}
        if unsent:
            self._connection.execute(sql.update_in_part(target, staging, table, unsent))
        if step.rows:
            self._connection.execute(sql.upsert(target, staging, table))

    def _recount(self, table: TableSchema, step: Recount, *, is_first: bool) -> None:
        target, staging = self._targets.of(table.id), self._staging_of(table, is_first=is_first)
        self._stage(staging, table, _recount_lines(step))
        if step.deleted:
            self._connection.execute(sql.delete_copies(target, staging, table))
        if step.inserted:
            self._connection.execute(sql.insert_copies(target, staging, table))

    def _stage(self, staging: str, table: TableSchema, lines: Iterable[bytes]) -> None:
        translation = replace(self._translation, named=partial(_staged_place, table))
        with translated(translation), self._connection.cursor().copy(sql.copy_into_staging(staging, table)) as copy:
            for block in blocks(lines):
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
        self._adapt(table)
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


def _merge_lines(table: TableSchema, step: Merge) -> Iterator[bytes]:
    for row in step.rows:
        if UNCHANGED in row:
            yield line((b"p", b"".join([b"1" if value is UNCHANGED else b"0" for value in row]), None, *row))
        else:
            yield b"u\t\\N\t\\N\t" + line(row)
    for key in step.deleted:
        yield line((b"d", None, None, *_row_of_key(table, key)))


def _row_of_key(table: TableSchema, key: Key) -> Row:
    values = dict(zip(table.key_indexes, key, strict=True))
    return tuple([values.get(index) for index in range(len(table.columns))])


def _recount_lines(step: Recount) -> Iterator[bytes]:
    for row, copies in step.inserted:
        yield line((b"u", None, str(copies).encode(), *row))
    for row, copies in step.deleted:
        yield line((b"d", None, str(copies).encode(), *row))


def _unsent(row: Row) -> list[int]:
    return [index for index, value in enumerate(row) if value is UNCHANGED]
