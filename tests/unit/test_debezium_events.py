from rosetta_dagster.cdc.change.event import UNCHANGED
from tests.support.debezium_batches import Beat, Event, batch_of, event, read


def test_events_and_beats_are_read_in_their_order() -> None:
    items: list[Event | Beat] = [
        Beat(None),
        event("c", None, {"id": "1", "name": "a"}, xid=1, lsn=10, commit_before=None, committed_at=5),
        Beat(20),
        event("t", None, None),
        event("c", None, {"id": "2", "total": b"[1]"}, table="orders"),
    ]
    assert items == list(read(batch_of(items)))


def test_both_images_of_a_row_are_read() -> None:
    both = event("u", {"id": "1", "name": "a"}, {"id": "2", "name": "b"})
    assert [both] == list(read(batch_of([both])))


def test_null_the_empty_text_and_what_was_not_sent_differ_in_each_image() -> None:
    items = [
        event("u", {"a": None, "b": "", "c": "x"}, {"a": "", "b": UNCHANGED, "c": None}),
        event("d", {"a": "1", "b": None, "c": None}, None),
        event("c", None, {"a": "1", "b": "2", "c": None}),
    ]
    assert items == list(read(batch_of(items)))


def test_a_table_without_columns_has_empty_rows() -> None:
    items = [event("c", None, {}), event("c", None, {"id": "1"})]
    assert items == list(read(batch_of(items)))
