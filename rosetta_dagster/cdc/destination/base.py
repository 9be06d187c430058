"""The contract of a destination, and what a destination tells of what it already holds."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from rosetta_dagster.cdc.batch import Batch
from rosetta_dagster.cdc.event import Change
from rosetta_dagster.cdc.position import Engine, Lsn, Watermark
from rosetta_dagster.cdc.schema import TableId, TableSchema
from rosetta_dagster.cdc.visibility import SnapshotPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """Which stream a watermark continues: positions of another cluster or slot mean nothing."""

    pipeline: str
    #: `system_identifier` of the source's cluster.
    system_identifier: str
    slot_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a destination holds of a stream. None of it exists before the pipeline's first snapshot."""

    watermark: Watermark | None = None
    #: The tables whose copy is complete, and the point that each copy stands for.
    copied: Mapping[TableId, SnapshotPoint] = field(default_factory=dict)
    #: Up to where a run may have let the slot move.
    noted: Lsn | None = None

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
        return not changes or all(point.lsn <= changes[0].position.transaction_lsn for point in self.copied.values())

    def _follows_the_copy(self, change: Change) -> bool:
        point = self.copied.get(change.table.id)
        return point is None or not point.xids.holds(change.xid)


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

    def load(self, table: TableSchema, blocks: Iterable[bytes]) -> int:
        """Append rows in COPY's text format, durable on return; the number of rows."""


class Destination(Protocol):
    """A database that changes are applied to.

    Order: `open`, then `prepare`; then, for tables that are not copied yet, `start_copy`, any number of loaders,
    `finish_copy`; then `apply` for each batch. All but `loader` are called from one thread. Errors are `RosettaError`s.

    Exactly once: `apply` makes the batch and the watermark durable in one transaction, or neither. It refuses
    (`WatermarkMoved`) when the stored watermark is not the one that it wrote or read last: then another run writes.
    After an error nothing more is called but `close`; a new object continues from what `open` reads.

    Nothing is dropped or replaced, ever: tables and columns are created when missing. A table that holds rows before its
    first copy is refused (`TableNotOurs`); rows of a copy that was broken off are removed when it starts again.
    """

    #: The name of the destination's row, for messages.
    name: str

    def open(self, identity: StreamIdentity) -> Held:
        """Connect and read what is held of this stream. `SlotInvalid` when it is of another cluster or slot."""

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        """Create the tables that are missing, and columns that tables lack."""

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        """Note that these tables are being copied as of this point; durable on return."""

    def loader(self) -> AbstractContextManager[Loader]:
        """A connection of its own for one copying thread."""

    def finish_copy(self, table: TableSchema) -> None:
        """Note that the copy of the table is complete; durable on return."""

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        """Apply the batch and move the watermark, at once; durable on return. An empty batch moves the watermark."""

    def note(self, lsn: Lsn) -> None:
        """Note that the slot may move up to this LSN from now on; durable on return."""

    def forget(self) -> None:
        """Forget the watermark and the copies of the pipeline; its rows stay until they are copied anew.

        Over a connection of its own, while no run has the pipeline.
        """

    def row_counts(self, tables: Sequence[TableId]) -> Mapping[TableId, int]:
        """How many rows these tables hold now, estimated for large ones. Over a connection of its own, at any time."""

    def drift(self, tables: Sequence[TableSchema]) -> Sequence[Drift]:
        """How its tables differ from these. Over a connection of its own, at any time."""

    def close(self) -> None:
        """Release every connection. Never raises; may be called twice."""
