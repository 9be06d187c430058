"""The contract of a destination, and what a destination tells of what it already holds."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from rosetta_dagster.cdc.change.batch import Batch
from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.position import Engine, Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """Which stream a watermark continues: positions of another cluster or slot mean nothing."""

    pipeline: str
    #: `system_identifier` of the source's cluster.
    system_identifier: str
    slot_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunCopy:
    """A copy that was broken off."""

    #: What the table looked like; None when that was not noted.
    table: TableSchema | None
    #: The ranges that were copied.
    ranges: frozenset[CopiedRange]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a destination holds of a stream. None of it exists before the pipeline's first snapshot."""

    watermark: Watermark | None = None
    #: The tables whose copy is complete, and the point that each copy stands for.
    copied: Mapping[TableId, SnapshotPoint] = field(default_factory=dict)
    #: The tables whose copy is not.
    begun: Mapping[TableId, BegunCopy] = field(default_factory=dict)
    #: What copied tables looked like at the source when their last change was applied.
    schemas: Mapping[TableId, TableSchema] = field(default_factory=dict)
    #: Tables whose changes are left out since something broke them, and what that was.
    set_aside: Mapping[TableId, str] = field(default_factory=dict)
    #: Up to where a run may have let the slot move.
    noted: Lsn | None = None

    def without_copies(self, lost: Collection[TableId]) -> "Held":
        """The same, with the copies of these tables begun and nothing of them there: they start over."""
        return replace(
            self,
            begun={**self.begun, **{table: BegunCopy(table=None, ranges=frozenset()) for table in lost}},
            schemas={table: schema for table, schema in self.schemas.items() if table not in lost},
        )

    def is_continued_by(self, confirmed_flush_lsn: Lsn) -> bool:
        """Whether a slot that stands there can continue this. One that stands further was made anew, or read by others."""
        bounds = [point.lsn for point in self.copied.values()] + ([] if self.noted is None else [self.noted])
        return not bounds or confirmed_flush_lsn <= max(bounds)

    def lacks(self, changes: Sequence[Change], engine: Engine) -> Sequence[Change]:
        """The changes that the destination does not hold yet, in order; the engine is the one that delivered them."""
        watermark = self.watermark
        if watermark is not None and changes and watermark.covers(changes[0].position, changes[0].xid, engine):
            changes = [change for change in changes if not watermark.covers(change.position, change.xid, engine)]
        if self._is_past_every_copy(changes):
            return changes
        return [change for change in changes if self._follows_the_copy(change)]

    def _is_past_every_copy(self, changes: Sequence[Change]) -> bool:
        """A transaction that follows one which committed after the last copy's point is in no copy."""
        if not changes:
            return True
        first = changes[0].transaction_lsn
        return all(point.lsn <= first for point in self.copied.values())

    def _follows_the_copy(self, change: Change) -> bool:
        point = self.copied.get(change.table.id)
        return point is None or not point.xids.holds(change.xid)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushPolicy:
    """How long changes may be held back so that more of them are applied at once; the first of the three limits counts."""

    #: Since the first change that is held; 0: nothing is held.
    seconds: float = 0.0
    rows: int = 100_000
    #: Of the values.
    bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference between a table of the source and the destination's."""

    #: The table as the source names it, and as the destination does.
    table: TableId
    target: str
    problem: str
    #: What a person would run at the destination to end it. Rosetta runs it never.
    statement: str
    #: Whether the destination may refuse rows because of it.
    breaks: bool


class Loader(Protocol):
    """One connection that loads copied rows; used by one thread."""

    def takes_binary(self, table: TableSchema) -> bool:
        """Whether rows of this table may come in COPY's binary format, which costs both servers less than text."""

    def load(
        self,
        table: TableSchema,
        copied: CopiedRange,
        blocks: Iterable[bytes],
        *,
        binary: bool = False,
        replacing: bool = False,
    ) -> int:
        """Add the rows of a range, in COPY's text or binary format, and note that it is copied; the number of rows.

        Both at once, durable on return. With `replacing`, a row takes the place of one that has its key; only in a copy
        that was resumed, of a table that has a key. The range may be noted already then.
        """

    def keep(self, table: TableSchema, blocks: Iterable[bytes]) -> None:
        """Remove all rows but those with these keys: the key's columns in its order, in COPY's text format."""

    def complete(self, table: TableSchema) -> None:
        """All ranges of the table are loaded: build what is cheaper to build at once, as the index of its key is.

        Durable on return; done again, it does nothing.
        """


class Destination(Protocol):
    """A database that changes are applied to.

    Order: `open`, then `prepare`; then, for tables that are not copied yet, `start_copy` or `resume_copy`, any number of
    loaders, one of which does `complete` at last, and `finish_copy`; then `apply` for each batch. Tables may be copied while
    others are applied to. All but `loader` are called from one thread. Errors are `RosettaError`s, `broken` when they are
    about one table.

    Exactly once: `apply` makes the batch and the watermark durable in one transaction, or neither. It refuses
    (`WatermarkMoved`) when the stored watermark is not the one that it wrote or read last: then another run writes.
    After an error nothing more is called but `close`; a new object continues from what `open` reads.

    Nothing is dropped or replaced, ever: tables and columns are created when missing. A table that holds rows before its
    first copy is refused (`TableNotOurs`); rows of a copy that was broken off are removed when it starts again.

    A batch whose table has other columns than the one before is followed as `evolution` and the pipeline's policy say, in
    the transaction of the batch; `SchemaChangeRefused` otherwise.
    """

    #: The name of the destination's row, for messages.
    name: str
    #: How long the changes of the stream may wait before they are applied.
    flush: FlushPolicy

    def open(self, identity: StreamIdentity, is_unwanted: Callable[[], bool] = bool) -> Held:
        """Connect and read what is held of this stream. `SlotInvalid` when it is of another cluster or slot.

        Whatever is done from now on is broken off with `DestinationUnavailable` once it is not wanted any more: while the
        server is waited for where the driver can do that, before the next statement where it cannot.
        """

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        """Let the columns of copied tables take wider types and NULL, as those of the source do by now.

        The schemas are those of now, maybe ahead of the stream. A copied table that is gone is refused, `broken`.
        """

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Make these tables, or empty them and give them the source's columns; note that they are copied as of this point.

        At once, so that a table which is made is known to be ours; durable on return.
        """

    def resume_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Note that these begun copies are finished as of this point; their rows and ranges stay. Durable on return."""

    def loader(self) -> AbstractContextManager[Loader]:
        """A connection of its own for one copying thread."""

    def finish_copy(self, table: TableSchema) -> None:
        """Note that the copy of the table is complete; durable on return."""

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        """Apply the batch and move the watermark, at once; durable on return. An empty batch moves the watermark."""

    def note(self, lsn: Lsn) -> None:
        """Note that the slot may move up to this LSN from now on; durable on return.

        Called while the pipeline is idle, too, at most once in `flush.seconds`: it must cost next to nothing.
        """

    def record_fingerprints(self, tables: Sequence[TableSchema]) -> None:
        """Record the fingerprints that these tables have now, of those whose columns are the recorded ones.

        Durable on return. Nothing may be on its way to the destination.
        """

    def set_aside(self, table: TableId, reason: str) -> None:
        """Note that changes of this table are left out from now on, until it is copied anew.

        Nothing is noted of a table whose copy is not complete: it is copied anyway. Over a connection of its own, after
        `close`.
        """

    def forget(self, tables: Sequence[TableId] | None = None) -> None:
        """Forget the copies of these tables, or all copies and the watermark; rows stay until they are copied anew.

        Over a connection of its own, while nothing is applied to them.
        """

    def row_counts(self, tables: Sequence[TableId]) -> Mapping[TableId, int]:
        """How many rows these tables hold now, estimated for large ones. Over a connection of its own, at any time."""

    def drift(self, tables: Sequence[TableSchema]) -> Sequence[Drift]:
        """How its tables differ from these. Over a connection of its own, at any time."""

    def close(self) -> None:
        """Release every connection. Never raises; may be called twice."""
