from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.event import UNCHANGED, Operation, Value
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, ChangeUndecodable, StreamEnded
from rosetta_dagster.cdc.source import transactions
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.debezium import stream as stream_module
from rosetta_dagster.cdc.source.debezium.decode import Decoder, ReadSchemas
from rosetta_dagster.cdc.source.debezium.engine import EngineThread, Records
from rosetta_dagster.cdc.source.debezium.positions import TransactionLsns
from rosetta_dagster.cdc.source.debezium.reader import Reader
from rosetta_dagster.cdc.source.debezium.stream import DebeziumStream
from rosetta_dagster.cdc.table_id import TableId
from tests.support import debezium_batches
from tests.support.changes import row, table
from tests.support.debezium_batches import Beat, Event

ITEMS = table("id", "name")
PLACEHOLDER = "rosetta-unchanged-0123"
START = Lsn(100)


def event(op: str, key: str, *, xid: int, before: int, lsn: int, at: int = 0, name: str | Value = "a") -> Event:
    """Debezium's event; `before` is the LSN of the COMMIT before the transaction, `at` the second of its commit."""
    image = {"id": key, "name": name}
    images = (image, None) if op == "d" else (None, image)
    return debezium_batches.event(op, *images, xid=xid, lsn=lsn, commit_before=before, committed_at=at * 1_000_000)


@dataclass
class Log:
    """The last beats of the batches that Debezium was told to commit."""

    committed: list[Beat] = field(default_factory=list)


@dataclass
class FakeEngine:
    """Hands over batches that are there already; afterwards it has ended, or is silent."""

    batches: deque[Records]
    ends: bool = False
    timeouts: list[float] = field(default_factory=list)
    closed_within: list[float] = field(default_factory=list)

    def receive(self, timeout: float) -> Records | None:
        self.timeouts.append(timeout)
        if not self.batches and self.ends:
            raise StreamEnded("Debezium ended.", "")
        return self.batches.popleft() if self.batches else None

    def close(self, timeout: float) -> bool:
        self.closed_within.append(timeout)
        return True


@dataclass
class Debezium:
    """A stream over a fake engine, and the log of what it commits."""

    engine: FakeEngine
    stream: DebeziumStream
    log: Log

    def sends(self, *items: Event | Beat) -> None:
        """One more batch."""
        beats = [item for item in items if isinstance(item, Beat)]
        handle = SimpleNamespace(commit=lambda: self.log.committed.append(beats[-1]))
        self.engine.batches.append(Records(debezium_batches.batch_of(items), handle))


@pytest.fixture
def debezium() -> Debezium:
    engine, log = FakeEngine(deque()), Log()
    return Debezium(engine, stream_of(engine, lambda _: {ITEMS.id: ITEMS}), log)


def stream_of(engine: FakeEngine, read_schemas: ReadSchemas) -> DebeziumStream:
    decoder = Decoder({ITEMS.id: ITEMS}, {}, read_schemas, PLACEHOLDER)
    return DebeziumStream(cast(EngineThread, engine), Reader(decoder, TransactionLsns(START, []), START))


def delivered(debezium: Debezium) -> Delivery:
    delivery = debezium.stream.next(0.0)
    assert delivery is not None
    return delivery


def keys(delivery: Delivery) -> list[str]:
    return [str((each.row or each.old_row or ())[0], "ascii") for each in delivery.changes]  # type: ignore[arg-type]


def test_a_silent_engine_delivers_nothing(debezium: Debezium) -> None:
    assert debezium.stream.next(0.5) is None
    assert [0.5] == debezium.engine.timeouts


def test_after_the_first_batch_only_what_is_at_hand_is_waited_for(debezium: Debezium) -> None:
    debezium.sends(Beat(110))
    debezium.sends(Beat(120))
    debezium.stream.next(0.5)
    assert [0.5, 0, 0] == debezium.engine.timeouts


def test_a_transaction_with_a_beat_behind_it_is_delivered_whole(debezium: Debezium) -> None:
    debezium.sends(
        event("c", "1", xid=1, before=100, lsn=110, at=5), event("c", "2", xid=1, before=100, lsn=120, at=5), Beat(130)
    )
    delivery = delivered(debezium)
    assert ["1", "2"] == keys(delivery)
    assert Watermark(engine=Engine.DEBEZIUM, position=Position(100, 120, 0), xid=1) == delivery.watermark
    assert Lsn(130) == delivery.lsn
    assert datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC) == delivery.committed_at


def test_a_transaction_without_anything_behind_it_waits(debezium: Debezium) -> None:
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110))
    assert debezium.stream.next(0.0) is None
    debezium.sends(Beat(130))
    assert ["1"] == keys(delivered(debezium))


def test_a_transaction_across_batches_is_delivered_at_once(debezium: Debezium) -> None:
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110))
    debezium.sends(event("c", "2", xid=1, before=100, lsn=120), Beat(130))
    assert ["1", "2"] == keys(delivered(debezium))


def test_a_transaction_that_a_later_one_follows_is_delivered_without_a_receipt(debezium: Debezium) -> None:
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110), event("c", "2", xid=2, before=130, lsn=140))
    delivery = delivered(debezium)
    assert (["1"], None, START) == (keys(delivery), delivery.receipt, delivery.lsn)


def test_a_delivery_without_a_receipt_commits_nothing(debezium: Debezium) -> None:
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110), event("c", "2", xid=2, before=130, lsn=140))
    debezium.stream.commit(delivered(debezium))
    assert [] == debezium.log.committed


def test_a_beat_alone_is_a_delivery_without_changes(debezium: Debezium) -> None:
    debezium.sends(Beat(130))
    delivery = delivered(debezium)
    assert ([], None, None, Lsn(130)) == (
        list(delivery.changes), delivery.watermark, delivery.committed_at, delivery.lsn,
    )  # fmt: skip


def test_a_beat_is_committed_only_on_request_and_once(debezium: Debezium) -> None:
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110), Beat(130))
    delivery = delivered(debezium)
    assert [] == debezium.log.committed
    debezium.stream.commit(delivery)
    assert [Beat(130)] == debezium.log.committed


def test_of_several_beats_the_last_one_is_committed(debezium: Debezium) -> None:
    debezium.sends(Beat(110), event("c", "1", xid=1, before=110, lsn=120), Beat(130))
    debezium.sends(Beat(140), Beat(150))
    debezium.stream.commit(delivered(debezium))
    assert [Beat(150)] == debezium.log.committed


@pytest.mark.parametrize("commit_lsn", [None, 99, 100])
def test_a_beat_without_a_new_position_is_no_delivery(debezium: Debezium, commit_lsn: int | None) -> None:
    debezium.sends(Beat(commit_lsn))
    assert debezium.stream.next(0.0) is None


def test_a_beat_that_was_delivered_is_not_delivered_again(debezium: Debezium) -> None:
    debezium.sends(Beat(130))
    delivered(debezium)
    debezium.sends(Beat(130))
    assert debezium.stream.next(0.0) is None


def test_a_beat_in_front_of_a_transaction_does_not_complete_it(debezium: Debezium) -> None:
    debezium.sends(Beat(130), event("c", "1", xid=2, before=130, lsn=140))
    delivery = delivered(debezium)
    assert ([], Lsn(130)) == (keys(delivery), delivery.lsn)
    debezium.sends(Beat(150))
    assert ["1"] == keys(delivered(debezium))


def test_a_beat_between_the_halves_of_a_changed_key_does_not_part_them(debezium: Debezium) -> None:
    # Transaction 2 was logged before the one in front of it committed at 130; the beat tells of that commit.
    debezium.sends(event("d", "2", xid=2, before=130, lsn=115), Beat(130))
    first = delivered(debezium)
    debezium.sends(event("c", "3", xid=2, before=130, lsn=115, name=UNCHANGED), Beat(150))
    changes = [*first.changes, *delivered(debezium).changes]
    assert [Operation.UPDATE] == [each.operation for each in changes]


def test_a_key_change_is_joined_across_batches(debezium: Debezium) -> None:
    debezium.sends(event("d", "1", xid=1, before=100, lsn=110, name=None))
    debezium.sends(event("c", "2", xid=1, before=100, lsn=110), Beat(130))
    (only,) = delivered(debezium).changes
    assert (Operation.UPDATE, row("2", "a"), row("1", None)) == (only.operation, only.row, only.old_row)


def test_a_change_that_does_not_fit_its_table_fails_only_where_it_is_wanted(debezium: Debezium) -> None:
    unfit = event("c", "1", xid=1, before=100, lsn=110, name=b"5")
    debezium.sends(unfit, event("c", "2", xid=2, before=130, lsn=140), Beat(150))
    first, second = delivered(debezium).changes
    assert ([Position(100, 110, 0), Position(130, 140, 0)]) == [first.position, second.position]
    assert compact([second]).tables
    with pytest.raises(ChangeUndecodable, match=r"public\.items does not fit") as refused:
        compact([first, second])
    assert BrokenTable(ITEMS.id) == refused.value.broken


def test_a_table_that_debezium_read_again_is_looked_up_before_its_changes() -> None:
    asked: list[TableId] = []

    def read_schemas(tables: Sequence[TableId]) -> dict[TableId, TableSchema]:
        asked.extend(tables)
        return {ITEMS.id: replace(ITEMS, comment=f"look {len(asked)}")}

    engine = FakeEngine(deque())
    made = Debezium(engine, stream_of(engine, read_schemas), Log())
    # Two layouts of one table.
    first, second = (event("c", key, xid=1, before=100, lsn=lsn) for key, lsn in (("1", 110), ("2", 120)))
    second = second._replace(layout=debezium_batches.layout_of("items", ("id",), "s"), after=[b"2"])
    made.sends(first, second, Beat(130))
    assert ["look 1", "look 1"] == [each.table.comment for each in delivered(made).changes]
    assert [ITEMS.id] == asked
    made.sends(Beat(150))
    assert [ITEMS.id] == asked


def test_the_end_of_the_engine_is_reported(debezium: Debezium) -> None:
    debezium.engine.ends = True
    with pytest.raises(StreamEnded):
        debezium.stream.next(0.0)


def test_closing_gives_the_engine_its_time(debezium: Debezium) -> None:
    debezium.stream.close()
    assert [stream_module.CLOSE_TIMEOUT] == debezium.engine.closed_within


def test_a_delivery_ends_when_it_is_full_although_more_is_at_hand(
    debezium: Debezium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 2)
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110), event("c", "2", xid=1, before=100, lsn=120), Beat(130))
    debezium.sends(event("c", "3", xid=2, before=130, lsn=140), Beat(150))
    assert [["1", "2"], ["3"]] == [keys(delivered(debezium)) for _ in range(2)]


def test_a_transaction_beyond_the_limit_is_cut_and_continues_in_order(
    debezium: Debezium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 3)
    for number in range(1, 8):
        debezium.sends(event("c", str(number), xid=1, before=100, lsn=100 + number))
    debezium.sends(Beat(130))
    parts = [delivered(debezium) for _ in range(4)]
    assert [["1", "2"], ["3", "4"], ["5", "6"], ["7"]] == [keys(each) for each in parts]
    assert [None, None, None] == [each.receipt for each in parts[:3]]
    assert [102, 104, 106, 107] == [each.watermark.position.lsn for each in parts if each.watermark]


def test_a_delivery_is_full_by_its_bytes_too(debezium: Debezium, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "BYTE_LIMIT", 500)
    for number in range(1, 4):
        debezium.sends(event("c", str(number), xid=1, before=100, lsn=100 + number, name="x" * 300))
    assert ["1"] == keys(delivered(debezium))
    assert ["2"] == keys(delivered(debezium))


def test_bytes_that_were_delivered_no_longer_count(debezium: Debezium, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "BYTE_LIMIT", 800)
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110, name="x" * 1000), Beat(130))
    delivered(debezium)
    debezium.sends(event("c", "2", xid=2, before=130, lsn=140), event("c", "3", xid=2, before=130, lsn=150))
    assert debezium.stream.next(0.0) is None


def test_complete_transactions_are_delivered_before_a_large_one_is_cut(
    debezium: Debezium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 3)
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110), event("c", "2", xid=2, before=130, lsn=140))
    debezium.sends(event("c", "3", xid=2, before=130, lsn=150), event("c", "4", xid=2, before=130, lsn=160))
    assert ["1"] == keys(delivered(debezium))


def test_a_delivery_has_the_commit_time_of_its_last_transaction(debezium: Debezium) -> None:
    debezium.sends(
        event("c", "1", xid=1, before=100, lsn=110, at=5), event("c", "2", xid=2, before=130, lsn=140, at=6), Beat(150)
    )
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=6)
    assert expected == delivered(debezium).committed_at


def test_a_delivery_does_not_take_the_time_of_a_later_transaction(debezium: Debezium) -> None:
    debezium.sends(event("c", "1", xid=1, before=100, lsn=110, at=5), event("c", "2", xid=2, before=130, lsn=140, at=6))
    assert datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC) == delivered(debezium).committed_at
