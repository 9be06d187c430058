from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.source.debezium.decode import Decoder
from rosetta_dagster.cdc.source.debezium.positions import TransactionLsns
from rosetta_dagster.cdc.source.debezium.reader import Reader
from tests.support.changes import table
from tests.support.debezium_batches import batch_of, event

#: (xid, lsn, LSN of the COMMIT before, as Debezium tells it)
Event = tuple[int, int, int | None]

ITEMS = table("id")

FLUSHED = Lsn(1000)

#: Three transactions behind the slot's position. The second one began before the first.
STREAM: list[Event] = [(7, 1010, None), (7, 1020, None), (5, 1005, 1100), (9, 1210, 1200), (9, 1210, 1200)]


def positions(events: list[Event], *watermarks: Watermark, flushed: Lsn = FLUSHED) -> list[Position]:
    decoder = Decoder({ITEMS.id: ITEMS}, {}, lambda _: {ITEMS.id: ITEMS}, "a placeholder")
    reader = Reader(decoder, TransactionLsns(flushed, watermarks), flushed)
    reader.read(
        batch_of([event("c", None, {"id": "1"}, xid=xid, lsn=lsn, commit_before=before) for xid, lsn, before in events])
    )
    return [change.position for change in reader.changes]


def watermark(position: Position, xid: int) -> Watermark:
    return Watermark(engine=Engine.DEBEZIUM, position=position, xid=xid)


def test_a_transaction_is_ordered_by_the_commit_before_it() -> None:
    assert [Position(1100, 1005, 0)] == positions([(5, 1005, 1100)])


def test_the_first_transaction_after_a_start_takes_the_slots_position() -> None:
    assert [Position(1000, 1010, 0), Position(1000, 1020, 0)] == positions(STREAM[:2])


def test_every_position_is_greater_than_the_one_before() -> None:
    found = positions(STREAM)
    assert sorted(set(found)) == found
    assert len(STREAM) == len(found)


def test_changes_that_share_an_lsn_are_numbered() -> None:
    events: list[Event] = [(7, 50, 40), (7, 50, 40), (7, 50, 40), (7, 60, 40), (7, 60, 40), (7, 70, 40)]
    assert [(50, 0), (50, 1), (50, 2), (60, 0), (60, 1), (70, 0)] == [each[1:] for each in positions(events)]


def test_the_numbers_begin_again_with_each_transaction() -> None:
    assert [0, 1, 0] == [each.ordinal for each in positions([(7, 50, 40), (7, 50, 40), (8, 50, 55)])]


def test_a_replay_gives_the_same_positions() -> None:
    assert positions(STREAM) == positions(STREAM)


def test_a_transaction_keeps_its_place_when_a_first_commit_is_seen_during_it() -> None:
    assert [1000, 1000] == [each.transaction_lsn for each in positions([(7, 1010, None), (7, 1020, 1005)])]


def test_the_watermarks_transaction_keeps_its_place_as_the_first_of_a_replay() -> None:
    before = positions(STREAM)
    held = before[2]
    after = positions([(5, 1005, None), *STREAM[3:]], watermark(held, 5), flushed=Lsn(1100))
    assert before[2:] == after


def test_only_the_rest_of_a_transaction_that_was_cut_comes_after_the_watermark() -> None:
    events: list[Event] = [(5, 1005, 1100), (5, 1006, 1100), (5, 1006, 1100)]
    held = positions(events)[1]
    replayed = positions([(xid, lsn, None) for xid, lsn, _ in events], watermark(held, 5), flushed=Lsn(1150))
    assert [False, False, True] == [each > held for each in replayed]


def test_a_first_transaction_before_the_watermarks_comes_before_the_watermark() -> None:
    held = positions(STREAM)[2]
    replayed = positions(STREAM, watermark(held, 5))
    assert [True, True, True, False, False] == [each <= held for each in replayed]


def test_a_first_transaction_after_the_watermarks_comes_after_the_watermark() -> None:
    held = positions(STREAM)[2]
    replayed = positions([(9, 1210, None)], watermark(held, 5), flushed=Lsn(1200))
    assert [True] == [each > held for each in replayed]


def test_a_first_transaction_comes_after_the_watermark_of_an_own_first_transaction() -> None:
    held = positions(STREAM[:2])[-1]
    replayed = positions([(5, 1005, None)], watermark(held, 7), flushed=Lsn(1100))
    assert [True] == [each > held for each in replayed]


def test_each_destinations_watermark_places_its_own_transaction() -> None:
    first, second = watermark(Position(900, 1010, 0), 7), watermark(Position(1100, 1005, 0), 5)
    events: list[Event] = [(7, 1010, None), (5, 1005, 1100), (9, 1210, 1200)]
    assert [900, 1100, 1200] == [each.transaction_lsn for each in positions(events, first, second)]


def test_lsns_beyond_32_bits_are_kept_whole() -> None:
    large = 0x16B374D848
    assert [Position(large, large + 8, 0)] == positions([(7, large + 8, large)])


def test_changes_between_two_others_of_one_transaction_do_not_reuse_their_numbers() -> None:
    events: list[Event] = [(7, 50, 40), (8, 50, 55), (8, 50, 55)]
    assert [(40, 0), (55, 0), (55, 1)] == [(each[0], each[2]) for each in positions(events)]


def test_a_transaction_that_got_the_watermarks_xid_again_after_32_bits_is_a_new_one() -> None:
    held = watermark(Position(1100, 1005, 0), 5)
    replayed = positions([(5, 1005, None), (6, 1210, 1200), (5, 900_010, 900_000)], held, flushed=Lsn(1100))
    assert [1100, 1200, 900_000] == [each.transaction_lsn for each in replayed]
