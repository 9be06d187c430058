"""What two looks at the catalog say of the time between them."""

from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.fingerprint import (
    Fingerprint,
    Leaf,
    is_filled_with_null,
    leaf_changes,
    missed_changes_reason,
)

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


def test_counts_of_writes_that_were_reset_are_no_gap() -> None:
    before = replace(TABLE, unpublished_writes=5)
    assert missed_changes_reason(before, replace(TABLE, unpublished_writes=0), follows_oid=True) is None
    assert missed_changes_reason(before, replace(TABLE, unpublished_writes=5), follows_oid=True) is None


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
