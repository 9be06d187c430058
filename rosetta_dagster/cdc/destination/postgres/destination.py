"""Applies changes to a PostgreSQL database: COPY into staging tables, one merge for each table, the watermark with them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg

from rosetta_dagster.cdc.batch import Batch
from rosetta_dagster.cdc.config import PostgresConnection
from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.postgres import sql
from rosetta_dagster.cdc.destination.postgres.merge import Merger
from rosetta_dagster.cdc.destination.postgres.state import StreamState, forget_stream
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable
from rosetta_dagster.cdc.position import Lsn, Watermark
from rosetta_dagster.cdc.postgres_errors import Translation, connect, translated
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.visibility import SnapshotPoint


class PostgresLoader:
    """Loads copied rows over a connection of its own. Keeps the contract of `Loader`."""

    def __init__(
        self, connection: "psycopg.Connection[tuple[object, ...]]", targets: Targets, translation: Translation
    ) -> None:
        self._connection = connection
        self._targets = targets
        self._translation = translation

    def load(self, table: TableSchema, blocks: Iterable[bytes]) -> int:
        with translated(self._translation), self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy(sql.copy_into(self._targets.of(table.id), table)) as copy:
                for block in blocks:
                    copy.write(block)
            return cursor.rowcount


class PostgresDestination:
    """A PostgreSQL database that changes are applied to. Keeps the contract of `Destination`.

    Owns one connection from `open` to `close`, used by the thread that replicates; a loader owns one more while it lives.
    """

    def __init__(self, name: str, connection: PostgresConnection, targets: dict[TableId, TableId], *, pipeline: str) -> None:
        self.name = name
        self._config = connection
        self._targets = Targets(targets)
        self._translation = Translation(
            who=f"destination {name} ({connection.describe()})",
            unavailable=DestinationUnavailable,
            rejected=DestinationRejected,
        )
        self._pipeline = pipeline
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._state: StreamState | None = None
        self._merger: Merger | None = None

    def open(self, identity: StreamIdentity) -> Held:
        with translated(self._translation):
            self._connection = self._connect()
            self._state = StreamState(self._connection, identity)
            self._merger = Merger(self._connection, self._targets, self._translation)
            return self._state.read()

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        with translated(self._translation), self._live.transaction():
            for table in tables:
                self._targets.prepare(self._live, table)

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        with translated(self._translation), self._live.transaction():
            begun = self._stream.begun_copies()
            for table in tables:
                self._targets.empty(self._live, table.id, ours=table.id in begun)
                self._stream.start_copy(table.id, point)

    @contextmanager
    def loader(self) -> Iterator[PostgresLoader]:
        with translated(self._translation), self._connect() as connection:
            yield PostgresLoader(connection, self._targets, self._translation)

    def finish_copy(self, table: TableSchema) -> None:
        with translated(self._translation), self._live.transaction():
            self._stream.finish_copy(table.id)

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        assert self._merger is not None, "open comes first"
        with translated(self._translation):
            with self._live.transaction():
                for table in batch.tables:
                    self._merger.merge(table)
                self._stream.move(watermark)
            self._stream.moved(watermark)

    def note(self, lsn: Lsn) -> None:
        with translated(self._translation):
            self._stream.note(lsn)

    def forget(self) -> None:
        with translated(self._translation), self._connect() as connection:
            forget_stream(connection, self._pipeline)

    def row_counts(self, tables: Sequence[TableId]) -> dict[TableId, int]:
        with translated(self._translation), self._connect() as connection:
            return {table: self._targets.row_count(connection, table) for table in tables}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def _live(self) -> "psycopg.Connection[tuple[object, ...]]":
        assert self._connection is not None, "open comes first"
        return self._connection

    @property
    def _stream(self) -> StreamState:
        assert self._state is not None, "open comes first"
        return self._state

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        connection = connect(self._config, self._translation, application_name=f"rosetta {self._pipeline}")
        connection.execute(SESSION)
        return connection


#: Text forms must be read as they were written at the source, whatever this server's defaults are. A batch is staged and
#: sorted in memory; both are taken only as far as a batch needs them.
SESSION = """
SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET lc_monetary = 'C';
SET extra_float_digits = 1; SET xmloption = 'content'; SET client_min_messages = 'warning';
SET temp_buffers = '64MB'; SET work_mem = '64MB';
"""
