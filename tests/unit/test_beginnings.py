"""How a table begins with some of its rows: the statements, what is recorded of them, and what is refused."""

import pytest

from rosetta_dagster.cdc.change.pages import PageRange, Relation
from rosetta_dagster.cdc.config.pipeline import TableOptions, checked
from rosetta_dagster.cdc.copy import snapshot
from rosetta_dagster.cdc.copy.parts import Part, copy_statement
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.preflight.beginning import trials
from tests.support.changes import table

ITEMS = table("id", "name")
WHOLE = PageRange(Relation(ITEMS.id, 7), 0, None)


def test_a_condition_ends_with_its_line() -> None:
    part = Part(table=ITEMS, pages=WHOLE, condition="id > 5 -- the last")
    expected = 'COPY (SELECT "id", "name" FROM ONLY "public"."items" WHERE (\nid > 5 -- the last\n)) TO STDOUT'
    assert expected == copy_statement(part).as_string(None)


def test_ranges_of_a_partial_copy_are_no_ranges_of_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_all_ranges", lambda *_: [WHOLE, WHOLE._replace(first_page=8)])

    def files(condition: str | None) -> list[int]:
        return [part.pages.relation.filenode for part in snapshot._all_parts(None, ITEMS, condition)]  # type: ignore[arg-type]

    assert [7, 7] == files(None)
    assert [0, 0] == files("id > 5")
    assert [0] == files("false"), "nothing is read, however large the table is"


def test_a_condition_is_planned_in_two_places() -> None:
    assert [
        'EXPLAIN SELECT 1 FROM ONLY "public"."items" WHERE (\nid > 5\n)',
        'EXPLAIN SELECT CASE WHEN\nid > 5\nTHEN 1 END FROM ONLY "public"."items"',
    ] == [each.as_string(None) for each in trials(ITEMS.id, "id > 5")]


def test_no_rows_and_some_rows_contradict_each_other() -> None:
    assert ("false", "id > 5", None) == tuple(
        checked(TableOptions, values, "Table items").copied_rows
        for values in ({"initial": "NONE"}, {"copy_where": "id > 5"}, {})
    )
    with pytest.raises(ConfigurationError, match="remove one of both"):
        checked(TableOptions, {"initial": "NONE", "copy_where": "id > 5"}, "Table items")
