import itertools
import time
from datetime import timedelta

import pytest

from rosetta_dagster.cdc.change.batch import Merge, compact
from rosetta_dagster.cdc.change.columns import Form
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Operation
from rosetta_dagster.cdc.change.position import Engine, Position, Watermark
from rosetta_dagster.cdc.errors import StreamEnded, ThreadStuck
from rosetta_dagster.cdc.source import transactions
from rosetta_dagster.cdc.source.pgoutput import reader as reader_module
from tests.support.changes import row
from tests.support.pgoutput import (
    COMMITTED_AT,
    ITEMS,
    ITEMS_OID,
    NOTES,
    NOTES_OID,
    OTHER_OID,
    START,
    FakeWalsender,
    begin,
    commit,
    delete,
    deliveries,
    insert,
    inserts,
    keepalive,
    logical_message,
    places,
    reader_of,
    stream_of,
    transaction,
    truncate,
    update,
)

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


def test_a_row_that_was_not_sent_whole_is_distinguished_from_the_others() -> None:
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


def test_each_transaction_counts_from_the_start() -> None:
    # It is not so in one log, but nothing may depend on what the reader has read before.
    reader = reader_of(*transaction(1, 500, *inserts(10, 1)), *transaction(2, 600, *inserts(10, 1)))
    assert [(500, 10, 0), (600, 10, 0)] == places(reader.take_complete())


def test_tables_truncated_together_share_an_lsn_and_are_distinguished() -> None:
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


def test_a_delivery_says_where_it_ends() -> None:
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
    with pytest.raises(ThreadStuck, match="did not close"):
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
def test_within_one_transaction_engines_agree_in_any_order_of_transactions(held: Engine) -> None:
    other = next(engine for engine in Engine if engine is not held)
    watermark = Watermark(engine=held, position=Position(1000, 50, 1), xid=7)
    assert [True, True, False, False] == [
        watermark.covers(Position(transaction_lsn, *place), 7, other)
        for transaction_lsn, place in ((9999, (49, 5)), (9999, (50, 1)), (1, (50, 2)), (1, (51, 0)))
    ]
