import pytest

from rosetta_dagster.cdc.schema import TableId, missing_columns

from .changes import table


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


def test_the_key_keeps_its_own_order_whatever_the_order_of_the_columns() -> None:
    schema = table("a", "b", "c", key=("c", "a"))
    assert (2, 0) == schema.key_indexes


def test_a_table_without_a_key_has_no_key_indexes() -> None:
    assert () == table("a", "b", key=()).key_indexes


def test_a_key_column_that_the_table_lacks_is_refused() -> None:
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
