"""Copies the rows that tables have already, as of one point of the stream, so that the stream continues from there.

A replication slot exports the point when it is created: the one moment at which PostgreSQL ties a snapshot to an exact place
in the log. Every reader imports it, so all tables, and all ranges of a table, are of the same moment. Readers work in
parallel, over tables and over ranges of pages within a table.

An unfinished copy is resumed as of a later point. The ranges that were copied are right except for rows written since, which
are read again, and rows deleted since, which are found by reading all keys. That takes a key: a table without one is copied
from scratch.

A snapshot preserves rows, not columns: a table that is altered meanwhile is read with its new columns, and a table that is
rewritten reads as empty. So each reader checks the table again after it has read, while its lock keeps others from altering
the table.

Threads: a copy starts its workers and joins them before it returns or raises. A worker takes idle connections, or opens new
ones. The thread that started the copy closes them once the workers have ended.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.change.masking import UNMASKED, Masking, block_masker, is_masked
from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation, page_ranges, uncovered
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.config.beginning import NO_ROWS
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.copy.kept_partitions import keeps_rows, without_files
from rosetta_dagster.cdc.copy.parts import Part, copy_statement, keys_statement
from rosetta_dagster.cdc.destination.base import BegunCopy, Destination, Loader
from rosetta_dagster.cdc.errors import DestinationRejected, SourceUnavailable, TableAltered, TableUnreadable, breaking
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.source.catalog import read_schemas, snapshot_relations, was_rewritten
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.copy_out import copy_out
from rosetta_dagster.cdc.source.encoding import not_utf8
from rosetta_dagster.cdc.source.slots import ConsistentPoint, SnapshotStopped
from rosetta_dagster.cdc.table_id import TableId

#: Connections that read at once.
READER_COUNT = 4


class CopyObserver(Protocol):
    """Records how a copy proceeds. Called by the thread that started it."""

    def start(self, tables: Sequence[TableSchema], resumed: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Record that these tables are copied as of this point: from scratch, and continued. Called before the first row."""

    def finish(self, table: TableSchema) -> None:
        """Record that all rows of the table are loaded."""


#: What the server reports for a snapshot whose connection is gone: from version 17 on, and before.
_NO_SNAPSHOT = (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue)


def copy_tables(
    copier: "Copier",
    tables: Sequence[TableSchema],
    begun: Mapping[TableId, BegunCopy],
    point: ConsistentPoint,
    observer: CopyObserver,
) -> None:
    """Copy the tables as of the point, which must stay exported meanwhile. Copies that were begun are resumed if possible.

    `SnapshotStopped` when the run is stopped.
    """
    with (
        source_errors(copier.source),
        connect(copier.source) as connection,
        as_of_snapshot(connection, point.snapshot_name),
    ):
        _verify_columns(copier.read_schemas(connection, [table.id for table in tables]), tables)
        seen = SnapshotPoint(point.lsn, current_snapshot(connection))
        kept = [table for table in tables if copier.keeps_partitions and keeps_rows(table, begun.get(table.id))]
        others = [table for table in tables if table not in kept]
        partly = copier.partly_copied
        resumed = [each for each in others if each.id not in partly and can_resume(connection, each, begun.get(each.id))]
        fresh = [table for table in others if table not in resumed]
        observer.start(fresh, [*kept, *resumed], seen)
        parts = [part for table in fresh for part in _all_parts(connection, table, partly.get(table.id))]
        parts += [part for table in kept for part in _kept_parts(connection, table)]
        parts += [part for table in resumed for part in _remaining_parts(connection, table, begun[table.id])]
        copier.copy(parts, point.snapshot_name, seen.xids.xmin, observer)


def _verify_columns(now: Mapping[TableId, TableSchema], tables: Sequence[TableSchema]) -> None:
    """Raise `TableAltered` when a table's columns or row filter at the point differ from those that were read before.

    A column that was added in between would never be copied: the point holds its values, and the copy does not read them.
    """
    selected = {table: (schema.columns, schema.row_filter) for table, schema in now.items()}
    changed = [table for table in tables if selected.get(table.id) != (table.columns, table.row_filter)]
    if changed:
        raise altered(changed[0])


def can_resume(connection: "psycopg.Connection[Any]", table: TableSchema, begun: BegunCopy | None) -> bool:
    """Return whether the ranges that were copied are still ranges of this table."""
    if begun is None or begun.table is None or not begun.ranges or not table.key:
        return False
    relations = {relation for relation, _ in snapshot_relations(connection, table.id)}
    is_same = begun.table.columns == table.columns and begun.table.key == table.key
    is_same &= begun.table.row_filter == table.row_filter and begun.table.mask_digest == table.mask_digest
    return is_same and all(copied.pages.relation in relations for copied in begun.ranges)


def _all_parts(connection: "psycopg.Connection[Any]", table: TableSchema, condition: str | None) -> list[Part]:
    """Return all of a table, or its rows with the condition: these are not resumed, since the condition may change."""
    if condition == NO_ROWS:
        return [Part(table=table, pages=PageRange(Relation(table.id, 0), 0, None), condition=condition)]
    ranges = _all_ranges(connection, table)
    ranges = ranges if condition is None else without_files(ranges)
    return [Part(table=table, pages=pages, condition=condition) for pages in ranges]


def _kept_parts(connection: "psycopg.Connection[Any]", table: TableSchema) -> list[Part]:
    """Return all of a table whose rows stay: those with the same keys are replaced, and no others are removed."""
    ranges = without_files(_all_ranges(connection, table))
    return [Part(table=table, pages=pages, replacing=True, removes=False) for pages in ranges]


def _all_ranges(connection: "psycopg.Connection[Any]", table: TableSchema) -> list[PageRange]:
    relations = snapshot_relations(connection, table.id)
    return [pages for relation, page_count in relations for pages in page_ranges(relation, page_count)]


def _remaining_parts(connection: "psycopg.Connection[Any]", table: TableSchema, begun: BegunCopy) -> list[Part]:
    """Return the ranges that were not copied, and the others again for the rows that were written since."""
    covered = [copied.pages for copied in begun.ranges]
    missing = [
        Part(table=table, pages=pages, replacing=True)
        for relation, page_count in snapshot_relations(connection, table.id)
        for pages in uncovered(relation, page_count, covered)
    ]
    again = [Part(table=table, pages=copied.pages, replacing=True, since_xid=copied.xmin) for copied in sorted(begun.ranges)]
    return missing + again


def current_snapshot(connection: "psycopg.Connection[Any]") -> XidSnapshot:
    row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    assert row is not None, "the function returns one row"
    return XidSnapshot.parse(row[0])


@contextmanager
def as_of_snapshot(connection: "psycopg.Connection[Any]", snapshot_name: str) -> Iterator[None]:
    """Within the block, let the connection see the source as of the snapshot. Its locks end with the block."""
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot_name)))
    except _NO_SNAPSHOT:
        raise SourceUnavailable(
            "The connection to the source that held the snapshot of the copy was lost.",
            "The run restarts by itself, and continues the copies that are not finished.",
        ) from None
    yield
    connection.execute("ROLLBACK")


def altered(table: TableSchema) -> TableAltered:
    return TableAltered(
        f"Table {table.id} was altered or rewritten at the source while it was copied.",
        "The run restarts by itself, and copies the table as it is by then.",
    )


@contextmanager
def _about_reading(table: TableSchema) -> Iterator[None]:
    """Raise what an error of a statement in the block means for the table: it was altered, or cannot be read."""
    try:
        yield
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable):
        raise altered(table) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise TableUnreadable(
            f"Table {table.id} cannot be copied: {error.diag.message_primary}.",
            "Run GRANT SELECT for the role at the source, on each partition too.",
        ) from None
    except psycopg.errors.CharacterNotInRepertoire:
        raise not_utf8(table.id) from None


@dataclass(frozen=True, slots=True)
class _Connections:
    """What a worker needs to copy a part."""

    #: Sees the source as of the snapshot while a part is copied.
    reader: "psycopg.Connection[Any]"
    #: Sees the source as it is now.
    catalog: "psycopg.Connection[Any]"
    loader: Loader
    close: Callable[[], None]


class _Remaining:
    """Counts the parts of each table that are not loaded yet. Used by all copying threads."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._lock = threading.Lock()
        self._counts = Counter(part.table.id for part in parts)

    def count_loaded(self, loaded: Part) -> bool:
        """Count a part as loaded. Return whether it was the last one of its table."""
        with self._lock:
            self._counts[loaded.table.id] -= 1
            return not self._counts[loaded.table.id]


class Copier:
    """Copies parts of tables from the source to one destination, in parallel."""

    def __init__(
        self,
        source: PostgresConnection,
        destination: Destination,
        reporter: Reporter,
        stopped: Callable[[], bool],
        publications: Sequence[str] = (),
        *,
        keeps_partitions: bool = False,
        partly_copied: Mapping[TableId, str] = MappingProxyType({}),
        masking: Masking = UNMASKED,
    ) -> None:
        """The publications decide which rows and columns of a table there are, and `masking` what is read of these.

        `keeps_partitions`: a partitioned table that was copied before is not emptied when it is copied again.
        """
        self.keeps_partitions = keeps_partitions
        #: The conditions of the tables of which not all rows are copied.
        self.partly_copied = partly_copied
        self.source = source
        self._publications = publications
        self._masking = masking
        #: Whether the destination holds rows that a later run can continue from.
        self.has_resumable_rows = False
        self._destination = destination
        self._reporter = reporter
        self._stopped = stopped
        self._stopping = threading.Event()
        self._idle: deque[_Connections] = deque()

    def read_schemas(self, connection: "psycopg.Connection[Any]", tables: Sequence[TableId]) -> dict[TableId, TableSchema]:
        """Return these tables as they are copied."""
        return self._masking.schemas(read_schemas(connection, tables, self._publications))

    def copy(self, parts: Sequence[Part], snapshot_name: str, xmin: int, observer: CopyObserver) -> None:
        """Copy the parts. A table is finished with the last of its parts."""
        remaining = _Remaining(parts)
        with ExitStack() as at_last, ThreadPoolExecutor(READER_COUNT, thread_name_prefix="snapshot") as pool:
            at_last.callback(self._close_idle)
            copied = {pool.submit(self._copy_part, part, snapshot_name, xmin, remaining): part for part in parts}
            try:
                for future in as_completed(copied):
                    is_complete, table = future.result(), copied[future].table
                    if is_complete:
                        observer.finish(table)
                    # Ranges of a table without a key cannot be continued, only the whole table.
                    self.has_resumable_rows |= bool(table.key) or is_complete
            finally:
                # After an error every thread ends at its next block; otherwise all have ended.
                self._stopping.set()

    def _copy_part(self, part: Part, snapshot_name: str, xmin: int, remaining: "_Remaining") -> bool:
        """Copy one part. Return whether that completed its table.

        The loader commits each part in one transaction: the destination holds all of it or nothing.
        """
        if self._stopping.is_set():
            return False
        with breaking(part.table.id, self._destination.name), self._connected() as connections:
            try:
                return self._load(connections, part, snapshot_name, xmin, remaining)
            except DestinationRejected:
                # A destination may refuse values before all rows are read, for example of a column that was renamed.
                self._verify_schema(connections, part.table)
                raise

    @contextmanager
    def _connected(self) -> Iterator[_Connections]:
        """Yield connections that no other thread uses within the block. They are closed if the block fails."""
        try:
            connections = self._idle.pop()
        except IndexError:
            connections = self._connect()
        with ExitStack() as unless_usable:
            unless_usable.callback(connections.close)
            yield connections
            unless_usable.pop_all()
            self._idle.append(connections)

    def _connect(self) -> _Connections:
        with ExitStack() as unless_open:
            loader = unless_open.enter_context(self._destination.loader())
            reader = unless_open.enter_context(closing(connect(self.source)))
            catalog = unless_open.enter_context(closing(connect(self.source)))
            return _Connections(reader, catalog, loader, unless_open.pop_all().close)

    def _close_idle(self) -> None:
        for connections in self._idle:
            connections.close()

    def _load(self, connections: _Connections, part: Part, snapshot_name: str, xmin: int, remaining: "_Remaining") -> bool:
        """Load one part, and complete its table if it was the last one. Return whether it was."""
        table, loader = part.table, connections.loader
        with source_errors(self.source), as_of_snapshot(connections.reader, snapshot_name):
            # Masks see texts.
            binary = not is_masked(table) and loader.takes_binary(table)
            statement = copy_statement(part, binary=binary)
            blocks = self._blocks(connections, statement, table, table.column_names, [part.pages.relation.id])
            row_count = loader.load(table, CopiedRange(part.pages, xmin), blocks, binary=binary, replacing=part.replacing)
            self._reporter.copied(table.id, row_count)
            is_last = remaining.count_loaded(part)
            if is_last and part.replacing and part.removes:
                self._remove_deleted(connections, table)
        if is_last:
            # Outside of the snapshot's transaction, since it may take long.
            loader.complete(table)
        return is_last

    def _remove_deleted(self, connections: _Connections, table: TableSchema) -> None:
        """Remove the rows of a resumed copy that were deleted at the source since."""
        relations = [relation.id for relation, _ in snapshot_relations(connections.reader, table.id)]
        connections.loader.keep(table, self._blocks(connections, keys_statement(table), table, table.key, relations))

    def _blocks(
        self,
        connections: _Connections,
        statement: sql.Composed,
        table: TableSchema,
        names: Sequence[str],
        relations: Sequence[TableId],
    ) -> Iterator[bytes]:
        """Yield these columns from the statement, masked, in blocks.

        Check at the end that the table was not altered meanwhile.
        """
        columns = {column.name: column for column in table.columns}
        steps = self._masking.steps([columns[name] for name in names])
        mask = block_masker(steps) if steps else None
        # The destination pulls these blocks and would treat the source's errors as its own, so they are converted here.
        with source_errors(self.source), _about_reading(table):
            with closing(copy_out(connections.reader, statement)) as blocks:
                for block in blocks:
                    if self._stopping.is_set() or self._stopped():
                        raise SnapshotStopped
                    yield block if mask is None else mask(block)
            self._verify(connections, table, relations)

    def _verify(self, connections: _Connections, table: TableSchema, relations: Sequence[TableId]) -> None:
        """Raise `TableAltered` if the table was altered before its rows were read; none of them is durable yet."""
        self._verify_schema(connections, table)
        if any(was_rewritten(connections.reader, relation) for relation in relations):
            raise altered(table)

    def _verify_schema(self, connections: _Connections, table: TableSchema) -> None:
        now = self.read_schemas(connections.catalog, [table.id]).get(table.id)
        if now is None or (now.columns, now.key) != (table.columns, table.key):
            raise altered(table)
