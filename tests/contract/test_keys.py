"""Rows are found by their keys, also while keys change; without a key equal rows are counted."""

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.schema import Identity
from tests.support.changes import delete, delete_whole, insert, rekey, row, update
from tests.support.destinations import DestinationKind
from tests.support.replica import ITEMS, NOTES, PAIRS, Open, typed


class TestKeys:
    def test_a_row_keeps_its_values_under_a_new_key(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "x"), insert(ITEMS, "2", "b", "y"))
        replica.apply(rekey(ITEMS, ("1",), "9", "a", "x"))
        assert [("2", "b", "y"), ("9", "a", "x")] == replica.rows(ITEMS)

    def test_values_that_were_not_sent_move_with_the_key(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "only here"), insert(ITEMS, "2", "b", "y"))
        replica.apply(rekey(ITEMS, ("1",), "9", None, UNCHANGED))
        assert [("2", "b", "y"), ("9", None, "only here")] == replica.rows(ITEMS)

    def test_a_key_that_moved_may_move_again_and_be_written_on(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "only here"))
        replica.apply(
            update(ITEMS, "1", "b", UNCHANGED),
            rekey(ITEMS, ("1",), "2", "b", UNCHANGED),
            update(ITEMS, "2", "c", UNCHANGED),
            rekey(ITEMS, ("2",), "3", "d", UNCHANGED),
            insert(ITEMS, "1", "another", None),
        )
        assert [("1", "another", None), ("3", "d", "only here")] == replica.rows(ITEMS)

    def test_two_rows_swap_their_keys_with_values_that_were_not_sent(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "of a"), insert(ITEMS, "2", "b", "of b"))
        replica.apply(
            rekey(ITEMS, ("1",), "3", UNCHANGED, UNCHANGED),
            rekey(ITEMS, ("2",), "1", UNCHANGED, UNCHANGED),
            rekey(ITEMS, ("3",), "2", UNCHANGED, UNCHANGED),
        )
        assert [("1", "b", "of b"), ("2", "a", "of a")] == replica.rows(ITEMS)

    def test_a_row_may_take_the_key_of_one_that_was_deleted(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "of a"), insert(ITEMS, "2", "b", "of b"))
        replica.apply(delete(ITEMS, "2"), rekey(ITEMS, ("1",), "2", UNCHANGED, UNCHANGED))
        assert [("2", "a", "of a")] == replica.rows(ITEMS)

    def test_every_column_of_a_composite_key_counts(self, begin: Open) -> None:
        replica = begin(PAIRS)
        replica.apply(*(insert(PAIRS, b, "old", a) for a in "12" for b in "12"))
        replica.apply(update(PAIRS, "1", "new", "2"), delete(PAIRS, "1", "1"), rekey(PAIRS, ("2", "2"), "2", UNCHANGED, "3"))
        assert [("1", "new", "2"), ("2", "old", "1"), ("2", "old", "3")] == replica.rows(PAIRS)

    @pytest.mark.parametrize(
        ("kind_of_key", "keys"),
        [
            ("uuid", ("00000000-0000-0000-0000-000000000001", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
            ("text", ("", "a\tb\\\n'\"%s")),
            ("numeric", ("1.10", "-99999999999999999999999999999999.000001")),
            ("bigint", ("-9223372036854775808", "9223372036854775807")),
        ],
    )
    def test_a_key_may_be_of_any_type_that_has_an_order(self, begin: Open, kind_of_key: str, keys: tuple[str, str]) -> None:
        schema = typed({"key": kind_of_key, "value": "text", "more": "text"}, "key")
        replica = begin(schema)
        first, second = keys
        replica.apply(insert(schema, first, "a", "kept"), insert(schema, second, "b", "kept"))
        replica.apply(update(schema, first, "A", UNCHANGED), delete(schema, second))
        assert [(first, "A", "kept")] == replica.rows(schema)
        replica.apply(rekey(schema, (first,), second, UNCHANGED, UNCHANGED))
        assert [(second, "A", "kept")] == replica.rows(schema)

    def test_a_numeric_key_may_change_by_its_scale_only(self, begin: Open) -> None:
        schema = typed({"key": "numeric", "value": "text"}, "key")
        replica = begin(schema)
        replica.apply(insert(schema, "1.0", "a"))
        replica.apply(rekey(schema, ("1.0",), "1.00", "b"))
        assert [("1.00", "b")] == replica.rows(schema)
        replica.apply(rekey(schema, ("1.00",), "1.000", UNCHANGED))
        assert [("1.000", "b")] == replica.rows(schema)


class TestWithoutAKey:
    def test_equal_rows_are_all_kept(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*[insert(NOTES, "same", None)] * 3, insert(NOTES, "other", None))
        replica.apply(insert(NOTES, "same", None))
        assert [("other", None), *[("same", None)] * 4] == replica.rows(NOTES)

    def test_a_delete_takes_one_of_equal_rows(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*[insert(NOTES, "same", "x")] * 5, *[insert(NOTES, "same", None)] * 2)
        replica.apply(delete_whole(NOTES, "same", "x"), delete_whole(NOTES, "same", "x"), delete_whole(NOTES, "same", None))
        assert [("same", "x"), ("same", "x"), ("same", "x"), ("same", None)] == replica.rows(NOTES)

    def test_an_update_changes_one_of_equal_rows(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*[insert(NOTES, "same", "x")] * 3)
        replica.apply(update(NOTES, "new", UNCHANGED, old=row("same", "x")))
        assert [("new", "x"), ("same", "x"), ("same", "x")] == replica.rows(NOTES)

    def test_rows_that_come_and_go_in_one_batch_leave_the_others(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(insert(NOTES, "same", "x"))
        replica.apply(insert(NOTES, "same", "x"), delete_whole(NOTES, "same", "x"), insert(NOTES, "", None))
        assert [("", None), ("same", "x")] == replica.rows(NOTES)

    def test_empty_texts_and_nulls_are_different_rows(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*(insert(NOTES, a, b) for a in ("", None) for b in ("", None)))
        replica.apply(delete_whole(NOTES, "", None))
        assert [("", ""), (None, ""), (None, None)] == replica.rows(NOTES)

    def test_rows_may_hold_types_that_know_no_equality_or_too_much_of_it(self, begin: Open, kind: DestinationKind) -> None:
        schema = typed({"amount": "numeric", "document": "json"}, name="facts", identity=Identity.FULL)
        replica = begin(schema)
        replica.apply(insert(schema, "1.0", "{}"), insert(schema, "1.00", "{}"), insert(schema, "1.00", "{ }"))
        replica.apply(delete_whole(schema, "1.00", "{}"))
        assert [("1.0", kind.printed_json("{}")), ("1.00", kind.printed_json("{ }"))] == replica.rows(schema)
