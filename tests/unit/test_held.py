from dataclasses import replace

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import Held
from rosetta_dagster.cdc.run.engine import starting_schemas
from tests.support.changes import insert, table

ITEMS = table("id")
ORDERS = table("id", name="orders")


def change(position: tuple[int, int, int], *, xid: int = 1, schema: TableSchema = ITEMS) -> Change:
    return insert(schema, str(position), at=Position(*position), xid=xid)


def held_up_to(*position: int) -> Held:
    transaction_lsn, lsn, ordinal = position
    return Held(watermark=Watermark(engine=Engine.DEBEZIUM, position=Position(transaction_lsn, lsn, ordinal), xid=1))


def copied_at(lsn: int, snapshot: str) -> SnapshotPoint:
    return SnapshotPoint(Lsn(lsn), XidSnapshot.parse(snapshot))


def test_everything_is_missing_at_a_destination_that_holds_nothing() -> None:
    changes = [change((10, 11, 0)), change((20, 21, 0))]
    assert changes == list(Held().missing_changes(changes, Engine.DEBEZIUM))


def test_nothing_is_missing_of_nothing() -> None:
    held = Held(watermark=held_up_to(1, 1, 0).watermark, copied={ITEMS.id: copied_at(1, "1:1:")})
    assert [] == list(held.missing_changes([], Engine.DEBEZIUM))


def test_a_destination_is_missing_what_comes_after_its_watermark_only() -> None:
    changes = [change((10, 11, 0)), change((10, 12, 0)), change((10, 12, 1)), change((20, 5, 0))]
    assert changes[2:] == list(held_up_to(10, 12, 0).missing_changes(changes, Engine.DEBEZIUM))


def test_nothing_is_missing_at_a_destination_that_holds_the_last_change() -> None:
    changes = [change((10, 11, 0)), change((20, 5, 0))]
    assert [] == list(held_up_to(20, 5, 0).missing_changes(changes, Engine.DEBEZIUM))


def test_changes_after_the_watermark_are_handed_on_as_they_are() -> None:
    changes = [change((20, 5, 0)), change((20, 6, 0))]
    assert changes is held_up_to(10, 12, 0).missing_changes(changes, Engine.DEBEZIUM)


def test_a_transaction_that_the_copy_saw_is_held_although_it_committed_later() -> None:
    held = Held(copied={ITEMS.id: copied_at(100, "750:768:760")})
    seen, in_progress, later = (change((50, lsn, 0), xid=xid) for lsn, xid in ((60, 755), (61, 760), (62, 768)))
    assert [in_progress, later] == list(held.missing_changes([seen, in_progress, later], Engine.DEBEZIUM))


def test_each_table_is_judged_by_its_own_copy() -> None:
    held = Held(copied={ITEMS.id: copied_at(100, "700:700:"), ORDERS.id: copied_at(200, "800:800:")})
    changes = [change((50, 60, 0), xid=750), change((50, 61, 0), xid=750, schema=ORDERS)]
    assert changes[:1] == list(held.missing_changes(changes, Engine.DEBEZIUM))


def test_every_change_of_a_table_that_was_not_copied_is_missing() -> None:
    held = Held(copied={ORDERS.id: copied_at(100, "800:800:")})
    changes = [change((50, 60, 0), xid=750)]
    assert changes == list(held.missing_changes(changes, Engine.DEBEZIUM))


def test_a_transaction_behind_one_that_committed_at_the_copys_point_is_in_no_copy() -> None:
    held = Held(copied={ITEMS.id: copied_at(100, "800:800:")})
    changes = [change((100, 110, 0), xid=750)]
    assert changes is held.missing_changes(changes, Engine.DEBEZIUM)


def test_a_transaction_is_looked_at_as_long_as_one_copy_may_hold_it() -> None:
    held = Held(copied={ITEMS.id: copied_at(50, "700:700:"), ORDERS.id: copied_at(101, "800:800:")})
    changes = [change((100, 110, 0), xid=750), change((100, 111, 0), xid=750, schema=ORDERS)]
    assert changes[:1] == list(held.missing_changes(changes, Engine.DEBEZIUM))


def test_the_watermark_is_asked_before_the_copies() -> None:
    watermark = held_up_to(50, 60, 0).watermark
    held = Held(watermark=watermark, copied={ITEMS.id: copied_at(100, "760:760:")})
    before, seen, lacked = change((50, 60, 0), xid=900), change((50, 61, 0), xid=755), change((50, 62, 0), xid=760)
    assert [lacked] == list(held.missing_changes([before, seen, lacked], Engine.DEBEZIUM))


def test_the_stream_begins_with_the_columns_of_the_destination_furthest_behind() -> None:
    now, before = table("id", "added"), table("id")
    ahead, behind = (replace(held_up_to(lsn, lsn, 0), copied={ITEMS.id: copied_at(5, "1:1:")}) for lsn in (30, 20))
    ahead, behind = replace(ahead, schemas={ITEMS.id: now}), replace(behind, schemas={ITEMS.id: before})
    for order in ([ahead, behind], [behind, ahead]):
        assert {ITEMS.id: before} == starting_schemas(order)


def test_a_destination_that_has_set_the_table_aside_does_not_count() -> None:
    now, before = table("id", "added"), table("id")
    copied = {ITEMS.id: copied_at(5, "1:1:")}
    follows = replace(held_up_to(20, 20, 0), copied=copied, schemas={ITEMS.id: now})
    left_out = replace(held_up_to(20, 20, 0), copied=copied, schemas={ITEMS.id: before}, set_aside={ITEMS.id: "It broke."})
    for order in ([follows, left_out], [left_out, follows]):
        assert {ITEMS.id: now} == starting_schemas(order)
    assert {ITEMS.id: before} == starting_schemas([left_out])


def test_the_columns_of_a_copy_are_of_when_it_was_made() -> None:
    now, before = table("id", "added"), table("id")
    behind = replace(held_up_to(20, 20, 0), copied={ITEMS.id: copied_at(5, "1:1:")}, schemas={ITEMS.id: before})
    copied_later = Held(copied={ITEMS.id: copied_at(40, "1:1:")}, schemas={ITEMS.id: now})
    unfinished = Held(schemas={ITEMS.id: now, ORDERS.id: ORDERS})
    for order in ([behind, copied_later, unfinished], [unfinished, copied_later, behind]):
        assert {ITEMS.id: before, ORDERS.id: ORDERS} == starting_schemas(order)
