import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.snapshot import PAGES_PER_RANGE, PageRange, copy_range, page_ranges

from .changes import table

ITEMS = table("id", "name")
PART = TableId("public", "items_2024")


def bounds(page_count: int) -> list[tuple[int, int | None]]:
    return [(part.first_page, part.end_page) for part in page_ranges(ITEMS, ITEMS.id, page_count)]


def copied(first_page: int, end_page: int | None, *, relation: TableId = ITEMS.id) -> str:
    pages = PageRange(table=ITEMS, relation=relation, first_page=first_page, end_page=end_page)
    return copy_range(pages).as_string(None)


@pytest.mark.parametrize("page_count", [0, 1, PAGES_PER_RANGE])
def test_a_small_relation_is_one_open_range(page_count: int) -> None:
    assert [(0, None)] == bounds(page_count)


def test_a_relation_with_one_page_more_than_a_range_is_two_ranges() -> None:
    assert [(0, PAGES_PER_RANGE), (PAGES_PER_RANGE, None)] == bounds(PAGES_PER_RANGE + 1)


@given(st.integers(min_value=0, max_value=100 * PAGES_PER_RANGE))
def test_the_ranges_cover_the_relation_without_gap_or_overlap(page_count: int) -> None:
    found = bounds(page_count)
    assert 0 == found[0][0]
    assert [first for first, _ in found[1:]] == [end for _, end in found[:-1]]
    assert found[-1][1] is None
    assert all(end - first == PAGES_PER_RANGE for first, end in found[:-1] if end is not None)
    assert found[-1][0] < max(1, page_count)


def test_the_ranges_of_a_partition_belong_to_its_table() -> None:
    (only,) = page_ranges(ITEMS, PART, 3)
    assert PageRange(table=ITEMS, relation=PART, first_page=0, end_page=None) == only


def test_a_whole_relation_is_read_without_a_condition() -> None:
    assert 'COPY (SELECT "id", "name" FROM ONLY "public"."items") TO STDOUT' == copied(0, None)


def test_the_first_range_ends_before_the_page_of_the_next() -> None:
    expected = (
        'COPY (SELECT "id", "name" FROM ONLY "public"."items"'
        " WHERE ctid >= '(0,0)'::tid AND ctid < '(8192,0)'::tid) TO STDOUT"
    )
    assert expected == copied(0, 8192)


def test_the_last_range_is_open() -> None:
    expected = 'COPY (SELECT "id", "name" FROM ONLY "public"."items" WHERE ctid >= \'(8192,0)\'::tid) TO STDOUT'
    assert expected == copied(8192, None)


def test_a_partition_is_read_by_its_own_name_with_the_columns_of_its_table() -> None:
    assert 'COPY (SELECT "id", "name" FROM ONLY "public"."items_2024") TO STDOUT' == copied(0, None, relation=PART)


def test_names_are_quoted() -> None:
    strange = table('a"b', "Order", key=())
    pages = PageRange(table=strange, relation=TableId("S.x", 'T"y'), first_page=0, end_page=None)
    assert 'COPY (SELECT "a""b", "Order" FROM ONLY "S.x"."T""y") TO STDOUT' == copy_range(pages).as_string(None)
