"""The contract of a capture engine: it hands over deliveries of changes and takes word of what is durable."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.position import Engine, Lsn, Watermark


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Changes in the stream's order, to be committed once they are durable at every destination.

    It ends with a transaction, unless one transaction is larger than a delivery may be.
    """

    changes: Sequence[Change]
    #: Where the destination stands once it holds these changes; None when there are none.
    watermark: Watermark | None
    #: Up to where the source's log is covered by this delivery and those before it.
    lsn: Lsn
    #: When the last of these transactions was committed at the source.
    committed_at: datetime | None
    #: What the engine needs to commit the delivery; opaque. None when there is nothing to commit yet.
    receipt: object | None


def watermark_of(engine: Engine, changes: Sequence[Change]) -> Watermark | None:
    """Where a destination stands once it holds these changes; None when there are none."""
    if not changes:
        return None
    last = changes[-1]
    return Watermark(engine=engine, position=last.position, xid=last.xid)


class Stream(Protocol):
    """An open stream of changes. `next` and `commit` may each have a thread; `close` may come from a third.

    Deliveries come in order and each transaction's changes are whole and contiguous. After a restart the stream repeats
    everything that was not committed, with the same positions.
    """

    def next(self, timeout: float) -> Delivery | None:
        """The next delivery; None when none came within the timeout in seconds.

        A delivery may hold no changes: then other parts of the log were passed, and committing it moves the slot.
        `StreamEnded` when the engine ended by itself, or what ended it.
        """

    def commit(self, delivery: Delivery) -> None:
        """Let the slot move past the delivery and all before it. Only after every destination made it durable."""

    def close(self) -> None:
        """Stop the engine and wait until its threads and its connections are gone; the server then ends its walsender.

        May be called twice. `ThreadStuck` when the engine does not end: then the process has to.
        """


class Source(Protocol):
    """A capture engine that can be opened at the slot's own position."""

    def open(self, watermarks: Sequence[Watermark]) -> Stream:
        """Begin streaming from the slot. The watermarks are those of all destinations of the pipeline."""
