"""What a destination has applied is never applied again, and nobody else writes it."""

import pytest

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.errors import DestinationRejected, RosettaError, SlotInvalid, WatermarkMoved
from tests.support.changes import delete, insert, truncate, update
from tests.support.destinations import DestinationKind, make
from tests.support.replica import ITEMS, NOTES, Open, copied_up_to, copy, typed, watermark


class TestExactlyOnce:
    def test_how_far_the_slot_may_move_is_remembered_and_never_taken_back(self, begin: Open) -> None:
        assert begin(ITEMS).held.noted is None
        for lsn in (500, 400):
            begin(ITEMS).destination.note(Lsn(lsn))
        assert 500 == begin(ITEMS).held.noted
        begin(ITEMS).destination.forget()
        assert begin(ITEMS).held.noted is None

    def test_nothing_is_held_before_the_first_copy(self, begin: Open) -> None:
        assert Held() == begin(ITEMS, copied=False).held

    def test_the_watermark_is_what_the_last_batch_wrote(self, begin: Open) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "a", None))
        reached = first.apply(insert(ITEMS, "2", "b", None))
        assert copied_up_to(reached, ITEMS) == begin(ITEMS).held

    def test_a_watermark_of_64_bits_is_read_as_it_was_written(self, begin: Open) -> None:
        first = begin(ITEMS)
        high = Watermark(engine=Engine.PGOUTPUT, position=Position(2**64 - 1, 2**63, 70_000), xid=2**32 - 1)
        first.destination.apply(compact([insert(ITEMS, "1", "a", None)]), high)
        assert high == begin(ITEMS).held.watermark

    def test_an_empty_batch_moves_the_watermark(self, begin: Open) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "a", None))
        reached = first.apply()
        second = begin(ITEMS)
        assert reached == second.held.watermark
        assert [("1", "a", None)] == second.rows(ITEMS)

    def test_a_batch_that_comes_again_after_a_crash_is_done_once(self, begin: Open) -> None:
        # The crash came after the batch was durable and before the source was told so.
        notes = [insert(NOTES, f"note {n}", None, at=Position(n, n, 0), xid=500 + n) for n in range(1, 6)]
        first = begin(NOTES)
        first.destination.apply(compact(notes[:3]), watermark(3))
        first.destination.close()
        second = begin(NOTES)
        left = second.held.missing_changes(notes, Engine.DEBEZIUM)
        assert notes[3:] == left
        second.destination.apply(compact(left), watermark(5))
        assert [(f"note {n}", None) for n in range(1, 6)] == second.rows(NOTES)

    def test_a_copy_and_the_stream_overlap_without_doubling(self, begin: Open) -> None:
        first = begin(NOTES, copied=False)
        copy(first.destination, [NOTES], b"in the copy\t\\N\n")
        held = begin(NOTES).held
        in_copy = insert(NOTES, "in the copy", None, at=Position(1, 1, 0), xid=99)
        after = insert(NOTES, "after", None, at=Position(1, 2, 0), xid=100)
        first.apply(*held.missing_changes([in_copy, after], Engine.DEBEZIUM))
        assert [("after", None), ("in the copy", None)] == first.rows(NOTES)

    @pytest.mark.parametrize("bad", [("not a number", "b"), ("2", None)], ids=["wrong type", "null in the key"])
    def test_a_batch_that_fails_leaves_neither_rows_nor_watermark(self, begin: Open, bad: tuple[str, str | None]) -> None:
        schema = typed({"amount": "integer", "id": "text"}, "id", name="amounts")
        first = begin(ITEMS, schema)
        reached = first.apply(insert(ITEMS, "1", "a", None), insert(schema, "1", "a"))
        with pytest.raises(DestinationRejected):
            first.apply(insert(ITEMS, "2", "b", None), delete(ITEMS, "1"), truncate(schema), insert(schema, *bad))
        first.destination.close()
        second = begin(ITEMS, schema)
        assert reached == second.held.watermark
        assert [("1", "a", None)] == second.rows(ITEMS)
        assert [("1", "a")] == second.rows(schema)
        second.apply(insert(ITEMS, "2", "b", None), insert(schema, "2", "b"))
        assert [("1", "a", None), ("2", "b", None)] == second.rows(ITEMS)

    @pytest.mark.parametrize("row_count", [1, 100])
    def test_an_error_of_the_destination_quotes_no_value(self, begin: Open, row_count: int) -> None:
        schema = typed({"id": "integer", "amount": "integer"}, "id", name="amounts")
        replica = begin(schema)
        with pytest.raises(RosettaError) as caught:
            replica.apply(*(insert(schema, str(n), "a secret") for n in range(row_count)))
        assert "a secret" not in f"{caught.value} {caught.value.__cause__}"
        assert "22P02" in str(caught.value)

    @pytest.mark.parametrize("row_count", [1, 100])
    def test_an_error_of_the_destination_names_the_table_and_the_column(self, begin: Open, row_count: int) -> None:
        schema = typed({"id": "integer", "amount": "integer"}, "id", name="amounts")
        replica = begin(schema)
        with pytest.raises(DestinationRejected, match=r"(?s)amounts.*amount\b"):
            replica.apply(*(insert(schema, str(n), "not a number") for n in range(row_count)))

    def test_a_second_run_that_writes_first_stops_the_other(self, begin: Open) -> None:
        one, other = begin(ITEMS), begin(ITEMS)
        reached = one.apply(insert(ITEMS, "1", "of one", None))
        with pytest.raises(WatermarkMoved):
            other.apply(insert(ITEMS, "2", "of the other", None), update(ITEMS, "1", "of the other", None))
        assert [("1", "of one", None)] == one.rows(ITEMS)
        assert reached == begin(ITEMS).held.watermark

    def test_a_run_that_was_overtaken_later_is_stopped_too(self, begin: Open) -> None:
        begin(ITEMS).apply(insert(ITEMS, "0", "first", None))
        one, other = begin(ITEMS), begin(ITEMS)
        one.apply(insert(ITEMS, "1", "of one", None))
        other_number = 5000
        with pytest.raises(WatermarkMoved):
            other.destination.apply(compact([insert(ITEMS, "2", "of the other", None)]), watermark(other_number))
        one.apply(insert(ITEMS, "3", "of one", None))
        assert [("0", "first", None), ("1", "of one", None), ("3", "of one", None)] == one.rows(ITEMS)

    def test_two_pipelines_keep_watermarks_of_their_own(self, begin: Open) -> None:
        other_identity = StreamIdentity(pipeline="other", system_identifier="7", slot_name="rosetta_other")
        one, other = begin(ITEMS), begin(NOTES, identity=other_identity)
        one_reached = one.apply(insert(ITEMS, "1", "a", None))
        other.apply()
        other_reached = other.apply(insert(NOTES, "a", "b"))
        assert copied_up_to(one_reached, ITEMS) == begin(ITEMS).held
        assert copied_up_to(other_reached, NOTES) == begin(NOTES, identity=other_identity).held


class TestTheStreamItContinues:
    @pytest.mark.parametrize(
        ("system_identifier", "slot_name"),
        [("7000000000000000002", "rosetta_shop"), ("7000000000000000001", "rosetta_other")],
        ids=["another cluster", "another slot"],
    )
    def test_another_stream_is_refused_and_the_old_one_goes_on(
        self, begin: Open, kind: DestinationKind, system_identifier: str, slot_name: str
    ) -> None:
        reached = begin(ITEMS).apply(insert(ITEMS, "1", "a", None))
        foreign = make(kind, [ITEMS])
        with pytest.raises(SlotInvalid):
            foreign.open(StreamIdentity(pipeline="shop", system_identifier=system_identifier, slot_name=slot_name))
        foreign.close()
        assert reached == begin(ITEMS).held.watermark

    def test_what_was_forgotten_may_come_from_another_stream(self, begin: Open) -> None:
        first = begin(NOTES, copied=False)
        copy(first.destination, [NOTES], b"old\t\\N\n")
        first.apply(insert(NOTES, "old too", None))
        first.destination.close()
        first.destination.forget()
        moved = StreamIdentity(pipeline="shop", system_identifier="7000000000000000002", slot_name="rosetta_new")
        second = begin(NOTES, identity=moved, copied=False)
        assert (None, {}) == (second.held.watermark, second.held.copied)
        assert [("old", None), ("old too", None)] == second.rows(NOTES), "rows stay until they are copied again"
        copy(second.destination, [NOTES], b"new\t\\N\n")
        assert [("new", None)] == second.rows(NOTES)

    def test_forgetting_what_was_never_known_does_nothing(self, begin: Open, kind: DestinationKind) -> None:
        make(kind, [ITEMS]).forget()
        assert Held() == begin(ITEMS, copied=False).held

    def test_a_destination_may_be_closed_twice_and_before_it_was_opened(self, begin: Open, kind: DestinationKind) -> None:
        make(kind, [ITEMS]).close()
        replica = begin(ITEMS)
        replica.destination.close()
        replica.destination.close()
        assert [] == begin(ITEMS).rows(ITEMS)
