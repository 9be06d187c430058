"""The contract of a destination, and the values that it exchanges with a run."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from rosetta_dagster.cdc.change.batch import Batch
from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.feeder import Feeder
from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.position import Engine, Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.types import TypeReader, no_types
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.destination.schedule import FlushSchedule
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """The stream that a watermark continues. Positions of different clusters or slots cannot be compared."""

    pipeline: str
    #: `system_identifier` of the source's cluster.
    system_identifier: str
    slot_name: str
    #: OID of the source's database in its cluster; 0 when it is not known.
    database_oid: int = 0
    #: Other pipelines that write the source's tables.
    feeders: tuple[Feeder, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunCopy:
    """A copy that was started and is not complete."""

    #: The table's schema when the copy started; None when its rows are lost.
    table: TableSchema | None
    #: The ranges that are copied.
    ranges: frozenset[CopiedRange]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a destination has applied of a stream. Everything is empty before the pipeline's first copy."""

    watermark: Watermark | None = None
    #: Tables whose copy is complete, each with the point that the copy is consistent with.
    copied: Mapping[TableId, SnapshotPoint] = field(default_factory=dict)
    #: Tables whose copy is started and not complete.
    begun: Mapping[TableId, BegunCopy] = field(default_factory=dict)
    #: Each copied table's schema at the source as of its last applied change.
    schemas: Mapping[TableId, TableSchema] = field(default_factory=dict)
    #: Tables whose changes are left out, each with the error that broke it.
    set_aside: Mapping[TableId, str] = field(default_factory=dict)
    #: The highest LSN that a run may have confirmed to the slot.
    noted: Lsn | None = None

    def without_copies(self, lost: Collection[TableId]) -> "Held":
        """Return a copy in which these tables have begun their copy and hold no rows, so that they start over."""
        return replace(
            self,
            begun={**self.begun, **{table: BegunCopy(table=None, ranges=frozenset()) for table in lost}},
            schemas={table: schema for table, schema in self.schemas.items() if table not in lost},
        )

    def is_continued_by(self, confirmed_flush_lsn: Lsn) -> bool:
        """Return whether a slot at this LSN can continue. A slot further ahead was recreated, or read by somebody else."""
        bounds = [point.lsn for point in self.copied.values()] + ([] if self.noted is None else [self.noted])
        return not bounds or confirmed_flush_lsn <= max(bounds)

    def missing_changes(self, changes: Sequence[Change], engine: Engine) -> Sequence[Change]:
        """Return the changes that the destination has not applied, in order. `engine` is the one that delivered them."""
        watermark = self.watermark
        if watermark is not None and changes and watermark.covers(changes[0].position, changes[0].xid, engine):
            changes = [change for change in changes if not watermark.covers(change.position, change.xid, engine)]
        if self._is_past_every_copy(changes):
            return changes
        return [change for change in changes if self._follows_the_copy(change)]

    def _is_past_every_copy(self, changes: Sequence[Change]) -> bool:
        """Return whether no copy can contain these changes: their transaction follows one after every copy's point."""
        if not changes:
            return True
        first = changes[0].transaction_lsn
        return all(point.lsn <= first for point in self.copied.values())

    def _follows_the_copy(self, change: Change) -> bool:
        point = self.copied.get(change.table.id)
        return point is None or not point.xids.holds(change.xid)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushPolicy:
    """How long changes may wait so that more of them are applied together. The first limit reached counts."""

    #: Since the first waiting change; 0 applies changes at once.
    seconds: float = 0.0
    rows: int = 100_000
    #: Of the values.
    bytes: int = 64 * 1024 * 1024
    #: When changes are due instead of after `seconds`.
    schedule: FlushSchedule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference between a source table and its destination table."""

    table: TableId
    target: str
    problem: str
    #: The statement that ends the difference at the destination. Rosetta never runs it.
    statement: str
    #: Whether the difference can make the destination refuse rows.
    breaks: bool


class Loader(Protocol):
    """One connection that loads copied rows. Used by one thread."""

    def takes_binary(self, table: TableSchema) -> bool:
        """Return whether rows of this table may come in COPY's binary format, which costs both servers less than text."""

    def load(
        self,
        table: TableSchema,
        copied: CopiedRange,
        blocks: Iterable[bytes],
        *,
        binary: bool = False,
        replacing: bool = False,
    ) -> int:
        """Insert the rows of a range and record the range as copied, in one transaction. Return the number of rows.

        The blocks are in COPY's text or binary format. With `replacing`, a row replaces the one with its key; this is used
        for resumed copies of tables with a key. The range may be recorded already then.
        """

    def keep(self, table: TableSchema, blocks: Iterable[bytes]) -> None:
        """Delete all rows except those with these keys: the key columns in order, in COPY's text format."""

    def complete(self, table: TableSchema) -> None:
        """Build what is cheaper to build once all rows are loaded, such as the index of the key.

        Durable on return. A second call has no effect.
        """


class Destination(Protocol):
    """A database that changes are applied to.

    # Order of calls

    1. `open`, then `prepare`.
    2. For tables without a complete copy: `start_copy` or `resume_copy`; any number of loaders, the last of which calls
       `complete`; then `finish_copy`.
    3. `apply` for each batch. Tables may be copied while batches of other tables are applied.
    4. `note` and `record_fingerprints` between two batches, never while one is applied.
    5. `close`.

    `set_aside`, `forget`, `row_counts` and `drift` use connections of their own and need no `open`. All methods except
    `loader` are called from one thread at a time.

    # Exactly once

    `apply` makes the batch and the watermark durable in one transaction, or neither. It raises `WatermarkMoved` when the
    stored watermark is not the one this object read or wrote last, because then another run is writing. A batch may be
    delivered again after a failure; `Held.missing_changes` leaves out what the watermark covers.

    # Errors

    Every error is a `RosettaError`. An error about one table has `broken` set, so that the other tables can go on. After
    an error only `close` may be called. A new object continues from what its `open` reads.

    # What is never destroyed

    No table is dropped or replaced. Missing tables and columns are created; columns dropped at the source stay, and become
    nullable. A table with rows that Rosetta did not write is refused (`TableNotOurs`). Only a copy that starts again
    removes rows and changes columns in place: it empties the table first, so a destination that cannot change a
    column's type may drop and add that column then.

    # Schema changes

    When a batch's table has other columns than the batch before it, the destination table follows in the batch's
    transaction, or before it where DDL is not transactional. `evolution` and the pipeline's policy decide what can be
    followed. Anything else raises `SchemaChangeRefused`.
    """

    #: The name of the destination's row, for messages.
    name: str
    #: How long the changes of the stream may wait before they are applied.
    flush: FlushPolicy

    def open(
        self,
        identity: StreamIdentity,
        is_unwanted: Callable[[], bool] = bool,
        read_types: TypeReader = no_types,
    ) -> Held:
        """Connect and return what is held of this stream. Raise `SlotInvalid` when it is of another cluster or slot.

        Once `is_unwanted()` returns true, calls raise `DestinationUnavailable`: while they wait for the server if the driver
        allows it, otherwise before their next statement.

        `read_types` reads the definitions of user-defined types from the source. A destination that creates such types
        calls it before it creates a column, and when it meets a value that its type does not know.
        """

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        """Widen column types and drop NOT NULL in copied tables where the source has done so.

        The schemas are current and may be ahead of the stream. Raise a `broken` error for a copied table that is missing.
        """

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Create or empty these tables, give them the source's columns, and record that they are copied as of this point.

        The record is written together with the tables, so that a table created here is known as Rosetta's. Durable on
        return. An error about one of the tables has `broken` set.
        """

    def resume_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Record that these begun copies are completed as of this point. Their rows and ranges stay. Durable on return."""

    def loader(self) -> AbstractContextManager[Loader]:
        """Open a connection for one copying thread."""

    def finish_copy(self, table: TableSchema) -> None:
        """Record that the copy of the table is complete. Durable on return."""

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        """Apply the batch and move the watermark in one transaction. Durable on return.

        An empty batch moves the watermark.
        """

    def note(self, lsn: Lsn) -> None:
        """Record that the slot may be confirmed up to this LSN. Durable on return.

        Also called while the pipeline is idle, at most once in `flush.seconds`, so it must be cheap.
        """

    def record_fingerprints(self, tables: Sequence[TableSchema]) -> None:
        """Record the fingerprints that these tables have now, of those whose columns are the recorded ones.

        Durable on return. Nothing may be on its way to the destination.
        """

    def set_aside(self, table: TableId, reason: str) -> None:
        """Record that changes of this table are left out until it is copied again.

        Has no effect on a table whose copy is not complete, since that is copied anyway. Called in any state.
        """

    def forget(self, tables: Sequence[TableId] | None = None) -> None:
        """Forget the copies of these tables, or all copies and the watermark. Rows stay until the next copy starts.

        Called while no changes are applied to these tables.
        """

    def row_counts(self, tables: Sequence[TableId]) -> Mapping[TableId, int]:
        """Return the number of rows of each table, estimated for large ones."""

    def drift(self, tables: Sequence[TableSchema]) -> Sequence[Drift]:
        """Return how the destination tables differ from these schemas."""

    def close(self) -> None:
        """Release every connection. Never raises; may be called twice."""
