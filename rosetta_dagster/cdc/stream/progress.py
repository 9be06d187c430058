"""Decides how far one destination has come in the stream."""

from typing import NamedTuple

from rosetta_dagster.cdc.change.position import Watermark


class Mark(NamedTuple):
    """A place in the stream, for one destination."""

    #: The number of the last delivery up to here; the run numbers deliveries from 1 as it reads them.
    delivery: int
    #: What the destination stores once it holds every change up to here; None before its first change.
    watermark: Watermark | None


class Progress(NamedTuple):
    """How far one destination has come in the stream: `durable` ≤ `applying` ≤ `taken`.

    `taken`: every change up to here is durable, is being applied, waits in the pending batch, waits in the spool of a table
    that is being copied, or belongs to a table that is set aside.
    `applying`: the batch that is being applied reaches up to here; None when no batch is being applied.
    `durable`: the destination holds every change up to here, except those in a spool: if the run ends before the copy is
    complete, the next run copies the table from scratch. So deliveries up to here may be committed to the source.
    """

    taken: Mark
    durable: Mark
    applying: Mark | None = None

    @classmethod
    def starting_at(cls, watermark: Watermark | None) -> "Progress":
        """Return the progress of a destination that holds the stream up to this watermark, before the first delivery."""
        return cls(taken=Mark(0, watermark), durable=Mark(0, watermark))

    def take(self, delivery: int, watermark: Watermark | None) -> "Progress":
        """Return the progress after this delivery; its watermark is None when it has no change for the destination."""
        return Progress(Mark(delivery, watermark or self.taken.watermark), self.durable, self.applying)

    def start_batch(self) -> "Progress":
        """Return the progress once a batch with everything that was taken is being applied."""
        return Progress(self.taken, self.durable, applying=self.taken)

    def finish_batch(self) -> "Progress":
        """Return the progress once the batch is durable."""
        assert self.applying is not None, "a batch is started before it is finished"
        return Progress(self.taken, durable=self.applying)

    def settle(self) -> "Progress":
        """Return the progress of a destination for which nothing waits: it holds all deliveries that were taken.

        The durable watermark stays: the destination has stored no other one.
        """
        return Progress(self.taken, Mark(self.taken.delivery, self.durable.watermark), self.applying)
