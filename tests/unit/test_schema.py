from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.schema import TableSchema, columns_named, missing_columns
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import column, table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sales.orders", TableId("sales", "orders")),
        ("orders", TableId("public", "orders")),
        ("sales.orders.2024", TableId("sales", "orders.2024")),
        ("Sales.Orders", TableId("Sales", "Orders")),
    ],
)
def test_a_table_name_is_split_at_its_first_dot(text: str, expected: TableId) -> None:
    assert expected == TableId.parse(text)


def test_a_table_id_prints_as_it_is_read() -> None:
    assert "sales.orders" == str(TableId("sales", "orders"))
    assert TableId("sales", "orders") == TableId.parse(str(TableId("sales", "orders")))


def test_the_key_keeps_its_own_order_in_any_order_of_the_columns() -> None:
    schema = table("a", "b", "c", key=("c", "a"))
    assert (2, 0) == schema.key_indexes


def test_a_table_without_a_key_has_no_key_indexes() -> None:
    assert () == table("a", "b", key=()).key_indexes


def test_a_key_column_that_is_missing_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        table("a", key=("b",))


def test_tables_are_equal_when_the_catalog_says_the_same_of_both() -> None:
    assert table("id", "name") == table("id", "name")
    assert table("id", "name") != table("id", "name", key=("name",))


def test_the_column_names_are_in_the_order_of_the_columns() -> None:
    assert ("b", "a") == table("b", "a", key=()).column_names


def test_missing_columns_are_those_not_known_in_the_order_of_the_table() -> None:
    schema = table("id", "z", "name", "a")
    assert ["z", "a"] == [column.name for column in missing_columns(["name", "id", "gone"], schema)]


def test_nothing_is_missing_when_every_column_is_known() -> None:
    assert () == missing_columns(["name", "id"], table("id", "name"))


def test_a_name_in_another_case_is_another_column() -> None:
    assert ["Name"] == [column.name for column in missing_columns(["id", "name"], table("id", "Name"))]


def numbered(**numbers: int) -> TableSchema:
    """A table of columns of these names and numbers."""
    columns = tuple(column(name, number=number) for name, number in numbers.items())
    return replace(table(key=()), columns=columns)


def numbers_of(names: str, known: TableSchema, current: TableSchema) -> list[int | None]:
    """The numbers of the columns with these names of a letter, in a table between the two; None for a column of neither."""
    found = columns_named(tuple(names), known, current)
    assert all(column is None or column.name == name for name, column in zip(names, found, strict=True))
    return [None if column is None else column.number for column in found]


@pytest.mark.parametrize(
    ("names", "known", "current", "expected"),
    [
        pytest.param("abn", {"a": 1, "b": 2}, {"b": 1, "a": 2, "n": 3}, [1, 2, 3], id="added, then swapped"),
        pytest.param("ban", {"a": 1, "b": 2}, {"b": 1, "a": 2, "n": 3, "m": 4}, [1, 2, 3], id="swapped, then added"),
        pytest.param("ab", {"a": 1, "b": 2, "z": 3}, {"b": 1, "a": 2}, [1, 2], id="dropped, then swapped"),
        pytest.param("bcan", {"a": 1, "b": 2, "c": 3}, {"b": 1, "c": 2, "a": 3, "n": 4, "m": 5}, [1, 2, 3, 4], id="rotated"),
        pytest.param("abcn", {"a": 1, "b": 2, "c": 3}, {"b": 1, "c": 2, "a": 3, "n": 4}, [1, 2, 3, 4], id="to be rotated"),
        pytest.param("abn", {"a": 1, "b": 2}, {"c": 1, "a": 2, "n": 3}, [1, 2, 3], id="its name is taken later"),
        pytest.param("can", {"a": 1, "b": 2}, {"c": 1, "a": 2, "n": 3, "m": 4}, [1, 2, 3], id="its name was taken"),
        pytest.param("abn", {"a": 1, "b": 2}, {"a": 2, "n": 3}, [1, 2, 3], id="dropped later, and its name taken"),
        pytest.param("an", {"a": 1, "b": 2}, {"a": 2, "n": 3, "m": 4}, [2, 3], id="dropped, and its name taken"),
        pytest.param("abn", {"a": 1, "b": 2}, {"b": 2, "n": 3, "a": 4}, [1, 2, 3], id="dropped and added again later"),
        pytest.param("bna", {"a": 1, "b": 2}, {"b": 2, "n": 3, "a": 4, "m": 5}, [2, 3, 4], id="dropped and added again"),
    ],
)
def test_columns_are_those_of_the_only_table_that_can_have_existed(
    names: str, known: dict[str, int], current: dict[str, int], expected: list[int]
) -> None:
    assert expected == numbers_of(names, numbered(**known), numbered(**current))


def test_a_column_that_existed_all_the_time_has_what_is_known_of_it_now() -> None:
    known, current = numbered(a=1, b=2), replace(numbered(a=1, c=2), columns=(column("a", "bigint", number=1),))
    a, _ = columns_named(("a", "b"), replace(known, columns=(*known.columns, column("z", number=3))), current)
    assert current.columns[0] is a


def test_a_table_that_looks_like_the_one_of_now_is_that_one() -> None:
    assert [3, 4] == numbers_of("ab", numbered(a=1, b=2), numbered(a=3, b=4))


def test_of_several_tables_it_is_the_one_whose_columns_are_those_of_now() -> None:
    assert [3] == numbers_of("a", numbered(a=1, z=2), numbered(a=3, y=4))


def test_numbers_are_not_known_where_several_tables_are_possible_and_none_is_of_now() -> None:
    # c is the one that was dropped since, or the one that was added.
    assert [0, 0, 0] == numbers_of("abc", numbered(a=1, b=2, c=3, d=4), numbered(b=1, a=2, c=5, e=6))


def test_numbers_are_not_known_where_none_is_possible_and_they_do_not_ascend() -> None:
    assert [0, 0, None] == numbers_of("bax", numbered(a=1, b=2), numbered(a=1, b=2, n=3))


def test_a_name_is_not_that_of_a_column_which_came_after_one_that_is_missing() -> None:
    # b was added as 2 and had its name before c, added as 3, and it took each other's.
    assert [0, 0] == numbers_of("ab", numbered(a=1), numbered(a=1, c=2, b=3))


def test_a_change_from_before_what_is_known_has_the_columns_of_its_names() -> None:
    # As when another destination is ahead.
    assert [1] == numbers_of("a", numbered(a=1, b=2), numbered(a=1, b=2, n=3))


def test_many_columns_that_came_again_are_resolved_at_once() -> None:
    names = [f"c{number}" for number in range(500)]
    known = table(*names, key=())
    now = tuple(column(name, number=number) for number, name in enumerate([*names, "more", "last"], 501))
    found = columns_named([*names, "more"], known, replace(known, columns=now))
    assert now[:-1] == found
