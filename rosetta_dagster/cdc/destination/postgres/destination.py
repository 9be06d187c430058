"""Applies changes to a PostgreSQL database: COPY into staging tables, one merge for each table, the watermark with them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg.sql import Composed

from rosetta_dagster.cdc.change.batch import Batch
from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema, with_fingerprint
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.config.pipeline import NAME_LIMIT, PostgresConnection, SchemaPolicy, TableOptions
from rosetta_dagster.cdc.destination.base import Drift, FlushPolicy, Held, StreamIdentity
from rosetta_dagster.cdc.destination.postgres import sql, state_sql
from rosetta_dagster.cdc.destination.postgres.drift import drift_of, read_columns
from rosetta_dagster.cdc.destination.postgres.merge import Merger
from rosetta_dagster.cdc.destination.postgres.state import StreamState, add_range, forget_copies, forget_stream, set_aside
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable, breaking
from rosetta_dagster.cdc.postgres.connections import connect, try_to_set
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.table_id import TableId

#: Name of the temporary table that a loader's rows pass when they may replace others.
_STAGING = "rosetta_load"


class PostgresLoader:
    """Loads copied rows over a connection of its own. Keeps the contract of `Loader`."""

    def __init__(
        self,
        connection: "psycopg.Connection[tuple[object, ...]]",
        targets: Targets,
        translation: Translation,
        pipeline: str,
    ) -> None:
        self._connection = connection
        self._targets = targets
        self._translation = translation
        self._pipeline = pipeline

    def takes_binary(self, table: TableSchema) -> bool:
        with translated(self._translation):
            return self._targets.takes_binary(self._connection, table)

    def load(
        self,
        table: TableSchema,
        copied: CopiedRange,
        blocks: Iterable[bytes],
        *,
        binary: bool = False,
        replacing: bool = False,
    ) -> int:
        target = self._targets.of(table.id)
        with translated(self._translation), self._connection.transaction():
            if replacing:
                self._connection.execute(sql.create_load_staging(_STAGING, target))
                row_count = self._copy(sql.copy_into(TableId("pg_temp", _STAGING), table, binary=binary), blocks)
                self._connection.execute(sql.replace_from(_STAGING, target, table))
            else:
                row_count = self._copy(sql.copy_into(target, table, binary=binary), blocks)
            add_range(self._connection, self._pipeline, table.id, copied)
        return row_count

    def keep(self, table: TableSchema, blocks: Iterable[bytes]) -> None:
        target = self._targets.of(table.id)
        with translated(self._translation), self._connection.transaction():
            self._connection.execute(sql.create_load_staging(_STAGING, target))
            self._copy(sql.copy_keys_into(TableId("pg_temp", _STAGING), table), blocks)
            self._connection.execute(sql.delete_others(_STAGING, target, table))

    def complete(self, table: TableSchema) -> None:
        with translated(self._translation), self._connection.transaction():
            self._targets.complete(self._connection, table)

    def _copy(self, statement: Composed, blocks: Iterable[bytes]) -> int:
        with self._connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for block in blocks:
                    copy.write(block)
            return cursor.rowcount


class PostgresDestination:
    """A PostgreSQL database that changes are applied to. Keeps the contract of `Destination`.

    Owns one connection from `open` to `close`, used by the thread that replicates; a loader owns one more while it lives.
    """

    def __init__(
        self,
        name: str,
        connection: PostgresConnection,
        targets: dict[TableId, TableId],
        *,
        pipeline: str,
        policy: SchemaPolicy = SchemaPolicy.APPLY,
        options: Mapping[TableId, TableOptions] | None = None,
    ) -> None:
        self.name = name
        self.flush = FlushPolicy()
        self._config = connection
        self._targets = Targets(targets, policy, options or {})
        self._translation = Translation(
            who=f"destination {name} ({connection.describe()})",
            unavailable=DestinationUnavailable,
            rejected=DestinationRejected,
        )
        self._pipeline = pipeline
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._state: StreamState | None = None
        self._merger: Merger | None = None
        self._is_unwanted: Callable[[], bool] = bool

    def open(self, identity: StreamIdentity, is_unwanted: Callable[[], bool] = bool) -> Held:
        self._is_unwanted = is_unwanted
        with translated(self._translation):
            self._connection = self._connect()
            self._end_leftovers(self._connection)
            self._state = StreamState(self._connection, identity, self._targets.by_source)
            self._merger = Merger(self._connection, self._targets, self._state, self._translation)
            held = self._state.read()
            lost = [table for table in held.begun if not self._targets.exists(self._connection, table)]
            self._state.lose(lost)
            return held.without_copies(lost)

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        known = [(table, self._stream.schemas.get(table.id)) for table in tables]
        copied = [(table, before) for table, before in known if before and table.id not in self._stream.unfinished]
        with translated(self._translation):
            ready = self._targets.ready(self._live, copied)
        for table, before in copied:
            if table.id not in ready:
                with breaking(table.id, self.name), translated(self._translation), self._live.transaction():
                    self._targets.prepare(self._live, table, before)

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        with translated(self._translation), self._live.transaction():
            # What cannot be made tells of the whole destination, as a rule: of a privilege that is missing. It comes first,
            # since whoever makes something takes a lock that pipelines which begin together wait for.
            made = {table.id for table in tables if self._targets.make(self._live, table)}
            ours = made | self._stream.begun_copies()
            for table in tables:
                with breaking(table.id, self.name), translated(self._translation):
                    self._targets.empty(self._live, table.id, ours=table.id in ours)
                    before = self._stream.schemas.get(table.id)
                    self._targets.reshape(self._live, table, before, ours=table.id in ours)
                    self._stream.start_copy(table, point)

    def resume_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        with translated(self._translation), self._live.transaction():
            for table in tables:
                # From now on rows take the place of others, which their keys tell.
                with breaking(table.id, self.name), translated(self._translation):
                    self._targets.complete(self._live, table)
                self._stream.resume_copy(table.id, point)

    @contextmanager
    def loader(self) -> Iterator[PostgresLoader]:
        with translated(self._translation), self._connect() as connection:
            yield PostgresLoader(connection, self._targets, self._translation, self._pipeline)

    def finish_copy(self, table: TableSchema) -> None:
        with translated(self._translation), self._live.transaction():
            self._stream.finish_copy(table.id)

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        assert self._merger is not None, "open comes first"
        with translated(self._translation):
            with self._live.transaction():
                for table in self._merger.merge_small(batch.tables):
                    with breaking(table.table.id, self.name), translated(self._translation):
                        self._merger.merge(table)
                self._stream.move(watermark)
            self._stream.moved(watermark)

    def note(self, lsn: Lsn) -> None:
        with translated(self._translation):
            self._stream.note(lsn)

    def record_fingerprints(self, tables: Sequence[TableSchema]) -> None:
        with translated(self._translation), self._live.transaction():
            for table in tables:
                known = self._stream.schemas.get(table.id)
                if known is not None and (marked := with_fingerprint(known, table)) is not None:
                    self._stream.remember(marked)

    def set_aside(self, table: TableId, reason: str) -> None:
        with translated(self._translation), self._connect() as connection:
            set_aside(connection, self._pipeline, table, reason)

    def forget(self, tables: Sequence[TableId] | None = None) -> None:
        with translated(self._translation), self._connect() as connection:
            if tables is None:
                forget_stream(connection, self._pipeline)
            else:
                forget_copies(connection, self._pipeline, tables)

    def row_counts(self, tables: Sequence[TableId]) -> dict[TableId, int]:
        with translated(self._translation), self._connect() as connection:
            return {table: self._targets.row_count(connection, table) for table in tables}

    def drift(self, tables: Sequence[TableSchema]) -> list[Drift]:
        with translated(self._translation), self._connect() as connection:
            # So that types are spelled in full, as the source spells them.
            connection.execute("SET search_path = ''")
            targets = [(self._targets.of(table.id), table) for table in tables]
            return [
                drift for target, table in targets for drift in drift_of(target, table, read_columns(connection, target))
            ]

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
        connection = connect(
            self._config, self._translation, application_name=self._session_name, is_unwanted=self._is_unwanted
        )
        with ExitStack() as unless_open:
            unless_open.callback(connection.close)
            for name, value in MEMORY.items():
                try_to_set(connection, name, value)
            unless_open.pop_all()
        return connection

    @property
    def _session_name(self) -> str:
        return f"rosetta {self._pipeline}"

    def _end_leftovers(self, connection: "psycopg.Connection[tuple[object, ...]]") -> None:
        """End what a run left behind whose network went silent: its transaction would hold its locks for hours.

        The pipeline's lease is ours, so nobody else is at work for it. The server cuts long names, and cut ones may be
        those of another pipeline.
        """
        if len(self._session_name) <= NAME_LIMIT:
            connection.execute(state_sql.END_LEFTOVERS, [self._session_name])


#: A batch is staged and sorted in memory; both are taken only as far as a batch needs them.
MEMORY = {"temp_buffers": "64MB", "work_mem": "64MB"}
