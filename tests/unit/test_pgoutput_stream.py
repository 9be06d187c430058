import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, cast

import pytest

from rosetta_dagster.cdc.change.batch import Merge, compact
from rosetta_dagster.cdc.change.columns import Form
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Operation
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, StreamEnded, StreamStalled, TableReplaced
from rosetta_dagster.cdc.source import transactions
from rosetta_dagster.cdc.source.base import Delivery
from rosetta_dagster.cdc.source.pgoutput import reader as reader_module
from rosetta_dagster.cdc.source.pgoutput.protocol import Relation, RelationColumn
from rosetta_dagster.cdc.source.pgoutput.reader import Reader
from rosetta_dagster.cdc.source.pgoutput.relations import Relations
from rosetta_dagster.cdc.source.pgoutput.stream import PgoutputStream
from rosetta_dagster.cdc.source.pgoutput.walsender import Walsender
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import row, table

from .test_pgoutput_protocol import (
    COMMITTED_AT,
    begin,
    commit,
    delete,
    insert,
    keepalive,
    logical_message,
    relation,
    truncate,
    update,
)

ITEMS = table("id", "name")
NOTES = table("id", "name", name="notes")
ITEMS_OID, NOTES_OID, OTHER_OID = 16385, 16400, 16500
START = Lsn(100)


def column(name: str, oid: int = 25, *, modifier: int = -1, identifies: bool = False) -> RelationColumn:
    return RelationColumn(name, oid, modifier, identifies)


ID, NAME = column("id", identifies=True), column("name")
ITEMS_MESSAGE = relation(ITEMS_OID, "public", "items", "d", ID, NAME)
NOTES_MESSAGE = relation(NOTES_OID, "public", "notes", "d", ID, NAME)
OTHER_MESSAGE = relation(OTHER_OID, "public", "other", "d", ID)


def never(*parameters: object) -> Any:
    pytest.fail(f"the catalog was asked about {parameters}")


def spelled(oid: int, modifier: int) -> str:
    return f"type {oid} of {modifier}"


def relations_of(
    *tables: TableSchema,
    oids: Mapping[TableId, int] | None = None,
    read_schema: Callable[[TableId], TableSchema | None] = never,
    type_name: Any = never,
) -> Relations:
    return Relations({each.id: each for each in tables}, {}, oids or {}, read_schema, type_name)


def schema_of(relations: Relations, oid: int) -> TableSchema | None:
    return relations.find(oid)


def reader_of(*messages: bytes) -> Reader:
    """A reader that knows two tables and has read these messages."""
    reader = Reader(relations_of(ITEMS, NOTES), START)
    for message in (ITEMS_MESSAGE, NOTES_MESSAGE, OTHER_MESSAGE, *messages):
        reader.read_some([message])
    return reader


def transaction(xid: int, commit_lsn: int, *messages: bytes, at: datetime = COMMITTED_AT) -> list[bytes]:
    return [begin(commit_lsn, xid, committed_at=at), *messages, commit(commit_lsn, commit_lsn + 5)]


def inserts(first_lsn: int, count: int) -> list[bytes]:
    return [insert(ITEMS_OID, str(lsn).encode(), b"a", lsn=lsn) for lsn in range(first_lsn, first_lsn + count)]


def places(changes: Sequence[Change]) -> list[tuple[int, int, int]]:
    return [each.position for each in changes]


class FakeWalsender:
    """Hands over lists of messages, one for each call; an empty list stands for a time without any."""

    def __init__(self, *chunks: list[bytes]) -> None:
        self.chunks = deque(chunks)
        self.timeouts: list[float] = []
        self.confirmed: list[int] = []
        self.ends_in_time = True
        self.error: Exception | None = None

    def receive(self, timeout: float) -> list[bytes] | None:
        self.timeouts.append(timeout)
        if not self.chunks:
            if self.error is not None:
                raise self.error
            return None
        return self.chunks.popleft() or None

    def confirm(self, lsn: Lsn) -> None:
        self.confirmed.append(lsn)

    def close(self, timeout: float) -> bool:
        return self.ends_in_time


def stream_of(walsender: Any, *messages: bytes) -> PgoutputStream:
    """A stream whose reader has read these messages."""
    return PgoutputStream(cast(Walsender, walsender), reader_of(*messages))


def deliveries(stream: PgoutputStream) -> list[Delivery]:
    """All deliveries until there is none."""
    return list(iter(lambda: stream.next(0), None))


# --- the reader ---


def test_rows_of_other_tables_take_the_place_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of messages may be longer than the limit without filling it."""
    for limit in range(1, 9):
        monkeypatch.setattr(transactions, "CHANGE_LIMIT", limit)
        for others in itertools.product([False, True], repeat=6):
            rows = [insert(OTHER_OID if other else ITEMS_OID, b"%d" % at, b"", lsn=at) for at, other in enumerate(others)]
            reader = reader_of()
            messages, at, read = transaction(7, 1000, *rows), 0, list[Change]()
            while at < len(messages):
                at = reader.read_some(messages, at)
                read += reader.take_part()
            assert [at for at, other in enumerate(others) if not other] == [change.position.lsn for change in read]


def test_changes_of_every_kind_become_changes_of_their_table() -> None:
    reader = reader_of(
        begin(500, 77),
        insert(ITEMS_OID, b"1", None, lsn=10),
        update(ITEMS_OID, b"1", UNCHANGED, lsn=20),
        update(NOTES_OID, b"2", b"b", old=(b"1", None), lsn=30),
        delete(NOTES_OID, b"2", None, lsn=40),
        truncate(NOTES_OID, lsn=50),
        commit(500, 505),
    )
    assert [
        Change(500, 10, 0, 77, Operation.INSERT, ITEMS, row("1", None), None),
        Change(500, 20, 0, 77, Operation.UPDATE, ITEMS, row("1", UNCHANGED), None),
        Change(500, 30, 0, 77, Operation.UPDATE, NOTES, row("2", "b"), row("1", None)),
        Change(500, 40, 0, 77, Operation.DELETE, NOTES, None, row("2", None)),
        Change(500, 50, 0, 77, Operation.TRUNCATE, NOTES, None, None),
    ] == list(reader.take_complete())


def test_a_row_that_was_not_sent_whole_is_told_from_the_others() -> None:
    """NULLs and long values are sent; what was not sent is taken from the row before."""
    large = b"x" * 1000
    reader = reader_of(
        *transaction(
            1,
            500,
            insert(ITEMS_OID, b"1", None, lsn=10),
            update(ITEMS_OID, b"1", large, lsn=20),
            update(ITEMS_OID, b"1", UNCHANGED, lsn=30),
            delete(NOTES_OID, b"2", b"old", kind=b"O", lsn=40),
        )
    )
    changes = reader.take_complete()
    assert [Form.WHOLE, Form.WHOLE, Form.PARTIAL, Form.OLD_ROW] == [kind.form for kind in changes.kinds]
    assert (Merge([(b"1", large)], []),) == compact(changes).tables[0].steps
    assert row("2", "old") == changes[-1].old_row


def test_nothing_of_a_transaction_is_complete_before_its_commit() -> None:
    reader = reader_of(begin(500, 77), *inserts(10, 3))
    was_between_transactions = reader.is_between_transactions
    assert [] == list(reader.take_complete())
    reader.read_some([commit(500, 505)])
    assert (False, True) == (was_between_transactions, reader.is_between_transactions)
    assert 3 == len(reader.take_complete())
    assert [] == list(reader.take_complete())


def test_the_complete_transactions_are_taken_and_the_last_one_stays() -> None:
    reader = reader_of(*transaction(1, 500, *inserts(10, 2)), begin(600, 2), *inserts(510, 1))
    assert [(500, 10, 0), (500, 11, 0)] == places(reader.take_complete())
    assert [] == list(reader.take_complete())
    reader.read_some([commit(600, 605)])
    assert [(600, 510, 0)] == places(reader.take_complete())


def test_rows_of_one_lsn_are_numbered() -> None:
    rows = [insert(ITEMS_OID, str(n).encode(), b"a", lsn=lsn) for n, lsn in enumerate((10, 10, 10, 20, 30, 30))]
    reader = reader_of(*transaction(1, 500, *rows))
    assert [
        (500, 10, 0), (500, 10, 1), (500, 10, 2), (500, 20, 0), (500, 30, 0), (500, 30, 1),
    ] == places(reader.take_complete())  # fmt: skip


def test_the_numbers_of_one_lsn_go_on_over_a_cut() -> None:
    reader = reader_of(begin(500, 1), insert(ITEMS_OID, b"1", b"a", lsn=10), insert(ITEMS_OID, b"2", b"a", lsn=10))
    first = reader.take_part()
    reader.read_some([insert(ITEMS_OID, b"3", b"a", lsn=10)])
    assert [(500, 10, 0), (500, 10, 1), (500, 10, 2)] == places([*first, *reader.take_part()])


def test_each_transaction_counts_anew() -> None:
    # It is not so in one log, but nothing may depend on what the reader has read before.
    reader = reader_of(*transaction(1, 500, *inserts(10, 1)), *transaction(2, 600, *inserts(10, 1)))
    assert [(500, 10, 0), (600, 10, 0)] == places(reader.take_complete())


def test_tables_truncated_together_share_an_lsn_and_are_told_apart() -> None:
    reader = reader_of(*transaction(1, 500, truncate(ITEMS_OID, OTHER_OID, NOTES_OID, lsn=10)))
    changes = reader.take_complete()
    assert [ITEMS, NOTES] == [each.table for each in changes]
    assert places(changes) == sorted(set(places(changes)))


def test_changes_of_tables_that_are_not_of_the_pipeline_are_skipped() -> None:
    other = [
        insert(OTHER_OID, b"1", lsn=10), update(OTHER_OID, b"1", lsn=20), delete(OTHER_OID, b"1", lsn=30),
        truncate(OTHER_OID, lsn=40),
    ]  # fmt: skip
    reader = reader_of(*transaction(1, 500, *other))
    assert ([], 0, 505) == (list(reader.take_complete()), reader.byte_count, reader.lsn)


def test_what_is_no_change_is_passed_over() -> None:
    unknown = [logical_message(lsn=10), b"w" + bytes(24) + b"O" + bytes(9), b"w" + bytes(24) + b"Y" + bytes(9)]
    reader = reader_of(logical_message(lsn=1), *transaction(1, 500, *unknown, *inserts(20, 1)))
    assert [(500, 20, 0)] == places(reader.take_complete())


def test_the_reader_stands_at_the_end_of_the_last_commit() -> None:
    reader = reader_of(*transaction(1, 500, *inserts(10, 1)), begin(600, 2), *inserts(510, 1))
    assert 505 == reader.lsn


def test_a_keepalive_moves_the_reader_only_between_transactions() -> None:
    reader = reader_of(keepalive(200), begin(500, 1), *inserts(210, 1))
    reader.read_some([keepalive(900)])
    assert 200 == reader.lsn
    reader.read_some([commit(500, 505)])
    assert 505 == reader.lsn
    reader.read_some([keepalive(900)])
    assert 900 == reader.lsn


def test_nothing_moves_the_reader_back() -> None:
    reader = reader_of(keepalive(900), keepalive(800), *transaction(1, 500, *inserts(10, 1)))
    assert 900 == reader.lsn


def test_the_reader_knows_when_the_last_complete_transaction_was_committed() -> None:
    later = COMMITTED_AT + timedelta(hours=1)
    reader = reader_of(*transaction(1, 500, *inserts(10, 1)), begin(600, 2, committed_at=later), *inserts(510, 1))
    assert COMMITTED_AT == reader.complete_at
    reader.read_some([commit(600, 605)])
    assert later == reader.complete_at


def test_the_bytes_of_what_is_left_are_still_counted() -> None:
    whole = reader_of(begin(500, 1), *inserts(10, 2)).byte_count
    reader = reader_of(*transaction(1, 500, *inserts(10, 2)), begin(600, 2), *inserts(51, 2))
    assert 2 * whole == reader.byte_count
    reader.take_complete()
    assert whole == reader.byte_count
    reader.take_part()
    assert 0 == reader.byte_count


def test_a_replay_gives_equal_changes_wherever_the_first_reading_was_cut() -> None:
    copied = [insert(ITEMS_OID, str(n).encode(), b"a", lsn=30) for n in range(4)]
    messages = [
        *transaction(1, 500, *inserts(10, 2), truncate(NOTES_OID, ITEMS_OID, lsn=20)),
        *transaction(2, 600, *copied, delete(OTHER_OID, b"1", lsn=40), *inserts(50, 1)),
        *transaction(3, 700, delete(NOTES_OID, b"1", None, lsn=15)),
    ]
    whole = list(reader_of(*messages).take_complete())
    assert places(whole) == sorted(set(places(whole)))
    for cut in range(len(messages)):
        reader = reader_of(*messages[:cut])
        first = reader.take_part()
        for message in messages[cut:]:
            reader.read_some([message])
        assert whole == [*first, *reader.take_part()]


# --- the stream ---


def test_nothing_at_hand_is_no_delivery_and_waits_as_long_as_was_asked() -> None:
    walsender = FakeWalsender()
    assert stream_of(walsender).next(0.7) is None
    assert 0.7 == walsender.timeouts[0]


def test_a_delivery_tells_where_it_ends() -> None:
    stream = stream_of(FakeWalsender([*transaction(1, 500, *inserts(10, 1)), *transaction(2, 600, *inserts(510, 2))]))
    delivery = stream.next(0)
    assert delivery is not None
    assert [(500, 10, 0), (600, 510, 0), (600, 511, 0)] == places(delivery.changes)
    assert Watermark(engine=Engine.PGOUTPUT, position=Position(600, 511, 0), xid=2) == delivery.watermark
    assert (605, COMMITTED_AT) == (delivery.lsn, delivery.committed_at)
    assert stream.next(0) is None


def test_transactions_that_are_at_hand_come_together_and_none_is_waited_for() -> None:
    chunks = [transaction(n, 500 + 10 * n, *inserts(500 + 10 * n - 5, 1)) for n in range(3)]
    walsender = FakeWalsender(*chunks)
    assert [3] == [len(each.changes) for each in deliveries(stream_of(walsender))]
    walsender = FakeWalsender(*chunks)
    assert 3 == len(getattr(stream_of(walsender).next(0.7), "changes", ()))
    assert [0.7, 0, 0, 0] == walsender.timeouts


def test_the_rest_of_a_transaction_is_waited_for() -> None:
    messages = transaction(1, 500, *inserts(10, 2))
    walsender = FakeWalsender(messages[:2], messages[2:])
    delivery = stream_of(walsender).next(0.7)
    assert delivery is not None
    assert 2 == len(delivery.changes)
    assert [0.7, 0.7, 0] == walsender.timeouts


def test_a_transaction_that_has_not_come_whole_is_not_delivered() -> None:
    messages = transaction(1, 500, *inserts(10, 3))
    walsender = FakeWalsender(messages[:3], [], messages[3:])
    stream = stream_of(walsender)
    assert stream.next(0) is None
    assert [[(500, 10, 0), (500, 11, 0), (500, 12, 0)]] == [places(each.changes) for each in deliveries(stream)]


def test_a_transaction_that_fits_is_not_cut_when_the_limit_is_reached_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 5)
    messages = [m for n in range(1, 7) for m in transaction(n, 100 * n, *inserts(100 * n - 50, 3))]
    made = deliveries(stream_of(FakeWalsender(messages)))
    assert list(range(1, 7)) == [each.changes[0].xid for each in made]
    assert [3] * 6 == [len(each.changes) for each in made]
    assert [100 * n + 5 for n in range(1, 7)] == [each.lsn for each in made]


def test_transactions_are_delivered_as_soon_as_they_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "ENOUGH_CHANGES", 3)
    messages = [m for n, size in enumerate((2, 2, 4, 1), 1) for m in transaction(n, 100 * n, *inserts(100 * n - 50, size))]
    made = deliveries(stream_of(FakeWalsender(messages)))
    # More than enough of one transaction is no reason to cut it.
    assert [[1, 1], [2, 2], [3, 3, 3, 3], [4]] == [[change.xid for change in each.changes] for each in made]


def test_a_transaction_that_is_cut_comes_in_small_parts_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 5)
    monkeypatch.setattr(reader_module, "ENOUGH_CHANGES", 2)
    messages = [*transaction(1, 500, *inserts(10, 10)), *transaction(2, 600, *inserts(510, 4))]
    made = deliveries(stream_of(FakeWalsender(messages)))
    assert [5, 2, 2, 1, 4] == [len(each.changes) for each in made]


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (4, 1, 4), (2, 2, 2, 4), (0, 4, 0, 4, 1)])
@pytest.mark.parametrize("chunk_size", [1, 3, 1000])
def test_every_delivery_of_transactions_that_fit_ends_with_one_of_them(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], chunk_size: int
) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 5)
    messages: list[bytes] = []
    for n, size in enumerate(sizes, 1):
        messages += transaction(n, 100 * n, *inserts(100 * n - 50, size))
    chunks = [messages[at : at + chunk_size] for at in range(0, len(messages), chunk_size)]
    made = deliveries(stream_of(FakeWalsender(*chunks)))
    delivered = [[change.xid for change in each.changes] for each in made]
    assert [n for n, size in enumerate(sizes, 1) for _ in range(size)] == list(itertools.chain.from_iterable(delivered))
    for n in range(1, len(sizes) + 1):
        assert 1 >= sum(n in each for each in delivered)


def test_a_transaction_larger_than_a_delivery_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 3)
    walsender = FakeWalsender(transaction(1, 500, *inserts(10, 7)))
    stream = stream_of(walsender)
    made = deliveries(stream)
    assert [3, 3, 1] == [len(each.changes) for each in made]
    assert [(500, lsn, 0) for lsn in range(10, 17)] == [place for each in made for place in places(each.changes)]
    assert [each.changes[-1].position for each in made] == [each.watermark and each.watermark.position for each in made]
    # The slot may not move into a transaction, and has nowhere else to move.
    assert [START, START, 505] == [each.lsn for each in made]
    for each in made:
        stream.commit(each)
    assert [505] == walsender.confirmed


def test_a_transaction_is_cut_at_its_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [insert(ITEMS_OID, b"1", b"x" * 1000, lsn=lsn) for lsn in range(10, 15)]
    monkeypatch.setattr(transactions, "BYTE_LIMIT", 2000)
    assert [2, 2, 1] == [len(each.changes) for each in deliveries(stream_of(FakeWalsender(transaction(1, 500, *rows))))]


def test_the_end_of_a_large_transaction_moves_the_slot_though_nothing_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 3)
    walsender = FakeWalsender(transaction(1, 500, *inserts(10, 6)))
    stream = stream_of(walsender)
    made = deliveries(stream)
    assert [3, 3, 0] == [len(each.changes) for each in made]
    for each in made:
        stream.commit(each)
    assert [505] == walsender.confirmed


def test_a_large_transaction_does_not_hold_up_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 3)
    walsender = FakeWalsender([*transaction(1, 500, *inserts(10, 1)), *transaction(2, 600, *inserts(510, 7))])
    stream = stream_of(walsender)
    made = deliveries(stream)
    assert [1] == [each.xid for each in made[0].changes]
    assert 505 == made[0].lsn
    assert 7 == sum(len(each.changes) for each in made[1:])
    stream.commit(made[1])
    assert [] == walsender.confirmed


def test_a_part_of_a_large_transaction_is_not_said_to_be_of_the_time_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "CHANGE_LIMIT", 3)
    later = COMMITTED_AT + timedelta(hours=1)
    walsender = FakeWalsender(transaction(1, 500, *inserts(10, 1)), [], transaction(2, 600, *inserts(510, 7), at=later))
    made = deliveries(stream_of(walsender))
    assert [COMMITTED_AT, later] == [made[0].committed_at, made[-1].committed_at]
    assert {later, None}.issuperset(each.committed_at for each in made[1:])


def test_a_transaction_of_other_tables_moves_the_slot_and_changes_nothing() -> None:
    walsender = FakeWalsender(transaction(1, 500, insert(OTHER_OID, b"1", lsn=10), logical_message(lsn=20)))
    stream = stream_of(walsender)
    delivery = stream.next(0)
    assert delivery is not None
    assert ([], None, 505, None) == (list(delivery.changes), delivery.watermark, delivery.lsn, delivery.committed_at)
    stream.commit(delivery)
    assert [505] == walsender.confirmed


def test_a_keepalive_moves_the_slot_between_transactions() -> None:
    walsender = FakeWalsender([keepalive(300)])
    stream = stream_of(walsender)
    delivery = stream.next(0)
    assert delivery is not None
    assert ([], 300) == (list(delivery.changes), delivery.lsn)
    stream.commit(delivery)
    assert [300] == walsender.confirmed


def test_a_keepalive_within_a_transaction_does_not_move_the_slot() -> None:
    messages = transaction(1, 500, *inserts(10, 2))
    walsender = FakeWalsender([*messages[:2], keepalive(900)], [], messages[2:])
    stream = stream_of(walsender)
    assert stream.next(0) is None
    delivery = stream.next(0)
    assert delivery is not None
    assert 505 == delivery.lsn


@pytest.mark.parametrize("lsn", [0, 99, 100])
def test_a_keepalive_that_is_not_ahead_of_the_slot_is_no_delivery(lsn: int) -> None:
    assert stream_of(FakeWalsender([keepalive(lsn)])).next(0) is None


def test_a_change_that_is_repeated_behind_the_slot_is_delivered_and_moves_nothing() -> None:
    walsender = FakeWalsender(transaction(1, 50, *inserts(10, 1)))
    stream = stream_of(walsender)
    delivery = stream.next(0)
    assert delivery is not None
    assert ([(50, 10, 0)], START) == (places(delivery.changes), delivery.lsn)
    stream.commit(delivery)
    assert [] == walsender.confirmed


def test_nothing_is_confirmed_that_was_not_committed() -> None:
    walsender = FakeWalsender(transaction(1, 500, *inserts(10, 1)), [], transaction(2, 600, *inserts(510, 1)))
    stream = stream_of(walsender)
    first, second = deliveries(stream)
    assert [] == walsender.confirmed
    stream.commit(first)
    assert [505] == walsender.confirmed
    stream.commit(second)
    assert [505, 605] == walsender.confirmed


def test_what_ended_the_walsender_is_raised() -> None:
    walsender = FakeWalsender()
    walsender.error = StreamEnded("It is over.", "")
    with pytest.raises(StreamEnded, match=r"It is over\."):
        stream_of(walsender).next(0)


def test_a_connection_that_does_not_end_is_said() -> None:
    walsender = FakeWalsender()
    stream = stream_of(walsender)
    stream.close()
    walsender.ends_in_time = False
    with pytest.raises(StreamStalled, match="did not close"):
        stream.close()


class EndlessWalsender(FakeWalsender):
    """Has transactions of other tables at hand for a while; then the test has failed."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.deadline = time.monotonic() + seconds
        self.is_exhausted = False

    def receive(self, timeout: float) -> list[bytes] | None:
        self.is_exhausted = time.monotonic() > self.deadline
        return None if self.is_exhausted else transaction(1, 500, insert(OTHER_OID, b"1", lsn=10))


def test_tables_of_others_that_never_rest_do_not_keep_the_stream_from_coming_back() -> None:
    walsender = EndlessWalsender(2.0)
    stream_of(walsender).next(0.05)
    assert not walsender.is_exhausted


# --- the tables ---


def test_a_table_that_is_as_the_catalog_said_is_not_looked_up() -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    assert ITEMS is schema_of(relations, 7)


@pytest.mark.parametrize(("namespace", "name"), [("public", "other"), ("other", "items")])
def test_a_table_of_another_name_or_namespace_is_not_of_the_pipeline(namespace: str, name: str) -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, namespace, name, "d", (ID, NAME)))
    assert schema_of(relations, 7) is None


def test_a_table_that_was_replaced_by_one_of_its_name_is_known_by_both_numbers() -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    relations.learn(Relation(8, "public", "items", "d", (ID, NAME)))
    assert (ITEMS, ITEMS) == (schema_of(relations, 7), schema_of(relations, 8))


def test_changes_of_a_renamed_table_go_on_under_its_name_in_the_pipeline() -> None:
    relations = relations_of(ITEMS, oids={ITEMS.id: 7})
    relations.learn(Relation(7, "public", "renamed", "d", (ID, NAME)))
    assert ITEMS is schema_of(relations, 7)


def test_a_renamed_and_altered_table_is_looked_up_under_its_new_name() -> None:
    altered = replace(table("id", "name", "more"), id=TableId("archive", "renamed"))
    relations = relations_of(ITEMS, oids={ITEMS.id: 7}, read_schema={altered.id: altered}.get, type_name=lambda *_: "text")
    relations.learn(Relation(7, "archive", "renamed", "d", (ID, NAME, column("more"))))
    assert replace(altered, id=ITEMS.id) == schema_of(relations, 7)


def test_another_table_under_the_name_is_an_error_of_that_table_to_whoever_misses_its_changes() -> None:
    oids = {ITEMS.id: ITEMS_OID, NOTES.id: NOTES_OID}
    reader = Reader(relations_of(ITEMS, NOTES, oids=oids), START)
    replaced = [
        relation(OTHER_OID, "public", "items", "d", ID, NAME),
        insert(OTHER_OID, b"1", b"a", lsn=10),
        update(OTHER_OID, b"2", b"b", old=(b"1", None), lsn=20),
        delete(OTHER_OID, b"2", None, lsn=30),
        truncate(OTHER_OID, lsn=40),
    ]
    reader.read_some(transaction(1, 500, *replaced, NOTES_MESSAGE, insert(NOTES_OID, b"1", b"a", lsn=50)))
    *unreadable, readable = reader.take_complete()
    assert [(10, None), (20, None), (30, None), (40, None)] == [(each.lsn, each.row) for each in unreadable]
    assert NOTES is readable.table
    for change in unreadable:
        with pytest.raises(TableReplaced, match=r"public\.items was dropped or renamed") as caught:
            compact([change])
        assert BrokenTable(ITEMS.id) == caught.value.broken
        assert caught.value.remedy.endswith(
            "UPDATE pipeline_tables SET resync = true WHERE table_schema = 'public' AND table_name = 'items';"
        )


def test_a_table_that_got_its_name_back_goes_on() -> None:
    relations = relations_of(ITEMS, oids={ITEMS.id: 7}, read_schema={ITEMS.id: ITEMS}.get, type_name=lambda *_: "text")
    for oid, name in ((7, "away"), (8, "items"), (8, "away"), (7, "items")):
        relations.learn(Relation(oid, "public", name, "d", (ID, NAME)))
    assert ITEMS is schema_of(relations, 7)
    assert schema_of(relations, 8) is None


def test_a_table_of_unknown_oid_that_was_renamed_is_no_longer_of_the_pipeline() -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    relations.learn(Relation(7, "public", "renamed", "d", (ID, NAME)))
    assert schema_of(relations, 7) is None


def test_an_altered_table_is_as_its_message_says_and_the_catalog_tells_the_rest() -> None:
    known = Column(
        name="tags", type="now", type_oid=9000, base_oid=1009, element_oid=25, not_null=True, comment="some words"
    )
    catalog = TableSchema(
        # Ahead of the message: one more column, and another order.
        id=ITEMS.id, columns=(known, *ITEMS.columns, Column(name="later", type="int", type_oid=23, base_oid=23)),
        key=("id",), identity=Identity.KEY, comment="about items",
    )  # fmt: skip
    relations = relations_of(ITEMS, read_schema={ITEMS.id: catalog}.get, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, column("gone", 20, modifier=44), column("tags", 9000))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert ("id", "gone", "tags") == schema.column_names
    assert (("id",), Identity.KEY, "about items") == (schema.key, schema.identity, schema.comment)
    assert Column(name="gone", type="type 20 of 44", type_oid=20, base_oid=20) == schema.columns[1]
    assert replace(known, type="type 9000 of -1") == schema.columns[2]


def test_a_column_whose_type_the_catalog_knows_differently_is_of_the_type_in_the_message() -> None:
    catalog = table("id", "name", "price")
    relations = relations_of(ITEMS, read_schema={ITEMS.id: catalog}.get, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME, column("price", 1700, modifier=9))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert ("type 1700 of 9", 1700, 1700, 9, 3) == attrgetter("type", "type_oid", "base_oid", "type_modifier", "number")(
        schema.columns[2]
    )


def test_an_altered_table_that_is_gone_is_read_as_it_was() -> None:
    relations = relations_of(ITEMS, read_schema=lambda _: None, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, column("other", 20))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert (("id", "other"), ("id",)) == (schema.column_names, schema.key)


def test_a_table_that_is_gone_may_have_lost_columns_before() -> None:
    known = table("id", "name", "old")
    relations = relations_of(known, read_schema=lambda _: None, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, column("old"))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert [("id", 1), ("old", 3)] == [(each.name, each.number) for each in schema.columns]


def test_a_table_that_lost_its_key_has_none() -> None:
    keyless = replace(ITEMS, key=())
    relations = relations_of(ITEMS, read_schema=lambda _: keyless, type_name=lambda *_: "text")
    for identity in ("f", "f"):
        relations.learn(Relation(7, "public", "items", identity, (ID, NAME)))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert () == schema.key


def test_what_is_said_twice_is_the_same_table_unless_the_catalog_tells_otherwise() -> None:
    asked: list[TableId] = []

    def read_schema(name: TableId) -> TableSchema:
        asked.append(name)
        return table("id", "name", "more")

    relations = relations_of(ITEMS, read_schema=read_schema, type_name=lambda *_: "text")
    schemas = []
    for oid in (7, 7, 8):
        relations.learn(Relation(oid, "public", "items", "d", (ID, NAME, column("more"))))
        schemas.append(schema_of(relations, oid))
    # The third one has another number, so the same name is of a table that was not there before.
    assert [ITEMS.id] * 2 == asked
    assert schemas[0] is schemas[1] is schemas[2]


@pytest.mark.parametrize(
    ("identity", "columns", "key", "expected"),
    [
        ("d", (ID, NAME), ("id",), Identity.KEY),
        ("i", (ID, NAME), ("id",), Identity.KEY),
        # The index that identified is gone, or there is no primary key.
        ("i", (column("id"), NAME), ("id",), Identity.NOTHING),
        ("d", (column("id"), NAME), ("id",), Identity.NOTHING),
        ("n", (column("id"), NAME), ("id",), Identity.NOTHING),
        # Here all columns identify, which makes none of them a key.
        ("f", (ID, column("name", identifies=True)), ("id",), Identity.FULL),
        # Another index identifies now.
        ("i", (column("id"), column("name", identifies=True)), ("name",), Identity.KEY),
        # The key is no longer among the columns.
        ("f", (column("name", identifies=True),), (), Identity.FULL),
    ],
)
def test_the_message_tells_what_identifies_a_row(
    identity: str, columns: tuple[RelationColumn, ...], key: tuple[str, ...], expected: Identity
) -> None:
    relations = relations_of(ITEMS, read_schema=lambda _: ITEMS, type_name=spelled)
    relations.learn(Relation(7, "public", "items", identity, columns))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert (expected, key) == (schema.identity, schema.key)


def test_a_key_of_many_columns_keeps_the_order_of_the_catalog() -> None:
    known = table("a", "b", "c", key=("c", "a"))
    relations = relations_of(known, read_schema=lambda _: known, type_name=spelled)
    columns = (column("a", identifies=True), column("c", identifies=True))
    relations.learn(Relation(7, "public", "items", "d", columns))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert (("c", "a"), (1, 0)) == (schema.key, schema.key_indexes)


def test_a_key_column_that_the_catalog_has_renamed_already_stays_the_key_of_earlier_changes() -> None:
    # With FULL the message marks every column. Another one has the name here that the key has by now.
    renamed = table("name", "other", "added", key=("name",))
    columns = tuple(column(name, identifies=True) for name in ("id", "name", "added"))
    relations = relations_of(ITEMS, read_schema=lambda _: renamed, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "f", columns))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert ("id",) == schema.key


def test_changes_before_an_alteration_keep_the_old_schema_and_those_after_it_have_the_new() -> None:
    altered = table("id", "name", "more")
    reader = Reader(relations_of(ITEMS, read_schema={ITEMS.id: altered}.get, type_name=lambda *_: "text"), START)
    messages = transaction(
        1, 500, ITEMS_MESSAGE, insert(ITEMS_OID, b"1", b"a", lsn=10),
        relation(ITEMS_OID, "public", "items", "d", ID, NAME, column("more")), insert(ITEMS_OID, b"2", b"b", b"c", lsn=20),
    )  # fmt: skip
    for message in messages:
        reader.read_some([message])
    before, after = reader.take_complete()
    assert (ITEMS, row("1", "a")) == (before.table, before.row)
    assert (altered, row("2", "b", "c")) == (after.table, after.row)


def test_the_log_may_be_older_than_the_catalog_and_catches_up_with_it() -> None:
    altered = table("id", "name", "more")
    relations = relations_of(altered, read_schema=lambda _: altered, type_name=lambda *_: "text")
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    assert ITEMS == schema_of(relations, 7)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME, column("more"))))
    assert altered == schema_of(relations, 7)


# --- what a watermark covers ---

#: One log: for each transaction its number, the commit before it, its own commit, and where its changes are. The last began
#: before the others and is the only one whose changes share an LSN.
LOG = [
    (71, 900, 1000, [(950, 0), (960, 0)]),
    (72, 1000, 1100, [(1010, 0), (1020, 0)]),
    (70, 1100, 1200, [(910, 0), (910, 1)]),
]


def seen_by(engine: Engine) -> list[tuple[Position, int]]:
    """The log's changes, each with its transaction, as an engine places them."""
    return [
        (Position(own if engine is Engine.PGOUTPUT else previous, *place), xid)
        for xid, previous, own, places_ in LOG
        for place in places_
    ]


@pytest.mark.parametrize("reading", list(Engine))
@pytest.mark.parametrize("held", list(Engine))
def test_a_watermark_covers_what_comes_up_to_it_and_nothing_else_for_every_engine(held: Engine, reading: Engine) -> None:
    for last, (position, xid) in enumerate(seen_by(held)):
        watermark = Watermark(engine=held, position=position, xid=xid)
        covered = [watermark.covers(*each, reading) for each in seen_by(reading)]
        assert [number <= last for number in range(6)] == covered


@pytest.mark.parametrize("held", list(Engine))
def test_within_one_transaction_engines_agree_whatever_orders_the_transactions(held: Engine) -> None:
    other = next(engine for engine in Engine if engine is not held)
    watermark = Watermark(engine=held, position=Position(1000, 50, 1), xid=7)
    assert [True, True, False, False] == [
        watermark.covers(Position(transaction_lsn, *place), 7, other)
        for transaction_lsn, place in ((9999, (49, 5)), (9999, (50, 1)), (1, (50, 2)), (1, (51, 0)))
    ]
