"""Copies the rows that tables hold already, as of one point of the stream, so that the stream continues from there.

The point is exported by a replication slot when it is created, which is the one moment at which PostgreSQL ties a snapshot
to a place in the log exactly. Every reader imports it, so all tables, and all ranges of a table, are of the same moment.
Readers work in parallel: over tables, and over ranges of pages within a table.

A first copy that was broken off is resumed by range: its slot still stands before its point, so the stream repeats every
change since then. What is copied late is of a later moment, and rows that moved between pages meanwhile are copied again.
That leaves each row as it was at that later moment or before; applied on top, in order, the changes since the first point
make it right, since each of them says what its row is then. It takes a key: rows without one cannot be replaced.

Threads: a copy starts its workers and joins them before it returns or raises; each owns one connection to the source and
one loader.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.config import PostgresConnection
from rosetta_dagster.cdc.destination.base import BegunCopy, Destination, Loader
from rosetta_dagster.cdc.errors import breaking
from rosetta_dagster.cdc.pages import PageRange, page_ranges, uncovered
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.schema import TableSchema
from rosetta_dagster.cdc.source.catalog import snapshot_relations
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.slots import ConsistentPoint, SnapshotStopped
from rosetta_dagster.cdc.visibility import SnapshotPoint, XidSnapshot

#: Connections that read at once.
READER_COUNT = 4


class Ledger(Protocol):
    """Keeps the books of a copy. Called by the thread that copies the tables."""

    def start(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """The tables are about to be copied as of this point."""

    def finish(self, table: TableSchema) -> None:
        """All rows of the table are at the destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one reader copies at a time."""

    table: TableSchema
    pages: PageRange
    #: Whether rows with these keys may be at the destination already.
    replacing: bool = False
    #: Only rows that a transaction from this one on has written; None: all.
    since_xid: int | None = None


def copy_statement(part: Part) -> sql.Composed:
    """The statement that reads a part in COPY's text format."""
    columns = sql.SQL(", ").join(map(sql.Identifier, part.table.column_names))
    relation, first_page, end_page = part.pages
    conditions: list[sql.Composable] = []
    if first_page or end_page is not None:
        conditions.append(sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({first_page},0)")))
    if end_page is not None:
        conditions.append(sql.SQL("ctid < {}::tid").format(sql.Literal(f"({end_page},0)")))
    if part.since_xid is not None:
        # A transaction id of 32 bits has no order but its age.
        conditions.append(sql.SQL("age(xmin) <= age({}::xid)").format(sql.Literal(str(part.since_xid % (1 << 32)))))
    where = sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")
    return sql.SQL("COPY (SELECT {} FROM ONLY {}{}) TO STDOUT").format(columns, sql.Identifier(*relation.id), where)


def copy_tables(copier: "Copier", tables: Sequence[TableSchema], point: ConsistentPoint, ledger: Ledger) -> None:
    """Copy the tables as of the point, which must stay exported meanwhile. `SnapshotStopped` when told to stop."""
    with source_errors(copier.source), _reader(copier.source, point.snapshot_name) as connection:
        seen = SnapshotPoint(point.lsn, _transactions_seen(connection))
        ledger.start(tables, seen)
        parts = [part for table in tables for part in _all_of(connection, table)]
        copier.copy(parts, point.snapshot_name, ledger)


def resume_copies(copier: "Copier", begun: Sequence[tuple[TableSchema, BegunCopy]], ledger: Ledger) -> None:
    """Copy what the begun copies lack, as of now. `SnapshotStopped` when told to stop."""
    with source_errors(copier.source), _exported(copier.source) as (connection, snapshot_name):
        parts = [part for table, copy in begun for part in _rest_of(connection, table, copy)]
        copier.copy(parts, snapshot_name, ledger)


def can_resume(connection: "psycopg.Connection[Any]", table: TableSchema, begun: BegunCopy) -> bool:
    """Whether the ranges that are copied are still ranges of this table."""
    relations = {relation for relation, _ in snapshot_relations(connection, table.id)}
    is_same = begun.table is not None and begun.table.columns == table.columns and begun.table.key == table.key
    return bool(begun.ranges and table.key) and is_same and all(pages.relation in relations for pages in begun.ranges)


def _all_of(connection: "psycopg.Connection[Any]", table: TableSchema) -> list[Part]:
    return [
        Part(table=table, pages=pages)
        for relation, page_count in snapshot_relations(connection, table.id)
        for pages in page_ranges(relation, page_count)
    ]


def _rest_of(connection: "psycopg.Connection[Any]", table: TableSchema, begun: BegunCopy) -> list[Part]:
    """The ranges that are not copied, and rows of the others that were written since."""
    missing = [
        Part(table=table, pages=pages, replacing=True)
        for relation, page_count in snapshot_relations(connection, table.id)
        for pages in uncovered(relation, page_count, begun.ranges)
    ]
    again = [
        Part(table=table, pages=pages, replacing=True, since_xid=begun.point.xids.xmin) for pages in sorted(begun.ranges)
    ]
    return missing + again


def _transactions_seen(connection: "psycopg.Connection[Any]") -> XidSnapshot:
    row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    assert row is not None, "the function returns one row"
    return XidSnapshot.parse(row[0])


def _reader(source: PostgresConnection, snapshot_name: str) -> "psycopg.Connection[Any]":
    """A connection that sees the source as of the snapshot, until it is closed."""
    connection = connect(source)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot_name)))
    return connection


@contextmanager
def _exported(source: PostgresConnection) -> "Iterator[tuple[psycopg.Connection[Any], str]]":
    """A snapshot of now, for others to import while the block lasts."""
    with connect(source) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None, "the function returns one row"
        yield connection, row[0]


class Copier:
    """What the copying threads share: from where to where, and whether to stop."""

    def __init__(
        self,
        source: PostgresConnection,
        destination: Destination,
        reporter: Reporter,
        stopped: Callable[[], bool],
    ) -> None:
        self.source = source
        #: How many ranges are at the destination by now.
        self.range_count = 0
        self._destination = destination
        self._reporter = reporter
        self._stopped = stopped
        self._stopping = threading.Event()

    def copy(self, parts: Sequence[Part], snapshot_name: str, ledger: Ledger) -> None:
        """Copy the parts in parallel. A table is finished with the last of its parts."""
        left = Counter(part.table.id for part in parts)
        with ThreadPoolExecutor(READER_COUNT, thread_name_prefix="snapshot") as pool:
            copied = {pool.submit(self._copy_part, part, snapshot_name): part.table for part in parts}
            try:
                for future in as_completed(copied):
                    future.result()
                    table = copied[future]
                    left[table.id] -= 1
                    self.range_count += 1
                    if not left[table.id]:
                        ledger.finish(table)
            except BaseException:
                # Let every thread end at its next block.
                self._stopping.set()
                raise

    def _copy_part(self, part: Part, snapshot_name: str) -> None:
        """Copy one part. The loader's transaction ends with it, so it is there whole or not at all."""
        if self._stopping.is_set():
            return
        with (
            breaking(part.table.id, self._destination.name),
            self._destination.loader() as loader,
            source_errors(self.source),
            _reader(self.source, snapshot_name) as reader,
        ):
            self._load(reader, loader, part)

    def _load(self, reader: "psycopg.Connection[Any]", loader: Loader, part: Part) -> None:
        with reader.cursor().copy(copy_statement(part)) as rows:
            row_count = loader.load(part.table, part.pages, self._until_stopped(rows), replacing=part.replacing)
        self._reporter.copied(part.table.id, row_count)

    def _until_stopped(self, rows: "psycopg.Copy") -> Iterator[bytes]:
        # The destination asks for these blocks, and takes what fails there for its own; so the source's errors end here.
        with source_errors(self.source):
            for block in rows:
                if self._stopping.is_set() or self._stopped():
                    raise SnapshotStopped
                yield bytes(block)
