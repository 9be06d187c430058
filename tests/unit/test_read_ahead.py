import threading
import time

import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.errors import StreamEnded, ThreadStuck
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.pgoutput import ahead
from rosetta_dagster.cdc.source.pgoutput.ahead import ReadAhead


def delivery(lsn: int) -> Delivery:
    return Delivery(changes=(), watermark=None, lsn=Lsn(lsn), committed_at=None, receipt=lsn)


class FakeStream:
    """Hands over deliveries, then silence, until it is closed or ends with an error."""

    def __init__(self, *lsns: int, error: Exception | None = None) -> None:
        self.left = [delivery(lsn) for lsn in lsns]
        self.error = error
        self.asked = threading.Semaphore(0)
        self.committed: list[Delivery] = []
        self.closed = threading.Event()
        self.held = threading.Event()
        self.held.set()

    def next(self, timeout: float) -> Delivery | None:
        self.asked.release()
        self.held.wait(5)
        if self.left:
            return self.left.pop(0)
        if self.error is not None:
            raise self.error
        self.closed.wait(timeout)
        return None

    def commit(self, delivery: Delivery) -> None:
        self.committed.append(delivery)

    def close(self) -> None:
        self.closed.set()


def next_of(stream: ReadAhead) -> Delivery:
    """The next delivery, however long it takes."""
    while (found := stream.next(0.1)) is None:
        pass
    return found


def test_deliveries_come_in_order_and_then_none() -> None:
    stream = ReadAhead(FakeStream(1, 2, 3))
    assert [1, 2, 3, None] == [
        each and each.lsn for each in (stream.next(5), stream.next(5), stream.next(5), stream.next(0))
    ]
    stream.close()


def test_the_next_delivery_is_made_while_nobody_asks_and_not_the_one_after_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "DELIVERY_LIMIT", 1)
    below = FakeStream(1, 2, 3, 4)
    stream = ReadAhead(below)
    # One waits to be taken, one to be put down.
    assert below.asked.acquire(timeout=5)
    assert below.asked.acquire(timeout=5)
    assert not below.asked.acquire(timeout=0.5)
    assert 2 == len(below.left)
    stream.close()


def test_what_ends_the_stream_is_raised_after_the_last_delivery_each_time() -> None:
    stream = ReadAhead(FakeStream(1, error=StreamEnded("It ended.", "Look.")))
    first = stream.next(5)
    assert first is not None
    assert 1 == first.lsn
    for _ in range(2):
        with pytest.raises(StreamEnded, match="It ended"):
            next_of(stream)
    stream.close()


def test_a_commit_goes_to_the_stream_below() -> None:
    below = FakeStream(1)
    stream = ReadAhead(below)
    first = stream.next(5)
    assert first is not None
    stream.commit(first)
    assert [first] == below.committed
    stream.close()


def test_closing_ends_the_thread_also_while_a_delivery_waits() -> None:
    below = FakeStream(*range(1, ahead.DELIVERY_LIMIT + 3))
    stream = ReadAhead(below)
    deadline = time.monotonic() + 5
    while len(below.left) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    stream.close()
    assert below.closed.is_set()
    assert not [each for each in threading.enumerate() if each.name == "decode"]
    stream.close()


def test_a_thread_that_does_not_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "CLOSE_TIMEOUT", 0.1)
    below = FakeStream(1)
    below.held.clear()
    stream = ReadAhead(below)
    with pytest.raises(ThreadStuck, match="did not end"):
        stream.close()
    below.held.set()
    stream.close()
