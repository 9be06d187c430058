"""What two looks at the catalog say of the time between them."""

from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.fingerprint import (
    Fingerprint,
    Leaf,
    is_filled_with_null,
    leaf_changes,
    missed_changes_reason,
    unpublished_writes_reason,
)
from rosetta_dagster.cdc.change.schema import Identity, TableSchema, following
from rosetta_dagster.cdc.table_id import TableId

TABLE = Fingerprint(
    oid=100,
    is_partitioned=False,
    row_type="7",
    column_count=2,
    leaves=(Leaf(oid=100, filenode=100),),
    membership="1 5 2 5",
)
PARTITIONED = replace(
    TABLE,
    is_partitioned=True,
    leaves=(Leaf(oid=101, filenode=101, place=" 8 (a)"), Leaf(oid=102, filenode=102, place=" 8 (b)")),
)


def rewritten(table: Fingerprint) -> Fingerprint:
    return replace(table, leaves=tuple(replace(leaf, filenode=leaf.filenode + 1000) for leaf in table.leaves))


@pytest.mark.parametrize("follows_oid", [True, False])
def test_a_table_that_is_the_same_has_no_gap(follows_oid: bool) -> None:
    assert missed_changes_reason(TABLE, TABLE, follows_oid=follows_oid) is None
    assert missed_changes_reason(TABLE, rewritten(TABLE), follows_oid=follows_oid) is None
    assert missed_changes_reason(TABLE, replace(TABLE, column_count=3), follows_oid=follows_oid) is None


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (replace(TABLE, oid=200), "another table has its name"),
        (replace(TABLE, membership=None), "not in the publication"),
        (replace(TABLE, membership="1 5 2 6"), "all the time"),
        (replace(TABLE, unpublished_writes=1), "updated or deleted"),
    ],
)
@pytest.mark.parametrize("follows_oid", [True, False])
def test_what_no_stream_carries_is_a_gap(now: Fingerprint, reason: str, follows_oid: bool) -> None:
    assert reason in (missed_changes_reason(TABLE, now, follows_oid=follows_oid) or "")


def test_a_table_that_had_another_name_is_a_gap_for_who_follows_names() -> None:
    moved = replace(TABLE, row_type="9")
    assert missed_changes_reason(TABLE, moved, follows_oid=True) is None
    assert "renamed" in (missed_changes_reason(TABLE, moved, follows_oid=False) or "")
    # A table that is a member by its schema was none while it was in another one.
    assert "renamed" in (missed_changes_reason(TABLE, replace(moved, is_listed=False), follows_oid=True) or "")


def test_a_table_that_may_have_been_unlogged_is_a_gap_where_the_server_allows_that() -> None:
    by_schema = replace(TABLE, is_listed=False)
    assert "unlogged" in (missed_changes_reason(by_schema, rewritten(by_schema), follows_oid=True) or "")


def test_counts_of_writes_that_were_reset_hide_nothing() -> None:
    before = replace(TABLE, unpublished_writes=5, counted_since="100.5 90.25")
    assert unpublished_writes_reason(before, before) is None
    crashed = replace(before, counted_since="100.5 200.75")
    assert "were reset" in (missed_changes_reason(before, crashed, follows_oid=True) or ""), "as many writes since"
    # An earlier version did not store when they were reset.
    older = replace(TABLE, unpublished_writes=5)
    assert unpublished_writes_reason(older, before) is None
    assert "were reset" in (unpublished_writes_reason(older, replace(before, unpublished_writes=0)) or "")


def test_counts_that_went_with_a_partition_are_no_reset() -> None:
    before = replace(PARTITIONED, unpublished_writes=5, counted_since="100.5 90.25")
    assert unpublished_writes_reason(before, replace(before, leaves=before.leaves[:1], unpublished_writes=2)) is None


def test_writes_that_wait_stay_to_be_compared() -> None:
    before = replace(TABLE, unpublished_writes=5, counted_since="100.5 90.25")
    later = replace(before, columns="new", unpublished_writes=9)
    assert later.counted_as(before) == replace(before, columns="new")


def test_a_truncated_member_of_a_schema_was_not_unlogged() -> None:
    by_schema = replace(TABLE, is_listed=False, toast=500)
    assert missed_changes_reason(by_schema, rewritten(by_schema), follows_oid=True) is None
    other = replace(rewritten(by_schema), toast=501)
    assert "unlogged" in (missed_changes_reason(by_schema, other, follows_oid=True) or "")


@pytest.mark.parametrize("follows_oid", [True, False])
def test_a_label_that_was_renamed_changes_values_and_one_that_was_added_does_not(follows_oid: bool) -> None:
    before = replace(TABLE, type_texts=(("7001", "sad"), ("7100", "1 23 -1,2 25 -1")))
    added = replace(before, type_texts=(*before.type_texts, ("7002", "happy")))
    assert missed_changes_reason(before, added, follows_oid=follows_oid) is None
    assert missed_changes_reason(before, TABLE, follows_oid=follows_oid) is None, "the column was dropped"
    for texts in (("7001", "blue"), before.type_texts[1]), (before.type_texts[0], ("7100", "1 23 -1")):
        now = replace(before, type_texts=texts)
        assert "older rows have other values" in (missed_changes_reason(before, now, follows_oid=follows_oid) or "")


def test_partitions_that_came_went_or_were_rewritten_are_named() -> None:
    first, second = PARTITIONED.leaves
    third = Leaf(oid=103, filenode=103, place=" 9 (c)")
    assert not leaf_changes(PARTITIONED, PARTITIONED)
    assert not leaf_changes(TABLE, rewritten(TABLE))
    attached = leaf_changes(PARTITIONED, replace(PARTITIONED, leaves=(first, second, third)))
    assert ((third,), ()) == (attached.changed, attached.gone)
    dropped = leaf_changes(PARTITIONED, replace(PARTITIONED, leaves=(first,)))
    assert ((), (second,)) == (dropped.changed, dropped.gone)
    emptied = replace(second, filenode=999)
    truncated = leaf_changes(PARTITIONED, replace(PARTITIONED, leaves=(first, emptied)))
    assert ((emptied,), ()) == (truncated.changed, truncated.gone)
    moved = replace(second, place=" 12 (b)")
    away = leaf_changes(PARTITIONED, replace(PARTITIONED, leaves=(first, moved)))
    assert ((moved,), (second,)) == (away.changed, away.gone)


def test_null_in_older_rows_is_certain_only_without_a_rewrite() -> None:
    assert is_filled_with_null(3, TABLE, replace(TABLE, column_count=3))
    assert not is_filled_with_null(3, TABLE, rewritten(TABLE))
    assert not is_filled_with_null(2, TABLE, TABLE), "a column that was generated has a number that was given before"
    attached = replace(PARTITIONED, leaves=(*PARTITIONED.leaves, Leaf(oid=103, filenode=103)))
    assert is_filled_with_null(3, PARTITIONED, attached)


def test_a_change_of_columns_brings_the_types_of_new_ones_and_moves_no_other() -> None:
    table = TableSchema(id=TableId("public", "t"), columns=(), key=(), identity=Identity.KEY)
    known = replace(table, fingerprint=replace(TABLE, type_texts=(("7001", "sad"),)))
    now = replace(known, fingerprint=replace(TABLE, column_count=9, type_texts=(("7001", "blue"), ("7101", "new"))))
    fingerprint = following(known, now).fingerprint
    assert fingerprint is not None
    assert fingerprint.type_texts == (("7001", "sad"), ("7101", "new"))
    assert fingerprint.column_count == 9


def test_a_schema_that_was_altered_is_a_gap_unless_its_rights_changed() -> None:
    before = replace(TABLE, namespace="700", namespace_rights="a")
    renamed, granted = replace(before, namespace="800"), replace(before, namespace="800", namespace_rights="b")
    assert "schema was renamed" in (missed_changes_reason(before, renamed, follows_oid=False) or "")
    assert missed_changes_reason(before, granted, follows_oid=False) is None
    assert missed_changes_reason(before, renamed, follows_oid=True) is None
    assert missed_changes_reason(TABLE, renamed, follows_oid=False) is None, "an earlier version did not record it"
