"""Tables are made, found, altered and given up as the source's schema says."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.schema import Column, Identity, OldRowValues, TableSchema
from rosetta_dagster.cdc.destination.base import BegunCopy, StreamIdentity
from rosetta_dagster.cdc.errors import BrokenTable, DestinationRejected, SchemaChangeRefused, TableNotOurs
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import delete, insert, only, rekey, row, table, update
from tests.support.destinations import DestinationKind
from tests.support.replica import (
    BEGINNING,
    ID,
    IDENTITY,
    ITEMS,
    NOTES,
    PAIRS,
    VALUE,
    Open,
    Replica,
    copy,
    keyless,
    pages,
    typed,
    with_columns,
)


class TestTablesAndColumns:
    def test_pipelines_may_begin_together_at_a_new_destination(self, begin: Open) -> None:
        tables = [table("id", name=f"items_{number}") for number in range(6)]

        def begun(schema: TableSchema) -> Replica:
            identity = StreamIdentity(
                pipeline=schema.id.name, system_identifier=IDENTITY.system_identifier, slot_name=f"slot_{schema.id.name}"
            )
            return begin(schema, identity=identity, namespace="shared")

        with ThreadPoolExecutor(len(tables)) as pool:
            replicas = list(pool.map(begun, tables))
        assert len(tables) == len(replicas)

    def test_missing_tables_are_made_with_their_columns_in_order(self, begin: Open, kind: DestinationKind) -> None:
        assert [] == kind.columns(ITEMS.id)
        begin(ITEMS, PAIRS)
        assert ["id", "name", "size"] == kind.columns(ITEMS.id)
        assert ["b", "value", "a"] == kind.columns(PAIRS.id)

    def test_missing_columns_are_added_and_rows_stay(self, begin: Open, kind: DestinationKind) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        wide = table("id", "name", "size", "last", "least")
        replica = begin(wide)
        replica.apply(insert(wide, "2", "b", "y", "l", "e"), update(wide, "1", UNCHANGED, UNCHANGED, "L", None))
        assert ["id", "name", "size", "last", "least"] == kind.columns(wide.id)
        assert [("1", "a", "x", "L", None), ("2", "b", "y", "l", "e")] == replica.rows(wide)

    def test_a_missing_column_that_may_not_be_null_can_be_added_to_rows_without_it(self, begin: Open) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        more = Column(name="more", type="text", type_oid=25, base_oid=25, not_null=True, number=4)
        wide = TableSchema(id=ITEMS.id, columns=(*ITEMS.columns, more), key=ITEMS.key, identity=Identity.KEY)
        replica = begin(wide)
        replica.apply(insert(wide, "2", "b", "y", "m"))
        assert [("1", "a", "x", None), ("2", "b", "y", "m")] == replica.rows(wide)

    def test_a_column_that_the_source_no_longer_has_is_kept(self, begin: Open, kind: DestinationKind) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        narrow = only(ITEMS, "id", "size")
        begin(narrow).apply(insert(narrow, "2", "y"), update(narrow, "1", "z"))
        assert [("1", "a", "z"), ("2", None, "y")] == kind.rows(ITEMS.id, ITEMS.column_names)

    def test_columns_may_come_and_go_within_one_batch(self, begin: Open) -> None:
        wide = table("id", "name", "size", "colour")
        narrow = only(wide, "id", "colour")
        replica = begin(ITEMS)
        replica.apply(
            insert(ITEMS, "1", "a", "x"),
            update(wide, "1", "b", UNCHANGED, "red"),
            insert(wide, "2", "c", "y", "green"),
            update(narrow, "2", "blue"),
            insert(narrow, "3", "black"),
        )
        assert [("1", "b", "x", "red"), ("2", "c", "y", "blue"), ("3", None, None, "black")] == replica.rows(wide)

    def test_a_column_keeps_its_values_under_another_name(self, begin: Open, kind: DestinationKind) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        renamed = with_columns(ITEMS, name="label")
        replica = begin(renamed)
        replica.apply(insert(renamed, "2", "b", "y"))
        assert ["id", "label", "size"] == kind.columns(ITEMS.id)
        assert [("1", "a", "x"), ("2", "b", "y")] == replica.rows(renamed)

    def test_rows_from_before_a_column_hold_what_it_was_added_with(self, begin: Open) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        wide = table("id", "name", "size", "colour")
        colour = replace(wide.columns[3], filling=OldRowValues.CONSTANT, fill_value="it's \\ red")
        wide = replace(wide, columns=(*wide.columns[:3], colour))
        replica = begin(wide)
        replica.apply(insert(wide, "2", "b", "y", None), update(wide, "1", "A", UNCHANGED, UNCHANGED))
        assert [("1", "A", "x", "it's \\ red"), ("2", "b", "y", None)] == replica.rows(wide)

    def test_columns_are_added_by_changes_that_cancel_each_other_out(self, begin: Open, kind: DestinationKind) -> None:
        replica = begin(NOTES)
        replica.apply(insert(NOTES, "x", "y"))
        wide = keyless("text", "more", "colour")
        colour = replace(wide.columns[2], filling=OldRowValues.CONSTANT, fill_value="red")
        wide = replace(wide, columns=(*wide.columns[:2], colour))
        same = row("x", "y", "red")
        replica.apply(update(wide, "x", "y", "red", old=same))
        assert ["text", "more", "colour"] == kind.columns(NOTES.id)
        assert [("x", "y", "red")] == replica.rows(wide)

    def test_a_key_may_move_as_the_first_thing_after_a_column_came(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "x"))
        wide = table("id", "name", "size", "colour")
        replica.apply(rekey(wide, ("1",), "2", UNCHANGED, UNCHANGED, "red"))
        assert [("2", "a", "x", "red")] == replica.rows(wide)

    def test_a_wider_type_takes_what_the_narrow_one_could_not(self, begin: Open) -> None:
        narrow = typed({"id": "integer", "value": "integer"}, "id")
        begin(narrow).apply(insert(narrow, "1", "2147483647"))
        wide = typed({"id": "integer", "value": "bigint"}, "id")
        replica = begin(narrow)
        replica.apply(insert(narrow, "2", "7"), insert(wide, "3", "2147483648"))
        assert [("1", "2147483647"), ("2", "7"), ("3", "2147483648")] == replica.rows(wide)

    @pytest.mark.parametrize(
        "after",
        [
            typed({"id": "integer", "value": "integer"}, "id"),
            replace(typed({"id": "integer", "value": "text"}, "id"), columns=(ID, replace(VALUE, number=3))),
            replace(typed({"id": "integer", "value": "text"}, "id"), columns=(ID, replace(VALUE, number=0))),
        ],
        ids=["narrower", "dropped and added", "unknown"],
    )
    def test_what_cannot_be_followed_is_refused_for_this_table_alone(self, begin: Open, after: TableSchema) -> None:
        before = typed({"id": "integer", "value": "text"}, "id")
        replica = begin(before, NOTES)
        replica.apply(insert(before, "1", "a"))
        with pytest.raises(SchemaChangeRefused) as raised:
            replica.apply(insert(NOTES, "x", "y"), insert(after, "2", "7"))
        assert raised.value.broken == BrokenTable(before.id, replica.destination.name)
        assert ([("1", "a")], []) == (replica.rows(before), replica.rows(NOTES))
        replica.destination.close()
        replica.destination.set_aside(before.id, "because")
        assert {before.id: "because"} == begin(before, NOTES).held.set_aside

    def test_a_table_that_is_copied_again_gets_the_columns_of_the_source(self, begin: Open) -> None:
        before = typed({"id": "integer", "value": "text"}, "id")
        first = begin(before)
        first.apply(insert(before, "1", "a"))
        first.destination.close()
        first.destination.set_aside(before.id, "because")
        first.destination.forget([before.id])
        after = typed({"id": "integer", "value": "integer", "more": "text"}, "id")
        second = begin(after, copied=False)
        assert {} == second.held.set_aside
        copy(second.destination, [after], b"2\t7\tx\n")
        assert [("2", "7", "x")] == second.rows(after)

    @pytest.mark.parametrize("is_dropped_before", [False, True], ids=["dropped with it", "dropped before"])
    def test_a_key_that_took_the_name_of_a_dropped_column_is_copied_again(
        self, begin: Open, *, is_dropped_before: bool
    ) -> None:
        before = typed({"id": "text", "value": "integer"}, "id")
        first = begin(before)
        first.apply(insert(before, "a", "1"))
        if is_dropped_before:
            first.apply(insert(only(before, "id"), "b"))
        first.destination.close()
        first.destination.forget([before.id])
        after = replace(before, columns=(replace(before.columns[0], name="value"),), key=("value",))
        second = begin(after, copied=False)
        copy(second.destination, [after], b"c\n")
        second.apply(insert(after, "d"), delete(after, "c"))
        assert [("d",)] == second.rows(after)

    def test_a_table_goes_to_its_target(self, begin: Open, kind: DestinationKind) -> None:
        target = TableId("the replica", 'the "items"')
        replica = begin(ITEMS, NOTES, copied=False, targets={ITEMS.id: target})
        copy(replica.destination, [ITEMS], b"1\ta\t\\N\n")
        copy(replica.destination, [NOTES])
        replica.apply(insert(ITEMS, "2", "b", None), insert(NOTES, "x", "y"), rekey(ITEMS, ("1",), "3", UNCHANGED, "z"))
        assert [("2", "b", None), ("3", "a", "z")] == kind.rows(target, ITEMS.column_names)
        assert [("x", "y")] == kind.rows(NOTES.id, NOTES.column_names)
        assert [] == kind.columns(ITEMS.id)
        assert {ITEMS.id: 2} == replica.destination.row_counts([ITEMS.id])

    def test_a_table_with_another_target_is_copied_again_into_it(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS, NOTES)
        first.apply(insert(ITEMS, "1", "old", None), insert(NOTES, "x", "y"))
        first.destination.close()
        first.destination.set_aside(ITEMS.id, "because")
        moved = {ITEMS.id: TableId("kept", "elsewhere")}
        second = begin(ITEMS, NOTES, copied=False, targets=moved)
        assert ({NOTES.id}, {}, {}) == (set(second.held.copied), second.held.begun, second.held.set_aside)
        copy(second.destination, [ITEMS], b"1\tnew\t\\N\n")
        second.apply(update(ITEMS, "1", "newer", UNCHANGED), insert(NOTES, "z", None))
        second.destination.close()
        assert ([("1", "newer", None)], [("x", "y"), ("z", None)]) == (second.rows(ITEMS), second.rows(NOTES))
        assert [("1", "old", None)] == kind.rows(ITEMS.id, ITEMS.column_names)
        assert {ITEMS.id, NOTES.id} == set(begin(ITEMS, NOTES, targets=moved).held.copied)
        # Back where it was, it lacks what passed by; the rows there are somebody's by now.
        third = begin(ITEMS, NOTES, copied=False)
        assert ({NOTES.id}, {}) == (set(third.held.copied), third.held.begun)
        with pytest.raises(TableNotOurs):
            third.destination.start_copy([ITEMS], BEGINNING)

    def test_ranges_that_went_into_another_target_are_not_held_of_this_one(self, begin: Open) -> None:
        first, moved = begin(ITEMS, copied=False), {ITEMS.id: TableId("kept", "items")}
        first.destination.start_copy([ITEMS], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
        first.destination.close()
        second = begin(ITEMS, copied=False, targets=moved)
        assert {} == second.held.begun
        second.destination.start_copy([ITEMS], BEGINNING)
        second.destination.close()
        assert frozenset() == begin(ITEMS, copied=False, targets=moved).held.begun[ITEMS.id].ranges

    def test_a_finished_copy_whose_target_went_away_and_came_back_is_made_again(
        self, begin: Open, kind: DestinationKind
    ) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "old", None))
        first.destination.close()
        # A run that gets no further than to open.
        begin(ITEMS, copied=False, targets={ITEMS.id: TableId("kept", "items")}).destination.close()
        second = begin(ITEMS, copied=False)
        assert ({}, {ITEMS.id}) == (second.held.copied, set(second.held.begun))
        copy(second.destination, [ITEMS], b"2\tnew\t\\N\n")
        assert [("2", "new", None)] == second.rows(ITEMS)

    def test_a_broken_off_copy_whose_table_was_dropped_starts_over(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS, copied=False)
        first.destination.start_copy([ITEMS], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
        first.destination.close()
        kind.drop(ITEMS.id)
        second = begin(ITEMS, copied=False)
        assert ({ITEMS.id: BegunCopy(table=None, ranges=frozenset())}, {}) == (second.held.begun, second.held.schemas)
        copy(second.destination, [ITEMS], b"2\tb\t\\N\n")
        assert [("2", "b", None)] == second.rows(ITEMS)

    def test_ranges_of_a_dropped_table_are_not_held_of_one_that_somebody_made_later(
        self, begin: Open, kind: DestinationKind
    ) -> None:
        first = begin(ITEMS, copied=False)
        first.destination.start_copy([ITEMS], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
        first.destination.close()
        kind.drop(ITEMS.id)
        # A run that gets no further than to open.
        begin(ITEMS, copied=False).destination.close()
        begin(ITEMS, identity=replace(IDENTITY, pipeline="other")).destination.close()
        assert frozenset() == begin(ITEMS, copied=False).held.begun[ITEMS.id].ranges

    def test_an_unfinished_copy_of_a_table_that_left_the_pipeline_is_not_requested(self, begin: Open) -> None:
        first = begin(ITEMS, NOTES, copied=False)
        first.destination.start_copy([ITEMS], BEGINNING)
        first.destination.close()
        second = begin(NOTES)
        second.apply(insert(NOTES, "x", "y"))
        assert [("x", "y")] == second.rows(NOTES)

    def test_a_stream_does_not_continue_on_a_table_that_was_dropped(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS, NOTES)
        first.apply(insert(ITEMS, "1", "a", None), insert(NOTES, "x", "y"))
        first.destination.close()
        kind.drop(ITEMS.id)
        with pytest.raises(DestinationRejected, match="is gone, and with it the rows") as caught:
            begin(ITEMS, NOTES)
        assert caught.value.broken is not None
        assert ITEMS.id == caught.value.broken.table
        first.destination.forget([ITEMS.id])
        third = begin(ITEMS, NOTES, copied=False)
        copy(third.destination, [ITEMS], b"2\tb\t\\N\n")
        assert ([("2", "b", None)], [("x", "y")]) == (third.rows(ITEMS), third.rows(NOTES))

    def test_all_tables_go_to_the_namespace_of_the_destination(self, begin: Open, kind: DestinationKind) -> None:
        replica = begin(ITEMS, NOTES, namespace="Its Own")
        replica.apply(insert(ITEMS, "1", "a", None), insert(NOTES, "x", "y"))
        assert [("1", "a", None)] == kind.rows(TableId("Its Own", "items"), ITEMS.column_names)
        assert [("x", "y")] == kind.rows(TableId("Its Own", "notes"), NOTES.column_names)
        assert [] == kind.columns(ITEMS.id)

    def test_preparing_again_changes_nothing(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "a", None))
        first.destination.prepare([ITEMS])
        assert ["id", "name", "size"] == kind.columns(ITEMS.id)
        assert [("1", "a", None)] == begin(ITEMS).rows(ITEMS)
