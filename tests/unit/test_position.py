import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.change.position import Lsn, Position


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_every_lsn_is_read_back_as_it_was_printed(number: int) -> None:
    assert number == Lsn.parse(str(Lsn(number)))


@pytest.mark.parametrize(
    ("text", "number"),
    [("0/0", 0), ("16/B374D848", 0x16B374D848), ("2/0", 2 << 32), ("ffffffff/a", 0xFFFFFFFF0000000A)],
)
def test_an_lsn_is_read_as_two_hexadecimal_halves(text: str, number: int) -> None:
    assert number == Lsn.parse(text)


def test_an_lsn_prints_as_postgresql_does_without_leading_zeros() -> None:
    assert "1/A" == str(Lsn(0x10000000A))
    assert "Lsn(1/A)" == repr(Lsn(0x10000000A))


def test_lsns_are_ordered_as_numbers_and_not_as_text() -> None:
    assert [Lsn.parse("2/FFFFFFFF"), Lsn.parse("16/0")] == sorted([Lsn.parse("16/0"), Lsn.parse("2/FFFFFFFF")])


@pytest.mark.parametrize("text", ["", "16", "16/", "/1", "1/2/3", "g/0"])
def test_a_text_that_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Lsn.parse(text)


def test_a_transaction_comes_in_the_order_of_its_commit_not_of_its_changes() -> None:
    early_commit, late_commit = Position(100, 90, 0), Position(200, 50, 0)
    assert [early_commit, late_commit] == sorted([late_commit, early_commit])


def test_within_a_transaction_the_log_decides_and_then_the_ordinal() -> None:
    first, second, third = Position(1, 10, 0), Position(1, 10, 1), Position(1, 11, 0)
    assert [first, second, third] == sorted([third, second, first])
