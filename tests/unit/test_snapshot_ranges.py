import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.change.pages import PAGES_PER_RANGE, PageRange, Relation, page_ranges, uncovered
from rosetta_dagster.cdc.copy.parts import Part, copy_statement
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import table

ITEMS = table("id", "name")
WHOLE = Relation(ITEMS.id, 1)
PART = Relation(TableId("public", "items_2024"), 2)


def bounds(page_count: int) -> list[tuple[int, int | None]]:
    return [(part.first_page, part.end_page) for part in page_ranges(WHOLE, page_count)]


def copied(first_page: int, end_page: int | None, *, relation: Relation = WHOLE, since_xid: int | None = None) -> str:
    pages = PageRange(relation, first_page, end_page)
    return copy_statement(Part(table=ITEMS, pages=pages, since_xid=since_xid)).as_string(None)


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
    assert [PageRange(PART, 0, None)] == page_ranges(PART, 3)


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
    part = Part(table=strange, pages=PageRange(Relation(TableId("S.x", 'T"y'), 1), 0, None))
    assert 'COPY (SELECT "a""b", "Order" FROM ONLY "S.x"."T""y") TO STDOUT' == copy_statement(part).as_string(None)


def test_rows_written_since_a_transaction_are_found_by_its_age() -> None:
    expected = (
        'COPY (SELECT "id", "name" FROM ONLY "public"."items"'
        " WHERE ctid < '(8192,0)'::tid AND age(xmin) <= age('7'::xid)) TO STDOUT"
    )
    # The number of a transaction has 32 bits in a row, and 64 in a snapshot.
    assert expected.replace("ctid <", "ctid >= '(0,0)'::tid AND ctid <") == copied(0, 8192, since_xid=(1 << 32) + 7)


def test_nothing_is_left_of_a_relation_that_was_copied_to_its_end() -> None:
    assert [] == uncovered(WHOLE, 20_000, [PageRange(WHOLE, 0, 8192), PageRange(WHOLE, 8192, None)])


def test_what_is_left_are_the_gaps_and_the_end() -> None:
    covered = [PageRange(WHOLE, 8192, 16_384), PageRange(WHOLE, 24_576, 32_768), PageRange(PART, 0, None)]
    expected = [(0, 8192), (16_384, 24_576), (32_768, 40_960), (40_960, None)]
    assert expected == [pages[1:] for pages in uncovered(WHOLE, 50_000 - 8192, covered)]


def test_a_relation_that_shrank_is_covered_to_its_end() -> None:
    assert [(8192, None)] == [pages[1:] for pages in uncovered(WHOLE, 10, [PageRange(WHOLE, 0, 8192)])]


@given(st.sets(st.integers(0, 9)), st.booleans(), st.integers(0, 100_000))
def test_what_was_copied_and_what_is_left_cover_the_relation_once(copied: set[int], is_open: bool, page_count: int) -> None:
    covered = [PageRange(WHOLE, 8192 * number, 8192 * (number + 1)) for number in copied]
    if is_open:
        covered.append(PageRange(WHOLE, 81_920, None))
    ranges = sorted([*covered, *uncovered(WHOLE, page_count, covered)])
    assert 0 == ranges[0].first_page
    assert [pages.first_page for pages in ranges[1:]] == [pages.end_page for pages in ranges[:-1]]
    assert ranges[-1].end_page is None
