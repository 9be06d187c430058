"""Applies changes to a Snowflake database: files into staging tables, then one transaction of merges and watermark."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rosetta_dagster.cdc.batch import Batch
from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session, connect
from rosetta_dagster.cdc.destination.snowflake.keys import key_of
from rosetta_dagster.cdc.destination.snowflake.loader import SnowflakeLoader
from rosetta_dagster.cdc.destination.snowflake.merge import Merger
from rosetta_dagster.cdc.destination.snowflake.state import (
    StreamState,
    drop_left_staging,
    forget_stream,
    pipeline_token,
)
from rosetta_dagster.cdc.destination.snowflake.tables import Targets
from rosetta_dagster.cdc.errors import DestinationRejected
from rosetta_dagster.cdc.position import Lsn, Watermark
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.visibility import SnapshotPoint


class SnowflakeDestination:
    """A Snowflake database that changes are applied to. Keeps the contract of `Destination`.

    Owns one session from `open` to `close`, used by the thread that replicates; a loader owns one more while it lives.
    Nothing but data wakes the warehouse: `note` is answered without one.
    """

    def __init__(
        self, name: str, config: SnowflakeDestinationConfig, targets: dict[TableId, TableId], *, pipeline: str
    ) -> None:
        self.name = name
        self.flush = config.flush
        self._config = config
        self._targets = Targets(targets, config)
        self._pipeline = pipeline
        self._session: Session | None = None
        self._state: StreamState | None = None
        self._merger: Merger | None = None

    def open(self, identity: StreamIdentity) -> Held:
        self._session = self._connect()
        self._state = StreamState(self._session, identity)
        self._merger = Merger(self._session, self._targets, self._config.values, pipeline=self._pipeline)
        held = self._state.read()
        drop_left_staging(self._session, self._pipeline)
        # What a run that broke off has left in the stage costs its storage and nothing else.
        with suppress(DestinationRejected):
            self._session.execute(f"REMOVE @{sql.SCHEMA}.STAGE/{pipeline_token(self._pipeline)}/")
        return held

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        for table in tables:
            self._targets.prepare(self._live, table)

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        with self._live.transaction():
            begun = self._stream.begun_copies()
            for table in tables:
                self._targets.empty(self._live, table.id, ours=table.id in begun)
                self._stream.start_copy(table.id, point)

    @contextmanager
    def loader(self) -> Iterator[SnowflakeLoader]:
        with self._connect() as session:
            yield SnowflakeLoader(session, self._targets, self._config.values, pipeline=self._pipeline)

    def finish_copy(self, table: TableSchema) -> None:
        self._stream.finish_copy(table.id)

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        assert self._merger is not None, "open comes first"
        self._merger.merge(batch, lambda: self._stream.move(watermark))
        self._stream.moved(watermark)

    def note(self, lsn: Lsn) -> None:
        self._stream.note(lsn)

    def forget(self) -> None:
        with self._connect() as session:
            forget_stream(session, self._pipeline)

    def row_counts(self, tables: Sequence[TableId]) -> dict[TableId, int]:
        with self._connect() as session:
            return {table: self._targets.row_count(session, table) for table in tables}

    def close(self) -> None:
        if self._merger is not None:
            self._merger.close()
            self._merger = None
        if self._session is not None:
            self._session.close()

    @property
    def _live(self) -> Session:
        assert self._session is not None, "open comes first"
        return self._session

    @property
    def _stream(self) -> StreamState:
        assert self._state is not None, "open comes first"
        return self._state

    def _connect(self) -> Session:
        return connect(self._config, key_of(self._config), who=f"destination {self.name}", tag=f"rosetta {self._pipeline}")
