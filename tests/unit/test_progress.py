"""How far a destination has come in the stream."""

from rosetta_dagster.cdc.change.position import Engine, Position, Watermark
from rosetta_dagster.cdc.stream.progress import Mark, Progress


def watermark(lsn: int) -> Watermark:
    return Watermark(engine=Engine.PGOUTPUT, position=Position(lsn, lsn, 0), xid=1)


HELD = watermark(10)


def test_a_destination_starts_with_what_it_holds() -> None:
    assert Progress(taken=Mark(0, HELD), durable=Mark(0, HELD)) == Progress.starting_at(HELD)


def test_a_delivery_without_changes_for_it_leaves_the_watermark() -> None:
    progress = Progress.starting_at(HELD).take(1, watermark(20)).take(2, None)
    assert (Mark(2, watermark(20)), Mark(0, HELD)) == (progress.taken, progress.durable)


def test_a_batch_reaches_as_far_as_was_taken_when_it_started() -> None:
    started = Progress.starting_at(HELD).take(1, watermark(20)).start_batch()
    grown = started.take(2, watermark(30))
    assert (Mark(1, watermark(20)), Mark(0, HELD)) == (grown.applying, grown.durable)
    assert Progress(taken=Mark(2, watermark(30)), durable=Mark(1, watermark(20))) == grown.finish_batch()


def test_with_nothing_waiting_every_delivery_is_settled_and_the_watermark_stored() -> None:
    # All changes of the delivery went into spools.
    settled = Progress.starting_at(HELD).take(1, watermark(20)).settle()
    assert (Mark(1, watermark(20)), Mark(1, HELD)) == (settled.taken, settled.durable)
