"""How a selection of rows and columns becomes statements, and what the surfaces accept of it."""

from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.change.fingerprint import Fingerprint, missed_changes_reason
from rosetta_dagster.cdc.change.pages import PageRange, Relation
from rosetta_dagster.cdc.config.pipeline import TableOptions, checked
from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.copy.parts import Part, copy_statement, keys_statement
from rosetta_dagster.cdc.errors import ColumnValuesUnknown, ConfigurationError
from rosetta_dagster.cdc.reconcile.sql import own_rows
from rosetta_dagster.cdc.source.selections import add_selected
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration import Table
from tests.support.changes import insert, update
from tests.support.replica import ITEMS

PUBLISHED = Fingerprint(
    oid=1, is_partitioned=False, row_type="1", column_count=3, leaves=(), membership="7", row_filter="(id > 0)"
)
FILTERED = replace(ITEMS, fingerprint=PUBLISHED)


def added(**selection: object) -> str:
    return add_selected("p", ITEMS, Selection(**selection)).as_string(None)  # type: ignore[arg-type]


def test_a_table_is_published_with_what_is_selected_of_it() -> None:
    begin = 'ALTER PUBLICATION "p" ADD TABLE ONLY "public"."items"'
    assert begin == added()
    assert f'{begin} ("id", "size")' == added(exclude=("name",))
    assert f'{begin} ("id", "name")' == added(columns=("name", "id"))
    # A comment in the condition ends with its line.
    assert f"{begin} WHERE (\nid > 0 -- all\n)" == added(where="id > 0 -- all")


def test_a_copy_reads_the_rows_that_are_published() -> None:
    part = Part(table=FILTERED, pages=PageRange(Relation(ITEMS.id, 1), 8, None))
    statement = copy_statement(part).as_string(None)
    assert """WHERE ctid >= '(8,0)'::tid AND ((id > 0))) TO STDOUT""" in statement
    assert 'FROM ONLY "public"."items" WHERE ((id > 0))) TO STDOUT' in keys_statement(FILTERED).as_string(None)


def test_the_source_is_compared_by_the_rows_that_are_published() -> None:
    rows = own_rows(TableId("public", "t"), is_partitioned=False, row_filter="(id > 0)")
    assert '(SELECT * FROM ONLY "public"."t" WHERE ((id > 0)))' == rows.as_string(None)


def test_other_rows_or_columns_are_a_gap_and_a_renamed_column_is_none() -> None:
    renamed = replace(PUBLISHED, row_filter="(number > 0)")
    assert missed_changes_reason(PUBLISHED, renamed, follows_oid=True) is None
    for other in (replace(renamed, membership="8"), replace(PUBLISHED, membership="8", column_list="1 2")):
        assert "other rows or columns" in (missed_changes_reason(PUBLISHED, other, follows_oid=True) or "")


def test_an_insert_with_a_value_that_was_not_sent_asks_for_a_copy() -> None:
    with pytest.raises(ColumnValuesUnknown, match="came into the row filter") as caught:
        compact([update(ITEMS, "1", "a", "b"), insert(ITEMS, "2", UNCHANGED, "b")])
    assert caught.value.broken is not None
    assert ITEMS.id == caught.value.broken.table


def test_columns_are_named_or_left_out_and_never_both() -> None:
    with pytest.raises(ConfigurationError, match="columns and exclude cannot both be given"):
        Table("orders", columns=["id"], exclude=["ssn"])
    with pytest.raises(ConfigurationError, match="columns and exclude"):
        checked(TableOptions, {"columns": ["id"], "exclude": ["ssn"]}, "Table orders")
    with pytest.raises(ConfigurationError, match="exclude: "):
        Table("orders", exclude="ssn")
    assert Selection(exclude=("ssn",), where="a") == Table("orders", exclude=["ssn"], where="a").declared_options().selection
