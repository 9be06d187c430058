from rosetta_dagster.cdc.change.columns import ChangeColumns
from rosetta_dagster.cdc.change.event import UNCHANGED, Operation
from rosetta_dagster.cdc.change.position import Lsn, Position
from rosetta_dagster.cdc.source.debezium.decode import Decoder
from rosetta_dagster.cdc.source.debezium.positions import TransactionLsns
from rosetta_dagster.cdc.source.debezium.reader import Reader
from tests.support.changes import row, table
from tests.support.debezium_batches import Beat, Event, batch_of, event

ITEMS = table("id", "name")
START = Lsn(90)


def insert(xid: int, before: int, lsn: int) -> Event:
    """An insert whose key is its LSN; `before` is the LSN of the COMMIT before the transaction."""
    return event("c", None, {"id": str(lsn), "name": "a"}, xid=xid, lsn=lsn, commit_before=before)


def delete(key: str, xid: int, before: int, lsn: int) -> Event:
    return event("d", {"id": key, "name": None}, None, xid=xid, lsn=lsn, commit_before=before)


def reader_of(*items: Event | Beat) -> Reader:
    decoder = Decoder({ITEMS.id: ITEMS}, {}, lambda _: {ITEMS.id: ITEMS}, "a placeholder")
    reader = Reader(decoder, TransactionLsns(START, []), START)
    reader.read(batch_of(items))
    return reader


def lsns(changes: ChangeColumns) -> list[int]:
    return [change.lsn for change in changes]


def test_a_transaction_is_not_complete_before_anything_follows_it() -> None:
    reader = reader_of(insert(1, 100, 110), insert(1, 100, 120))
    assert [] == lsns(reader.take_complete())
    assert [110, 120] == lsns(reader.changes)


def test_a_transaction_is_complete_when_another_begins() -> None:
    reader = reader_of(insert(1, 100, 110), insert(1, 100, 120), insert(2, 130, 115))
    assert [110, 120] == lsns(reader.take_complete())
    assert [115] == lsns(reader.changes)
    assert [] == lsns(reader.take_complete())


def test_a_transaction_is_complete_when_a_commit_behind_it_was_read() -> None:
    assert [110] == lsns(reader_of(insert(1, 100, 110), Beat(130)).take_complete())


def test_a_commit_before_the_last_transaction_completes_nothing() -> None:
    assert [] == lsns(reader_of(insert(2, 130, 140), Beat(130)).take_complete())


def test_a_commit_before_a_transaction_that_began_early_does_not_complete_it() -> None:
    assert [] == lsns(reader_of(insert(2, 130, 115), Beat(130)).take_complete())


def test_a_commit_completes_nothing_when_nothing_was_read() -> None:
    assert [] == lsns(reader_of(Beat(130)).take_complete())


def test_a_commit_that_was_read_before_completes_nothing_that_came_since() -> None:
    # After a start Debezium tells the COMMIT before the transaction late.
    reader = reader_of(Beat(130), event("c", None, {"id": "1", "name": "a"}, commit_before=None, lsn=140), Beat(130))
    assert [] == lsns(reader.take_complete())


def test_what_was_complete_stays_so_while_more_of_the_next_transaction_comes() -> None:
    reader = reader_of(insert(1, 100, 110), insert(2, 130, 140), insert(2, 130, 150))
    assert [110] == lsns(reader.take_complete())
    assert [140, 150] == lsns(reader.changes)


def test_a_delete_and_an_insert_of_two_statements_stay_two() -> None:
    reader = reader_of(delete("1", 1, 100, 110), insert(1, 100, 120))
    assert [Operation.DELETE, Operation.INSERT] == [each.operation for each in reader.changes]


def test_the_last_change_of_a_cut_transaction_waits_for_its_other_half() -> None:
    reader = reader_of(insert(1, 100, 105), delete("1", 1, 100, 110))
    assert [105] == lsns(reader.take_part())
    other = event("c", None, {"id": "2", "name": UNCHANGED}, xid=1, lsn=110, commit_before=100)
    reader.read(batch_of([other]))
    (joined,) = reader.changes
    assert (Operation.UPDATE, Position(100, 110, 0)) == (joined.operation, joined.position)
    assert (row("2", UNCHANGED), row("1", None)) == (joined.row, joined.old_row)


def test_the_halves_of_a_changed_key_meet_after_earlier_changes_were_taken() -> None:
    reader = reader_of(insert(1, 100, 110), delete("1", 2, 130, 140))
    assert [110] == lsns(reader.take_complete())
    reader.read(batch_of([insert(2, 130, 140)]))
    assert [Operation.UPDATE] == [each.operation for each in reader.changes]


def test_no_part_is_taken_of_nothing_or_of_a_single_change() -> None:
    assert [] == lsns(reader_of().take_part())
    assert [] == lsns(reader_of(insert(1, 100, 110)).take_part())


def test_the_numbers_of_one_lsn_go_on_over_a_cut() -> None:
    reader = reader_of(*[insert(1, 100, 110)] * 3)
    assert [0, 1] == [each.ordinal for each in reader.take_part()]
    reader.read(batch_of([insert(1, 100, 110)]))
    assert [2, 3] == [each.ordinal for each in reader.changes]
