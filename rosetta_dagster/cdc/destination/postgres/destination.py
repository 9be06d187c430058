"""Applies changes to a PostgreSQL database: COPY into staging tables, one merge for each table, the watermark with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import psycopg

from rosetta_dagster.cdc.change.batch import Batch, TableBatch
from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema, with_fingerprint
from rosetta_dagster.cdc.change.types import TypeReader, no_types, user_types
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.config.pipeline import NAME_LIMIT, PostgresConnection, SchemaPolicy, TableOptions, TypePolicy
from rosetta_dagster.cdc.destination.base import Drift, FlushPolicy, Held, StreamIdentity
from rosetta_dagster.cdc.destination.postgres import state_sql
from rosetta_dagster.cdc.destination.postgres.catalog import Connection
from rosetta_dagster.cdc.destination.postgres.circles import refuse_circles
from rosetta_dagster.cdc.destination.postgres.direct import SmallBatches
from rosetta_dagster.cdc.destination.postgres.drift import read_drift
from rosetta_dagster.cdc.destination.postgres.loader import PostgresLoader
from rosetta_dagster.cdc.destination.postgres.merge import BatchFailed, Merger
from rosetta_dagster.cdc.destination.postgres.privileges import remedy_for, verify_temporary_tables
from rosetta_dagster.cdc.destination.postgres.state import StreamState, forget_copies, forget_stream, set_aside
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.destination.postgres.types import Types
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable, breaking
from rosetta_dagster.cdc.postgres.connections import connect, try_to_set
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True)
class _Opened:
    """What exists from `open` to `close`: a connection, and what works over it."""

    connection: Connection
    state: StreamState
    merger: Merger
    types: Types


class PostgresDestination:
    """A PostgreSQL database that changes are applied to. Keeps the contract of `Destination`.

    Owns one connection from `open` to `close`, used by one thread at a time; a loader owns one more while it lives.
    """

    def __init__(
        self,
        name: str,
        connection: PostgresConnection,
        targets: dict[TableId, TableId],
        *,
        pipeline: str,
        policy: SchemaPolicy = SchemaPolicy.APPLY,
        types: TypePolicy = TypePolicy.CREATE,
        options: Mapping[TableId, TableOptions] | None = None,
    ) -> None:
        self.name = name
        self.flush = FlushPolicy()
        self._config = connection
        self._targets = Targets(targets, policy, types, options or {}, pipeline=pipeline)
        self._translation = Translation(
            who=f"destination {name} ({connection.describe()})",
            unavailable=DestinationUnavailable,
            rejected=DestinationRejected,
            remedy_for=partial(remedy_for, user=connection.username),
        )
        self._pipeline = pipeline
        self._type_policy = types
        self._opened: _Opened | None = None
        self._is_unwanted: Callable[[], bool] = bool

    def open(
        self, identity: StreamIdentity, is_unwanted: Callable[[], bool] = bool, read_types: TypeReader = no_types
    ) -> Held:
        self._is_unwanted = is_unwanted
        with translated(self._translation):
            with ExitStack() as unless_opened:
                connection = self._connect()
                unless_opened.callback(connection.close)
                self._end_leftovers(connection)
                verify_temporary_tables(connection)
                refuse_circles(connection, identity, self._targets.by_source)
                state = StreamState(connection, identity, self._targets.by_source)
                self._opened = _Opened(
                    connection=connection,
                    state=state,
                    merger=Merger(connection, self._targets, state, self._translation),
                    types=Types(connection, read_types, self._type_policy),
                )
                unless_opened.pop_all()
            held = state.read()
            lost = [table for table in held.begun if self._is_lost(table)]
            state.lose(lost)
            return held.without_copies(lost)

    def _is_lost(self, table: TableId) -> bool:
        """Return whether the table's target was dropped; another table may have its name by now."""
        return table in self._live.state.replaced or not self._targets.exists(self._live.connection, table)

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        known = [(table, self._live.state.schemas.get(table.id)) for table in tables]
        copied = [(table, before) for table, before in known if before and table.id not in self._live.state.unfinished]
        self._refuse_replaced(copied)
        with translated(self._translation):
            ready = self._targets.ready(self._live.connection, copied)
        self._follow_types([table for table, _ in copied])
        for table, before in copied:
            if table.id not in ready:
                with self._about(table.id), self._live.connection.transaction():
                    self._targets.prepare(self._live.connection, table, before)

    def _refuse_replaced(self, copied: Sequence[tuple[TableSchema, TableSchema]]) -> None:
        for table, _ in copied:
            if table.id in self._live.state.replaced:
                with self._about(table.id):
                    raise self._targets.replaced(table)

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self._follow_types(tables)
        with translated(self._translation), self._live.connection.transaction():
            # Before the state tables are read: a pipeline that begins at the same time may hold the creation lock, and wait
            # for those tables.
            created = set()
            for table in tables:
                with self._about(table.id):
                    if self._targets.create_if_missing(self._live.connection, table):
                        created.add(table.id)
            ours = created | self._live.state.begun_copies()
            for table in tables:
                with self._about(table.id):
                    self._live.state.verify_target(table.id)
                    self._targets.empty(self._live.connection, table.id, ours=table.id in ours)
                    before = self._live.state.schemas.get(table.id)
                    self._targets.reshape(self._live.connection, table, before, ours=table.id in ours)
                    self._live.state.start_copy(table, point)

    def resume_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self._follow_types(tables)
        with translated(self._translation), self._live.connection.transaction():
            for table in tables:
                # From now on rows replace those with their keys, which takes the key's index.
                with self._about(table.id):
                    self._targets.complete(self._live.connection, table)
                self._live.state.resume_copy(table.id, point)

    @contextmanager
    def loader(self) -> Iterator[PostgresLoader]:
        with translated(self._translation), self._connect() as connection:
            yield PostgresLoader(connection, self._targets, self._translation, self._pipeline)

    def finish_copy(self, table: TableSchema) -> None:
        with translated(self._translation), self._live.connection.transaction():
            self._live.state.finish_copy(table.id)

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        self._follow_types([part.table for part in batch.tables if self._has_new_types(part.table)])
        with translated(self._translation):
            while not self._try_apply(batch, watermark):
                pass
            self._live.state.moved(watermark)

    def _try_apply(self, batch: Batch, watermark: Watermark) -> bool:
        """Apply the batch in one transaction. Return false when it failed and the cause has been removed."""
        small = self._live.merger.split(batch.tables)
        # One round trip, where a transaction takes four: far from the server these are most of what a change takes.
        if not small.others:
            if self._live.merger.write_with(small, self._live.state.move_in_one_message(watermark)):
                return True
            # In steps it fails again, with an error that says more.
            small = SmallBatches((), batch.tables)
        schemas = dict(self._live.state.schemas)
        try:
            with self._live.connection.transaction():
                for part in small.others if self._live.merger.write(small) else batch.tables:
                    self._merge(part)
                self._live.state.move(watermark)
        except BatchFailed as failure:
            self._live.state.schemas = schemas
            self._live.merger.rolled_back()
            with self._about(failure.table.id, failure.named):
                if not self._mend(failure):
                    raise failure.error from None
            return False
        return True

    def _merge(self, part: TableBatch) -> None:
        with self._about(part.table.id):
            self._live.merger.merge(part)

    def _mend(self, failure: BatchFailed) -> bool:
        """Return whether something was done after which the batch may be applied."""
        if isinstance(failure.error, psycopg.errors.ProgramLimitExceeded):
            return self._live.merger.stage_wide(failure.table.id)
        return self._live.types.follow([failure.table])

    def _has_new_types(self, table: TableSchema) -> bool:
        """Return whether columns of user-defined types may be new since the table's last applied change."""
        known = self._live.state.schemas.get(table.id)
        return known is not table and bool(user_types([table])) and known != table

    def _follow_types(self, tables: Sequence[TableSchema]) -> None:
        """Create the types that these tables need, with one read of the source for all of them."""
        try:
            self._live.types.follow(tables)
        except (psycopg.Error, DestinationRejected):
            # Again one by one, so that the error is about the table that needs the type.
            for table in tables:
                with self._about(table.id):
                    self._live.types.follow([table])

    def note(self, lsn: Lsn) -> None:
        with translated(self._translation):
            self._live.state.note(lsn)

    def record_fingerprints(self, tables: Sequence[TableSchema]) -> None:
        with translated(self._translation), self._live.connection.transaction():
            for table in tables:
                known = self._live.state.schemas.get(table.id)
                if known is not None and (marked := with_fingerprint(known, table)) is not None:
                    self._live.state.remember(marked)

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
            # So that types are spelled with their namespace, as the source spells them.
            connection.execute("SET search_path = ''")
            return [
                drift
                for table in tables
                for drift in read_drift(connection, self._targets.of(table.id), self._targets.stored(table))
            ]

    def close(self) -> None:
        if self._opened is not None:
            self._opened.connection.close()

    @property
    def _live(self) -> _Opened:
        assert self._opened is not None, "open comes first"
        return self._opened

    @contextmanager
    def _about(self, table: TableId, named: Callable[[str], str] = str) -> Iterator[None]:
        """Attribute errors raised in the block to this table, and name it in their messages."""
        who = f"{self._translation.who}, table {self._targets.of(table)}"
        translation = replace(self._translation, who=who, named=named)
        with breaking(table, self.name), translated(translation):
            yield

    def _connect(self) -> Connection:
        connection = connect(
            self._config, self._translation, application_name=self._session_name, is_unwanted=self._is_unwanted
        )
        with ExitStack() as unless_open:
            unless_open.callback(connection.close)
            connection.execute(_without_triggers(connection.info.server_version))
            for name, value in MEMORY.items():
                try_to_set(connection, name, value)
            unless_open.pop_all()
        return connection

    @property
    def _session_name(self) -> str:
        return f"rosetta {self._pipeline}"

    def _end_leftovers(self, connection: Connection) -> None:
        """End sessions of an earlier run whose network went silent: their transactions would hold locks for hours.

        This run has the pipeline's lease, so no other run is at work. The server cuts long names, and a cut name may be that
        of another pipeline.
        """
        if len(self._session_name) <= NAME_LIMIT:
            connection.execute(state_sql.END_LEFTOVERS, [self._session_name])


#: A batch is staged and sorted in memory; both are taken only as far as a batch needs them.
MEMORY = {"temp_buffers": "64MB", "work_mem": "64MB"}

#: Replicated rows have passed the source's triggers and foreign keys. Those of the destination would change the rows, or
#: refuse them, since tables are written one after the other. Version 15 brought privileges on settings.
_WITHOUT_TRIGGERS = "SELECT set_config('session_replication_role', 'replica', false) WHERE {}"
_FIRST_WITH_PRIVILEGES = 150_000


def _without_triggers(server_version: int) -> str:
    """Return the statement that keeps triggers from firing, where the user may do that. Else `drift` reports them."""
    if server_version >= _FIRST_WITH_PRIVILEGES:
        return _WITHOUT_TRIGGERS.format("has_parameter_privilege('session_replication_role', 'SET')")
    return _WITHOUT_TRIGGERS.format("(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)")
