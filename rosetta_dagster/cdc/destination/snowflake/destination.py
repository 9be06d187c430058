"""Applies changes to a Snowflake database: files into staging tables, then one transaction of merges and watermark."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

from rosetta_dagster.cdc.change.batch import Batch
from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema, with_fingerprint
from rosetta_dagster.cdc.change.types import TypeReader, no_types
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy, TableOptions
from rosetta_dagster.cdc.destination.base import Drift, Held, StreamIdentity
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.columns import read_columns
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session, connect
from rosetta_dagster.cdc.destination.snowflake.drift import drift_of
from rosetta_dagster.cdc.destination.snowflake.loader import SnowflakeLoader
from rosetta_dagster.cdc.destination.snowflake.login import LogIn, log_in_of
from rosetta_dagster.cdc.destination.snowflake.merge import Merger
from rosetta_dagster.cdc.destination.snowflake.state import (
    StreamState,
    drop_left_staging,
    forget_copies,
    forget_stream,
    pipeline_token,
    prune_substitutions,
    set_aside,
)
from rosetta_dagster.cdc.destination.snowflake.tables import Targets
from rosetta_dagster.cdc.errors import DestinationRejected, breaking
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True)
class _Opened:
    """What exists from `open` to `close`: a session, and what works over it."""

    session: Session
    state: StreamState
    merger: Merger


class SnowflakeDestination:
    """A Snowflake database that changes are applied to. Keeps the contract of `Destination`.

    Owns one session from `open` to `close`, used by one thread at a time, and by the merges of a batch. A loader owns one
    more while it lives.
    Only data needs the warehouse; `note` does not.
    """

    def __init__(
        self,
        name: str,
        config: SnowflakeDestinationConfig,
        targets: dict[TableId, TableId],
        *,
        pipeline: str,
        policy: SchemaPolicy = SchemaPolicy.APPLY,
        options: Mapping[TableId, TableOptions] | None = None,
    ) -> None:
        self.name = name
        self.flush = config.flush
        self._config = config
        self._targets = Targets(targets, config, policy, options or {})
        self._pipeline = pipeline
        self._opened: _Opened | None = None
        self._is_unwanted: Callable[[], bool] = bool
        #: Set when a loader has committed rows that the session may not see.
        self._has_loaded = threading.Event()

    def open(
        self,
        identity: StreamIdentity,
        is_unwanted: Callable[[], bool] = bool,
        read_types: TypeReader = no_types,  # noqa: ARG002 - Snowflake has no such types
    ) -> Held:
        self._is_unwanted = is_unwanted
        session = self._connect()
        with ExitStack() as unless_opened:
            unless_opened.callback(session.close)
            state = StreamState(session, identity, self._targets.by_source())
            merger = Merger(session, self._targets, state, self._config, pipeline=self._pipeline, destination=self.name)
            self._opened = _Opened(session=session, state=state, merger=merger)
            unless_opened.pop_all()
        held = state.read()
        lost = [table for table in held.begun if not self._targets.exists(session, table)]
        state.lose(lost)
        held = held.without_copies(lost)
        drop_left_staging(session, self._pipeline)
        prune_substitutions(session, self._pipeline)
        # Files that an interrupted run left in the stage cost storage, nothing else.
        with suppress(DestinationRejected):
            session.execute(sql.remove(f"{sql.SCHEMA}.STAGE/{pipeline_token(self._pipeline)}/"))
        return held

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        for table in tables:
            before = self._live.state.schemas.get(table.id)
            with breaking(table.id, self.name):
                self._targets.prepare(self._live.session, table, before, self._live.state.names.get(table.id, {}))

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Three steps, since DDL is not transactional. After a crash between them the copy has not begun."""
        with self._live.session.transaction():
            begun = self._live.state.begun_copies()
            for table in tables:
                with breaking(table.id, self.name):
                    self._targets.empty(self._live.session, table.id, ours=table.id in begun)
                if table.id in begun:
                    self._live.state.forget_copy(table.id)
        for table in tables:
            with breaking(table.id, self.name):
                self._targets.reshape(self._live.session, table, self._live.state.schemas.get(table.id))
        self._live.session.transact(lambda: self._live.state.start_copies(tables, point))

    def resume_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        self._live.session.transact(lambda: self._live.state.resume_copies([table.id for table in tables], point))

    @contextmanager
    def loader(self) -> Iterator[SnowflakeLoader]:
        with self._connect(self._config.copy_warehouse) as session:
            yield SnowflakeLoader(
                session, self._targets, self._config.values, pipeline=self._pipeline, on_commit=self._has_loaded.set
            )

    def finish_copy(self, table: TableSchema) -> None:
        if self._has_loaded.is_set():
            # Under READ_CONSISTENCY_MODE = SESSION a session may not see what others have committed since it was opened.
            self._has_loaded.clear()
            self._live.session.renew()
        self._live.session.transact(lambda: self._live.state.finish_copy(table.id))

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        self._live.merger.merge(batch, watermark)

    def note(self, lsn: Lsn) -> None:
        self._live.state.note(lsn)

    def record_fingerprints(self, tables: Sequence[TableSchema]) -> None:
        for table in tables:
            known = self._live.state.schemas.get(table.id)
            if known is not None and (marked := with_fingerprint(known, table)) is not None:
                self._live.state.remember(marked, self._live.state.names.get(table.id, {}))

    def set_aside(self, table: TableId, reason: str) -> None:
        with self._connect() as session:
            set_aside(session, self._pipeline, table, reason)

    def forget(self, tables: Sequence[TableId] | None = None) -> None:
        with self._connect() as session:
            if tables is None:
                forget_stream(session, self._pipeline)
            else:
                forget_copies(session, self._pipeline, tables)

    def row_counts(self, tables: Sequence[TableId]) -> dict[TableId, int]:
        with self._connect() as session:
            return {table: self._targets.row_count(session, table) for table in tables}

    def drift(self, tables: Sequence[TableSchema]) -> list[Drift]:
        with self._connect() as session:
            layouts = [(table, self._targets.layout(table)) for table in tables]
            return [
                drift for table, layout in layouts for drift in drift_of(table, layout, read_columns(session, layout.id))
            ]

    def close(self) -> None:
        if self._opened is not None:
            self._opened.merger.close()
            self._opened.session.close()
            self._opened = None

    @property
    def _live(self) -> _Opened:
        assert self._opened is not None, "open comes first"
        return self._opened

    @cached_property
    def _log_in(self) -> LogIn:
        # Deriving a key from a passphrase is slow on purpose, and every loader connects.
        return log_in_of(self._config)

    def _connect(self, warehouse: str | None = None) -> Session:
        return connect(
            self._config if warehouse is None else self._config.model_copy(update={"warehouse": warehouse}),
            self._log_in,
            who=f"destination {self.name}",
            tag=f"rosetta {self._pipeline}",
            is_unwanted=self._is_unwanted,
        )
