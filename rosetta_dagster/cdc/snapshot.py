"""Copies the rows that tables hold already, as of one point of the stream, so that the stream continues from there.

The point is exported by a replication slot when it is created, which is the one moment at which PostgreSQL ties a snapshot
to a place in the log exactly. Every reader imports it, so all tables, and all ranges of a table, are of the same moment.
Readers work in parallel: over tables, and over ranges of pages within a table.

Threads: `copy_tables` starts its workers and joins them before it returns or raises; each owns one connection to the source
and one loader.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.config import PostgresConnection
from rosetta_dagster.cdc.destination.base import Destination, Loader
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.source.catalog import snapshot_relations
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.copy_out import copy_out
from rosetta_dagster.cdc.source.slots import ConsistentPoint
from rosetta_dagster.cdc.visibility import SnapshotPoint, XidSnapshot

#: Connections that read at once.
READER_COUNT = 4

#: Pages of one range: 64 MiB, so that a broken connection costs little and the readers end at about the same time.
PAGES_PER_RANGE = 8192

#: Text forms must not depend on the defaults of the server, the database or the user.
TEXT_FORMS = """
SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET lc_monetary = 'C';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET search_path = ''; SET statement_timeout = 0;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRange:
    """A run of pages of one relation: the table itself, or a partition of it."""

    table: TableSchema
    relation: TableId
    first_page: int
    #: None: to the end.
    end_page: int | None


class SnapshotStopped(Exception):
    """The pipeline was told to stop while it copied."""


def page_ranges(table: TableSchema, relation: TableId, page_count: int) -> list[PageRange]:
    """The ranges that together cover the relation, in order. The last one is open."""
    starts = list(range(0, max(1, page_count), PAGES_PER_RANGE))
    ends: list[int | None] = [*starts[1:], None]
    return [
        PageRange(table=table, relation=relation, first_page=start, end_page=end)
        for start, end in zip(starts, ends, strict=True)
    ]


def copy_range(pages: PageRange) -> sql.Composed:
    """The statement that reads a range in COPY's text format."""
    columns = sql.SQL(", ").join(map(sql.Identifier, pages.table.column_names))
    relation = sql.Identifier(*pages.relation)
    condition: sql.Composable = sql.SQL("")
    if pages.first_page or pages.end_page is not None:
        condition = sql.SQL(" WHERE ctid >= {}::tid").format(sql.Literal(f"({pages.first_page},0)"))
    if pages.end_page is not None:
        condition = condition + sql.SQL(" AND ctid < {}::tid").format(sql.Literal(f"({pages.end_page},0)"))
    return sql.SQL("COPY (SELECT {} FROM ONLY {}{}) TO STDOUT").format(columns, relation, condition)


def copy_tables(copier: "Copier", tables: Sequence[TableSchema], finished: list[TableSchema]) -> SnapshotPoint:
    """Copy the tables as of the copier's point, which must stay exported meanwhile; how a stream tells what they hold.

    Each table is added to `finished` when its copy is complete. `SnapshotStopped` when told to stop.
    """
    source, point, destination = copier.source, copier.point, copier.destination
    with source_errors(source), _reader(source, point) as connection:
        seen = SnapshotPoint(point.lsn, _transactions_seen(connection))
        destination.start_copy(tables, seen)
        ranges = [part for table in tables for part in _ranges_of(connection, table)]
        with ThreadPoolExecutor(READER_COUNT, thread_name_prefix="snapshot") as pool:
            copied = _submitted(pool, copier, ranges)
            try:
                _finish_tables(destination, copied, ranges, finished)
            except BaseException:
                copier.stop()
                raise
        return seen


def _submitted(pool: ThreadPoolExecutor, copier: "Copier", ranges: Sequence[PageRange]) -> "dict[Future[None], TableSchema]":
    return {pool.submit(copier.copy, part): part.table for part in ranges}


def _finish_tables(
    destination: Destination,
    copied: "dict[Future[None], TableSchema]",
    ranges: Sequence[PageRange],
    finished: list[TableSchema],
) -> None:
    left = Counter(part.table.id for part in ranges)
    for future in as_completed(copied):
        future.result()
        table = copied[future]
        left[table.id] -= 1
        if not left[table.id]:
            destination.finish_copy(table)
            finished.append(table)


def _transactions_seen(connection: "psycopg.Connection[Any]") -> XidSnapshot:
    row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    assert row is not None, "the function returns one row"
    return XidSnapshot.parse(row[0])


def _ranges_of(connection: "psycopg.Connection[Any]", table: TableSchema) -> list[PageRange]:
    relations = snapshot_relations(connection, table.id)
    return [part for relation, page_count in relations for part in page_ranges(table, relation, page_count)]


def _reader(source: PostgresConnection, point: ConsistentPoint) -> "psycopg.Connection[Any]":
    """A connection that sees the source as of the point, until it is closed."""
    connection = connect(source)
    connection.execute(TEXT_FORMS)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(point.snapshot_name)))
    return connection


class Copier:
    """What the copying threads share: from where, as of which point, to where."""

    def __init__(
        self,
        source: PostgresConnection,
        point: ConsistentPoint,
        destination: Destination,
        reporter: Reporter,
        stopped: Callable[[], bool],
    ) -> None:
        self.source = source
        self.point = point
        self.destination = destination
        self._reporter = reporter
        self._stopped = stopped
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let every thread end at its next block."""
        self._stopping.set()

    def copy(self, part: PageRange) -> None:
        """Copy one range. The loader's transaction ends with it, so a range is there whole or not at all."""
        if self._stopping.is_set():
            return
        with (
            self.destination.loader() as loader,
            source_errors(self.source),
            _reader(self.source, self.point) as reader,
        ):
            self._load(reader, loader, part)

    def _load(self, reader: "psycopg.Connection[Any]", loader: Loader, part: PageRange) -> None:
        with closing(copy_out(reader, copy_range(part))) as blocks:
            row_count = loader.load(part.table, self._until_stopped(blocks))
        self._reporter.copied(part.table.id, row_count)

    def _until_stopped(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        # The destination asks for these blocks, and takes what fails there for its own; so the source's errors end here.
        with source_errors(self.source):
            for block in blocks:
                if self._stopping.is_set() or self._stopped():
                    raise SnapshotStopped
                yield block
