import copy

from rosetta_dagster.cdc.change.event import UNCHANGED, key_of
from tests.support.changes import row, table


def test_the_key_of_a_row_is_in_the_order_of_the_key() -> None:
    schema = table("a", "b", "c", key=("c", "a"))
    assert (b"3", b"1") == key_of(schema, row("1", "2", "3"))


def test_the_key_of_a_row_without_a_key_is_empty() -> None:
    assert () == key_of(table("a", key=()), row("1"))


def test_rows_that_differ_outside_the_key_have_the_same_key() -> None:
    schema = table("id", "name")
    assert key_of(schema, row("1", "old")) == key_of(schema, row("1", None))


def test_unchanged_is_neither_null_nor_a_value_and_stays_itself_when_copied() -> None:
    assert UNCHANGED is not None
    assert not isinstance(UNCHANGED, bytes)
    assert UNCHANGED is copy.deepcopy(UNCHANGED)


def test_unchanged_prints_as_its_name() -> None:
    assert "(b'1', UNCHANGED)" == repr(row("1", UNCHANGED))
