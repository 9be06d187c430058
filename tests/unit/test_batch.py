from collections import Counter
from itertools import permutations

import pytest

from rosetta_dagster.cdc.change.batch import Batch, Compaction, Merge, Move, Recount, Step, Truncate, compact, complete
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Key, Row
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from tests.support.changes import columns_of, delete, delete_whole, insert, rekey, row, table, truncate, update

ITEMS = table("id", "name", "body")
FULL = table("id", "name", "body", identity=Identity.FULL)
KEYLESS = table("name", "body", key=(), identity=Identity.FULL)
PAIRS = table("a", "note", "b", key=("b", "a"))


def steps_of(*changes: Change) -> tuple[Step, ...]:
    """The steps of the only table that these changes are of; the same when they come as columns."""
    (only,) = compact(changes).tables
    assert (only,) == compact(columns_of(*changes)).tables
    return only.steps


def merge(rows: list[Row], deleted: list[Key] | None = None) -> tuple[Step, ...]:
    return (Merge(rows, deleted or []),)


def test_no_changes_make_an_empty_batch() -> None:
    assert Batch(()) == compact([])


def test_an_insert_is_a_row_to_merge() -> None:
    assert merge([row("1", "a", None)]) == steps_of(insert(ITEMS, "1", "a", None))


def test_a_delete_is_a_key_to_delete() -> None:
    assert merge([], [row("1")]) == steps_of(delete(ITEMS, "1"))


def test_a_delete_of_which_the_whole_row_was_logged_is_a_key_to_delete() -> None:
    assert merge([], [row("1")]) == steps_of(delete_whole(FULL, "1", "a", "b"))


@pytest.mark.parametrize("order", list(permutations("iud")))
def test_of_an_insert_update_and_delete_of_one_key_the_last_one_counts(order: tuple[str, ...]) -> None:
    changes = {
        "i": insert(ITEMS, "1", "inserted", "x"),
        "u": update(ITEMS, "1", "updated", "y"),
        "d": delete(ITEMS, "1"),
    }
    last = {
        "i": merge([row("1", "inserted", "x")]),
        "u": merge([row("1", "updated", "y")]),
        "d": merge([], [row("1")]),
    }
    assert last[order[-1]] == steps_of(*(changes[each] for each in order))


def test_a_row_that_was_deleted_and_inserted_again_replaces_the_old_one() -> None:
    found = steps_of(delete(ITEMS, "1"), insert(ITEMS, "1", "new", None))
    assert merge([row("1", "new", None)]) == found


def test_a_row_that_came_and_went_is_deleted_since_a_repeated_batch_may_meet_it() -> None:
    assert merge([], [row("1")]) == steps_of(insert(ITEMS, "1", "a", "b"), delete(ITEMS, "1"))


def test_every_key_stands_in_a_merge_once() -> None:
    found = steps_of(
        insert(ITEMS, "1", "a", "b"),
        insert(ITEMS, "2", "a", "b"),
        update(ITEMS, "1", "c", "d"),
        delete(ITEMS, "2"),
        delete(ITEMS, "3"),
    )
    assert merge([row("1", "c", "d")], [row("2"), row("3")]) == found


def test_a_value_that_was_not_sent_is_taken_from_an_earlier_row_of_the_batch() -> None:
    found = steps_of(insert(ITEMS, "1", "a", "large"), update(ITEMS, "1", "b", UNCHANGED))
    assert merge([row("1", "b", "large")]) == found


def test_a_value_that_was_not_sent_is_carried_over_several_updates() -> None:
    found = steps_of(
        update(ITEMS, "1", "a", "large"), update(ITEMS, "1", "b", UNCHANGED), update(ITEMS, "1", "c", UNCHANGED)
    )
    assert merge([row("1", "c", "large")]) == found


def test_a_value_that_was_not_sent_after_it_was_set_to_null_stays_null() -> None:
    found = steps_of(insert(ITEMS, "1", "a", "large"), update(ITEMS, "1", "b", None), update(ITEMS, "1", "c", UNCHANGED))
    assert merge([row("1", "c", None)]) == found


def test_a_value_that_the_batch_never_saw_stays_unchanged_while_others_are_filled() -> None:
    wide = table("id", "left", "right")
    found = steps_of(update(wide, "1", UNCHANGED, "r"), update(wide, "1", UNCHANGED, UNCHANGED))
    assert merge([row("1", UNCHANGED, "r")]) == found


def test_a_value_that_was_sent_replaces_one_that_was_not() -> None:
    found = steps_of(update(ITEMS, "1", "a", UNCHANGED), update(ITEMS, "1", "b", "new"))
    assert merge([row("1", "b", "new")]) == found


def test_a_value_that_was_not_sent_is_not_taken_from_another_key() -> None:
    found = steps_of(insert(ITEMS, "2", "a", "large"), update(ITEMS, "1", "b", UNCHANGED))
    assert merge([row("2", "a", "large"), row("1", "b", UNCHANGED)]) == found


def test_a_value_that_was_not_sent_is_taken_from_an_old_row_that_was_logged_whole() -> None:
    found = steps_of(update(FULL, "1", "b", UNCHANGED, old=row("1", "a", "large")))
    assert merge([row("1", "b", "large")]) == found


def test_an_old_row_of_which_only_the_key_was_logged_fills_no_other_column() -> None:
    found = steps_of(update(ITEMS, "1", "b", UNCHANGED, old=row("1", None, None)))
    assert merge([row("1", "b", UNCHANGED)]) == found


def test_a_key_too_large_to_be_sent_again_is_taken_from_the_old_row() -> None:
    found = steps_of(update(ITEMS, UNCHANGED, "b", "c", old=row("large", None, None)))
    assert merge([row("large", "b", "c")]) == found


def test_a_changed_key_with_a_whole_row_deletes_the_old_key_and_merges_the_new() -> None:
    assert merge([row("2", "a", "b")], [row("1")]) == steps_of(rekey(ITEMS, ("1",), "2", "a", "b"))


def test_a_changed_key_with_a_value_not_sent_moves_the_row() -> None:
    assert (Move(row("1"), row("2", "a", UNCHANGED)),) == steps_of(rekey(ITEMS, ("1",), "2", "a", UNCHANGED))


def test_a_changed_key_needs_no_move_when_the_old_row_was_logged_whole() -> None:
    found = steps_of(update(FULL, "2", "a", UNCHANGED, old=row("1", "a", "large")))
    assert merge([row("2", "a", "large")], [row("1")]) == found


def test_a_changed_key_needs_no_move_when_the_batch_knows_the_row() -> None:
    found = steps_of(insert(ITEMS, "1", "a", "large"), rekey(ITEMS, ("1",), "2", "a", UNCHANGED))
    assert merge([row("2", "a", "large")], [row("1")]) == found


def test_a_move_comes_after_what_was_done_before_it_and_before_what_was_done_after() -> None:
    found = steps_of(
        delete(ITEMS, "2"),
        rekey(ITEMS, ("1",), "2", "a", UNCHANGED),
        update(ITEMS, "2", "b", UNCHANGED),
    )
    expected = (
        Merge([], [row("2")]),
        Move(row("1"), row("2", "a", UNCHANGED)),
        Merge([row("2", "b", UNCHANGED)], []),
    )
    assert expected == found


def test_a_key_that_changes_twice_leaves_only_the_last_one() -> None:
    found = steps_of(rekey(ITEMS, ("1",), "2", "a", "b"), rekey(ITEMS, ("2",), "3", "a", "b"))
    assert merge([row("3", "a", "b")], [row("1"), row("2")]) == found


def test_a_value_that_was_not_sent_is_carried_through_a_chain_of_keys() -> None:
    found = steps_of(
        insert(ITEMS, "1", "a", "large"),
        rekey(ITEMS, ("1",), "2", "b", UNCHANGED),
        rekey(ITEMS, ("2",), "3", "c", UNCHANGED),
        update(ITEMS, "3", "d", UNCHANGED),
    )
    assert merge([row("3", "d", "large")], [row("1"), row("2")]) == found


def test_a_chain_of_keys_whose_values_were_never_sent_is_a_chain_of_moves() -> None:
    found = steps_of(rekey(ITEMS, ("1",), "2", "a", UNCHANGED), rekey(ITEMS, ("2",), "3", "b", UNCHANGED))
    assert (Move(row("1"), row("2", "a", UNCHANGED)), Move(row("2"), row("3", "b", UNCHANGED))) == found


def test_a_key_that_comes_back_to_what_it_was_is_kept() -> None:
    found = steps_of(rekey(ITEMS, ("1",), "2", "a", "b"), rekey(ITEMS, ("2",), "1", "c", "d"))
    assert merge([row("1", "c", "d")], [row("2")]) == found


def test_two_keys_are_swapped_through_a_third() -> None:
    found = steps_of(
        rekey(ITEMS, ("1",), "9", "one", "x"),
        rekey(ITEMS, ("2",), "1", "two", "y"),
        rekey(ITEMS, ("9",), "2", "one", "x"),
    )
    assert merge([row("1", "two", "y"), row("2", "one", "x")], [row("9")]) == found


def test_two_keys_whose_values_were_not_sent_are_swapped_by_moves_in_order() -> None:
    found = steps_of(
        rekey(ITEMS, ("1",), "9", "one", UNCHANGED),
        rekey(ITEMS, ("2",), "1", "two", UNCHANGED),
        rekey(ITEMS, ("9",), "2", "one", UNCHANGED),
    )
    expected = [(row("1"), b"9"), (row("2"), b"1"), (row("9"), b"2")]
    assert expected == [(step.old_key, step.row[0]) for step in found if isinstance(step, Move)]
    assert 3 == len(found)


def test_a_composite_key_is_described_by_all_its_columns_in_the_keys_order() -> None:
    found = steps_of(insert(PAIRS, "1", "x", "2"), insert(PAIRS, "2", "y", "1"), delete(PAIRS, "2", "1"))
    assert merge([row("2", "y", "1")], [row("2", "1")]) == found


def test_a_change_of_one_column_of_a_composite_key_is_a_changed_key() -> None:
    assert merge([row("1", "x", "3")], [row("2", "1")]) == steps_of(rekey(PAIRS, ("2", "1"), "1", "x", "3"))


def test_a_truncate_voids_what_was_done_to_the_table_before() -> None:
    found = steps_of(
        insert(ITEMS, "1", "a", "b"),
        rekey(ITEMS, ("2",), "3", "a", UNCHANGED),
        truncate(ITEMS),
        insert(ITEMS, "4", "c", "d"),
    )
    assert (Truncate(), Merge([row("4", "c", "d")], [])) == found


def test_a_truncate_at_the_end_leaves_nothing_else_to_do() -> None:
    assert (Truncate(),) == steps_of(insert(ITEMS, "1", "a", "b"), truncate(ITEMS))


def test_two_truncates_are_one() -> None:
    found = steps_of(truncate(ITEMS), insert(ITEMS, "1", "a", "b"), truncate(ITEMS))
    assert (Truncate(),) == found


def test_a_row_from_before_a_truncate_fills_nothing_after_it() -> None:
    found = steps_of(insert(ITEMS, "1", "a", "large"), truncate(ITEMS), update(ITEMS, "1", "b", UNCHANGED))
    assert (Truncate(), Merge([row("1", "b", UNCHANGED)], [])) == found


def test_a_truncate_of_one_table_leaves_the_others_alone() -> None:
    orders = table("id", "name", "body", name="orders")
    batch = compact([insert(ITEMS, "1", "a", "b"), insert(orders, "1", "c", "d"), truncate(ITEMS)])
    assert [(ITEMS, (Truncate(),)), (orders, merge([row("1", "c", "d")]))] == [
        (each.table, each.steps) for each in batch.tables
    ]


def test_equal_rows_of_a_table_without_a_key_are_counted() -> None:
    found = steps_of(*[insert(KEYLESS, "a", None)] * 3, insert(KEYLESS, "b", None))
    assert (Recount([(row("a", None), 3), (row("b", None), 1)], []),) == found


def test_deleted_rows_of_a_table_without_a_key_are_counted() -> None:
    found = steps_of(*[delete_whole(KEYLESS, "a", "x")] * 2, insert(KEYLESS, "b", "x"))
    assert (Recount([(row("b", "x"), 1)], [(row("a", "x"), 2)]),) == found


def test_of_rows_without_a_key_that_came_and_went_only_the_difference_is_left() -> None:
    found = steps_of(
        insert(KEYLESS, "a", "x"),
        insert(KEYLESS, "a", "x"),
        delete_whole(KEYLESS, "a", "x"),
        insert(KEYLESS, "b", "y"),
        delete_whole(KEYLESS, "b", "y"),
    )
    assert (Recount([(row("a", "x"), 1)], []),) == found


def test_rows_without_a_key_that_cancel_out_leave_no_step() -> None:
    assert () == steps_of(insert(KEYLESS, "a", "x"), delete_whole(KEYLESS, "a", "x"))


def test_an_update_without_a_key_takes_one_row_away_and_brings_one() -> None:
    found = steps_of(update(KEYLESS, "b", "x", old=row("a", "x")))
    assert (Recount([(row("b", "x"), 1)], [(row("a", "x"), 1)]),) == found


def test_an_update_without_a_key_takes_what_was_not_sent_from_the_old_row() -> None:
    found = steps_of(update(KEYLESS, "b", UNCHANGED, old=row("a", "large")))
    assert (Recount([(row("b", "large"), 1)], [(row("a", "large"), 1)]),) == found


def test_an_update_without_a_key_that_changes_nothing_leaves_no_step() -> None:
    assert () == steps_of(update(KEYLESS, "a", "x", old=row("a", "x")))


def test_null_and_the_empty_string_are_different_rows_of_a_table_without_a_key() -> None:
    found = steps_of(insert(KEYLESS, "a", ""), delete_whole(KEYLESS, "a", None))
    assert (Recount([(row("a", ""), 1)], [(row("a", None), 1)]),) == found


def test_a_truncate_voids_the_counts_of_a_table_without_a_key() -> None:
    found = steps_of(insert(KEYLESS, "a", "x"), truncate(KEYLESS), insert(KEYLESS, "b", "y"))
    assert (Truncate(), Recount([(row("b", "y"), 1)], [])) == found


def with_column(schema: TableSchema) -> TableSchema:
    return table(*schema.column_names, "added", key=schema.key, identity=schema.identity, name=schema.id.name)


def test_a_changed_schema_splits_the_work_on_a_table_in_order() -> None:
    wider = with_column(ITEMS)
    batch = compact([insert(ITEMS, "1", "a", "b"), update(wider, "1", "c", "d", "e")])
    assert [(ITEMS, merge([row("1", "a", "b")])), (wider, merge([row("1", "c", "d", "e")]))] == [
        (each.table, each.steps) for each in batch.tables
    ]


def test_a_table_that_is_altered_between_changes_in_columns_loses_none_of_them() -> None:
    wider = with_column(ITEMS)
    changes = [
        insert(ITEMS, "1", "a", "b"),
        insert(wider, "2", "a", "b", "c"),
        delete(wider, "1"),
        insert(wider, "3", "", "", ""),
    ]
    batch = compact(columns_of(*changes))
    assert compact(changes) == batch
    assert [ITEMS, wider] == [each.table for each in batch.tables]


def test_a_table_altered_between_deliveries_in_columns_loses_no_change() -> None:
    orders, wider = table("id", "name", "body", name="orders"), with_column(ITEMS)
    changes = [
        *(insert(orders, "1", "a", "b"), insert(ITEMS, "1", "a", "b")),
        *(delete(orders, "1"), insert(wider, "2", "a", "b", "c")),
        *(insert(orders, "2", "a", "b"), insert(ITEMS, "3", "a", "b")),
        *(insert(ITEMS, "4", "a", "b"), insert(wider, "5", "a", "b", "c")),
    ]
    columns, compaction = columns_of(*changes), Compaction()
    while columns:
        compaction.add(columns.take(2))
    assert compact(changes) == compaction.finish()


def test_a_row_of_the_old_schema_fills_no_row_of_the_new() -> None:
    wider = with_column(ITEMS)
    batch = compact([insert(ITEMS, "1", "a", "large"), update(wider, "1", "c", UNCHANGED, "e")])
    assert merge([row("1", "c", UNCHANGED, "e")]) == batch.tables[-1].steps


def test_a_truncate_under_the_new_schema_comes_after_the_work_under_the_old() -> None:
    wider = with_column(ITEMS)
    batch = compact([insert(ITEMS, "1", "a", "b"), truncate(wider)])
    assert [ITEMS, wider] == [each.table for each in batch.tables]
    assert (Truncate(),) == batch.tables[-1].steps


def test_a_table_that_keeps_its_schema_stays_whole_when_another_changes() -> None:
    orders = table("id", "name", "body", name="orders")
    wider = with_column(ITEMS)
    batch = compact([insert(orders, "1", "a", "b"), insert(ITEMS, "1", "a", "b"), delete(wider, "1"), delete(orders, "1")])
    assert {ITEMS: 1, orders: 1, wider: 1} == Counter(each.table for each in batch.tables)
    assert merge([], [row("1")]) == next(each.steps for each in batch.tables if each.table is orders)


def test_changes_fold_into_the_same_batch_however_they_are_added() -> None:
    changes = [insert(ITEMS, "1", "a", "b"), insert(ITEMS, "2", "a", "b"), delete(ITEMS, "1"), update(ITEMS, "2", "c", "d")]
    compaction = Compaction()
    for change in changes:
        compaction.add([change])
    assert 4 == compaction.change_count
    assert compact(changes) == compaction.finish() == compaction.finish()


def test_a_row_is_completed_only_where_a_value_was_not_sent() -> None:
    assert row("1", "old", None) == complete(row("1", UNCHANGED, None), row("0", "old", "x"))
    assert row("1", UNCHANGED) == complete(row("1", UNCHANGED), None)


# --- the rows that are new ---


def new_rows(*changes: Change) -> list[Row]:
    """The rows of the last merge that the destination cannot hold yet."""
    (batch,) = compact(changes).tables
    merge = batch.steps[-1]
    assert isinstance(merge, Merge)
    return merge.rows[: merge.new_count]


def test_a_row_that_was_inserted_is_new_and_stays_so_when_it_is_changed() -> None:
    found = new_rows(insert(ITEMS, "1", "a"), update(ITEMS, "2", "b"), insert(ITEMS, "3", "c"), update(ITEMS, "3", "d"))
    assert [row("1", "a"), row("3", "d")] == found


def test_a_row_that_was_deleted_before_it_was_inserted_is_not_new() -> None:
    assert [] == new_rows(delete(ITEMS, "1"), insert(ITEMS, "1", "a"))


def test_a_row_that_came_went_and_came_again_is_new() -> None:
    assert [row("1", "b")] == new_rows(insert(ITEMS, "1", "a"), delete(ITEMS, "1"), insert(ITEMS, "1", "b"))


def test_a_row_that_took_another_key_is_not_new() -> None:
    assert [] == new_rows(insert(ITEMS, "1", "a"), rekey(ITEMS, ("1",), "2", "a"))


def test_a_row_inserted_after_a_truncate_is_new_though_its_key_was_deleted_before() -> None:
    assert [row("1", "a")] == new_rows(delete(ITEMS, "1"), truncate(ITEMS), insert(ITEMS, "1", "a"))


def test_a_merge_says_that_its_rows_are_whole_only_when_they_were_sent_so() -> None:
    whole, part = update(ITEMS, "1", "a", "b"), update(ITEMS, "2", "a", UNCHANGED)
    assert [True, False, True] == [
        step.is_whole
        for changes in ([whole], [whole, part], [part, truncate(ITEMS), whole])
        for step in steps_of(*changes)
        if isinstance(step, Merge)
    ]
