from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import StreamStalled
from rosetta_dagster.cdc.source import heartbeat as heartbeat_module
from rosetta_dagster.cdc.source.heartbeat import BEAT_INTERVAL, MESSAGE_PREFIX, STALL_TIMEOUT, Heartbeat

SOURCE = PostgresConnection(host="source", port=5432, database="app", username="rosetta")


@dataclass
class Source:
    """A clock, and a database that prints the LSN of each message it is given."""

    now: float = 1000.0
    prefixes: list[str] = field(default_factory=list)
    open_count: int = 0

    @contextmanager
    def connect(self, connection: PostgresConnection) -> Iterator["Source"]:
        assert connection is SOURCE
        self.open_count += 1
        yield self
        self.open_count -= 1

    def execute(self, query: str, parameters: list[str]) -> "Source":
        assert "pg_logical_emit_message" in query
        self.prefixes += parameters
        return self

    def fetchone(self) -> tuple[str]:
        return (f"0/{len(self.prefixes) * 0x100:X}",)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source()
    monkeypatch.setattr(heartbeat_module, "connect", made.connect)
    monkeypatch.setattr(heartbeat_module, "source_errors", lambda _: nullcontext())
    return made


@pytest.fixture
def heartbeat(source: Source) -> Heartbeat:
    return Heartbeat(SOURCE, "slot_a", clock=lambda: source.now)


def idle_after(seconds: float, source: Source, heartbeat: Heartbeat) -> int:
    """How many messages have been written once the stream was idle after these seconds."""
    source.now += seconds
    heartbeat.idle()
    return len(source.prefixes)


def test_a_stream_that_was_just_opened_gets_no_message(source: Source, heartbeat: Heartbeat) -> None:
    assert 0 == idle_after(BEAT_INTERVAL - 0.1, source, heartbeat)


def test_a_stream_that_is_idle_for_the_interval_gets_a_message_of_its_slot(source: Source, heartbeat: Heartbeat) -> None:
    assert 1 == idle_after(BEAT_INTERVAL, source, heartbeat)
    assert [f"{MESSAGE_PREFIX}slot_a"] == source.prefixes


def test_the_connection_of_a_message_is_closed_again(source: Source, heartbeat: Heartbeat) -> None:
    idle_after(BEAT_INTERVAL, source, heartbeat)
    assert 0 == source.open_count


def test_a_stream_that_is_heard_starts_the_interval_again(source: Source, heartbeat: Heartbeat) -> None:
    source.now += BEAT_INTERVAL - 1
    heartbeat.heard(Lsn(1))
    assert 0 == idle_after(BEAT_INTERVAL - 1, source, heartbeat)
    assert 1 == idle_after(1, source, heartbeat)


def test_there_is_one_message_at_a_time(source: Source, heartbeat: Heartbeat) -> None:
    idle_after(BEAT_INTERVAL, source, heartbeat)
    assert 1 == idle_after(BEAT_INTERVAL * 2, source, heartbeat)


def test_the_next_message_is_written_an_interval_after_the_last_one_was_heard(source: Source, heartbeat: Heartbeat) -> None:
    idle_after(BEAT_INTERVAL, source, heartbeat)
    source.now += 1
    heartbeat.heard(Lsn(0x100))
    assert 1 == idle_after(BEAT_INTERVAL - 0.1, source, heartbeat)
    assert 2 == idle_after(0.1, source, heartbeat)


def test_a_delivery_from_before_the_message_does_not_answer_it(source: Source, heartbeat: Heartbeat) -> None:
    idle_after(BEAT_INTERVAL, source, heartbeat)
    heartbeat.heard(Lsn(0xFF))
    assert 1 == idle_after(BEAT_INTERVAL * 2, source, heartbeat)


def test_a_message_that_gets_lost_means_that_the_stream_is_stalled(source: Source, heartbeat: Heartbeat) -> None:
    idle_after(BEAT_INTERVAL, source, heartbeat)
    with pytest.raises(StreamStalled, match=r"60 seconds.*0/100"):
        idle_after(STALL_TIMEOUT + 0.1, source, heartbeat)


def test_a_message_may_take_as_long_as_the_timeout(source: Source, heartbeat: Heartbeat) -> None:
    idle_after(BEAT_INTERVAL, source, heartbeat)
    assert 1 == idle_after(STALL_TIMEOUT, source, heartbeat)


def test_a_stream_that_delivers_other_things_meanwhile_is_not_stalled(source: Source, heartbeat: Heartbeat) -> None:
    idle_after(BEAT_INTERVAL, source, heartbeat)
    source.now += STALL_TIMEOUT
    heartbeat.heard(Lsn(0x10))
    assert 1 == idle_after(STALL_TIMEOUT, source, heartbeat)
    with pytest.raises(StreamStalled):
        idle_after(0.1, source, heartbeat)


def test_a_quiet_stream_is_never_stalled_while_it_answers(source: Source, heartbeat: Heartbeat) -> None:
    for number in range(1, 20):
        assert number == idle_after(STALL_TIMEOUT * 2, source, heartbeat)
        heartbeat.heard(Lsn(number * 0x100))


def test_a_message_that_could_not_be_written_is_tried_again(
    source: Source, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: PostgresConnection) -> None:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(heartbeat_module, "connect", refuse)
        with pytest.raises(ConnectionError):
            idle_after(BEAT_INTERVAL, source, heartbeat)
    assert 1 == idle_after(0, source, heartbeat)
