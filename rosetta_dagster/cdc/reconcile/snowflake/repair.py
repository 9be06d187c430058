"""Repairs rows at Snowflake that differ from the source's, while the stream runs.

A row is replaced only if it is still the wrong row that was found. The pipeline's fence keeps the stream from writing
meanwhile, and rows are written by a session that was opened behind it: it sees everything that the stream has committed.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.destination.snowflake import copy_text, sql, state_sql
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.layout import converters
from rosetta_dagster.cdc.destination.snowflake.stage import Upload
from rosetta_dagster.cdc.destination.snowflake.state import pipeline_token
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.reconcile.comparison import Difference, confirm
from rosetta_dagster.cdc.reconcile.side import parts
from rosetta_dagster.cdc.reconcile.snowflake.columns import ComparedColumns
from rosetta_dagster.cdc.reconcile.snowflake.sides import DOUBLED, KEYS_AT_ONCE, SnowflakeSide, SourceSide
from rosetta_dagster.cdc.reconcile.sql import Key

#: Attempts to repair rows that still differ.
ROUNDS = 4

#: Keys of the first step are deleted, however many rows have them, before those of the second are merged.
_DOUBLED_STEP, _STEP = 0, 1


@dataclass(frozen=True)
class SnowflakeRepair:
    """Repairs the rows of one table."""

    source: SourceSide
    destination: SnowflakeSide
    #: Opens a session. It sees everything that was committed before.
    connect: Callable[[], Session]
    pipeline: str

    def run(self, differences: Sequence[Difference], catch_up: Callable[[], Lsn]) -> tuple[Difference, ...]:
        """Repair these rows. Return those that still differ, and those in flight."""
        left = list(differences)
        for _ in range(ROUNDS):
            if not left:
                break
            for part in parts(left, KEYS_AT_ONCE):
                self.part(part)
            found, in_flight = confirm(self.source, self.destination, [each.key for each in left], catch_up)
            left = found + [difference for difference in left if difference.key in in_flight]
        return tuple(left)

    def part(self, differences: Sequence[Difference]) -> None:
        """Replace the rows that are still as they were found."""
        with self._fenced() as hold, self.connect() as session:
            present = SnowflakeSide(session, self.destination.columns).rows_of([each.key for each in differences])
            wrong = [each for each in differences if present.get(each.key) == each.found]
            if wrong:
                self._replace(session, wrong, hold)

    @contextmanager
    def _fenced(self) -> Iterator[Callable[[], object]]:
        """Keep the pipeline's runs from writing within the block. Yield what holds the fence for longer.

        Snowflake ends a transaction that others wait for when its session has been idle for minutes.
        """
        fence = state_sql.take_fence(f"{sql.SCHEMA}.FENCE_{pipeline_token(self.pipeline)}")
        with self.connect() as session, session.transaction():
            session.execute(fence)
            yield partial(session.execute, fence)

    def _replace(self, session: Session, wrong: Sequence[Difference], hold: Callable[[], object]) -> None:
        columns, token = self.destination.columns, pipeline_token(self.pipeline)
        staging, place = f"{sql.staging_prefix(token)}{uuid.uuid4().hex[:12].upper()}", f"table {columns.schema.id}"
        with Upload(session, token) as upload:
            for values in self._staged_rows(wrong):
                upload.add(values)
            upload.finish()
            session.execute(sql.create_staging(staging, columns.layout))
            try:
                upload.copy_into(staging, place)
                hold()
                with session.transaction():
                    session.execute(sql.delete_staged(columns.layout, staging, _DOUBLED_STEP), place=place)
                    merge = sql.merge(columns.layout, staging, _STEP, (), in_part=False, deletes=True)
                    session.execute(merge, place=place)
            finally:
                with suppress(RosettaError):
                    session.execute(sql.drop_staging(staging))

    def _staged_rows(self, wrong: Sequence[Difference]) -> Iterator[Any]:
        """Yield rows of a staging table: the source's, and the keys of rows that it does not have or that are doubled.

        They are read behind the fence, so that they are not older than what they replace.
        """
        columns, keys = self.destination.columns, [each.key for each in wrong]
        with self.source.snapshot():
            live, blocks = self.source.rows_of(keys), self.source.blocks_of(keys)
        if doubled := [each.key for each in wrong if (each.found or "").startswith(DOUBLED)]:
            yield _keys(columns, doubled, _DOUBLED_STEP)
        if gone := [key for key in keys if key not in live]:
            yield _keys(columns, gone, _STEP)
        yield from _upserts(columns, blocks)


def _upserts(columns: ComparedColumns, blocks: Sequence[bytes]) -> Iterator[Any]:
    """Yield the rows of COPY's text as rows of a staging table."""
    writers = converters(columns.schema, columns.layout, columns.policy, Counter())
    for texts in copy_text.tables(blocks, columns.schema.column_names, copy_text.PIECE_SIZE):
        cells = [writer.convert(each.combine_chunks()) for writer, each in zip(writers, texts.columns, strict=True)]
        yield _staged(_STEP, "u", cells)


def _keys(columns: ComparedColumns, keys: Sequence[Key], step: int) -> Any:
    """Return rows of a staging table that delete these keys."""
    writers = converters(columns.schema, columns.layout, columns.policy, Counter())
    texts: list[list[str | None]] = [[None] * len(keys) for _ in writers]
    for number, index in enumerate(columns.layout.key):
        texts[index] = [key[number] for key in keys]
    cells = [writer.convert(pa.array(each, pa.string())) for writer, each in zip(writers, texts, strict=True)]
    return _staged(step, "d", cells)


def _staged(step: int, operation: str, cells: Sequence[Any]) -> Any:
    count, names = len(cells[0]), [f"C{index}" for index in range(len(cells))]
    steps, operations = pa.array([step] * count, pa.int64()), pa.array([operation] * count, pa.string())
    return pa.table([steps, operations, *cells], names=["STEP", "OP", *names])
