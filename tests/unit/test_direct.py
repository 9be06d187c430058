"""Which batches are written without a staging table, and by what text."""

from collections.abc import Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from rosetta_dagster.cdc.change.batch import Merge, TableBatch, compact
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Key
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy
from rosetta_dagster.cdc.destination.postgres import direct
from rosetta_dagster.cdc.destination.postgres.catalog import Unassignable
from rosetta_dagster.cdc.destination.postgres.direct import DirectWriter, _Statements
from rosetta_dagster.cdc.destination.postgres.state import StreamState
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import delete, insert, rekey, row, table, truncate, update

TARGET = TableId("mirror", "items")
ITEMS, NOTES = table("id", "name"), table("id", "name", name="notes")
PAIRS = table("b", "value", "a", key=("a", "b"), name="pairs")
KEYLESS = table("a", "b", key=(), name="keyless")


def text(schema: TableSchema, *steps: Merge) -> str:
    return _Statements(TARGET, schema, schema).text(steps).decode()


# --- the statements ---


def test_keys_are_deleted_before_rows_are_inserted_or_replaced() -> None:
    expected = """\
DELETE FROM "mirror"."items" WHERE ("id") IN (('3'), ('4'));
INSERT INTO "mirror"."items" AS t ("id", "name")
OVERRIDING SYSTEM VALUE
VALUES ('1', 'a'), ('2', NULL)
ON CONFLICT ("id") DO UPDATE SET "name" = EXCLUDED."name\""""
    assert expected == text(ITEMS, Merge([row("1", "a"), row("2", None)], [(b"3",), (b"4",)]))


def test_empty_parts_are_left_out() -> None:
    assert "DELETE" not in text(ITEMS, Merge([row("1", "a")], []))
    assert "INSERT" not in text(ITEMS, Merge([], [(b"1",)]))


def test_a_key_of_several_columns_is_compared_in_its_order() -> None:
    statements = text(PAIRS, Merge([row("b1", "v", "a1")], [(b"a2", b"b2"), (b"a3", b"b3")]))
    assert """DELETE FROM "mirror"."items" WHERE ("a", "b") IN (('a2', 'b2'), ('a3', 'b3'));""" in statements
    assert """VALUES ('b1', 'v', 'a1')\nON CONFLICT ("a", "b") DO UPDATE SET "value" = EXCLUDED."value\"""" in statements


def test_few_keys_of_several_columns_are_deleted_at_once() -> None:
    keys: list[Key] = [(b"a%d" % number, b"b") for number in range(9)]
    statements = text(PAIRS, Merge([], keys)).split(";\n")
    assert [4, 4, 1] == [statement.count("('a") for statement in statements]
    assert all(f"('a{number}', 'b')" in ";".join(statements) for number in range(9))
    assert 1 == text(ITEMS, Merge([], [(key,) for key, _ in keys])).count("DELETE")


def test_a_table_of_nothing_but_its_key_keeps_the_existing_row() -> None:
    assert text(table("id"), Merge([row("1")], [])).endswith('ON CONFLICT ("id") DO NOTHING')


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("", "''"),
        ("it's", "'it''s'"),
        ("'", "''''"),
        ("\\'; DROP TABLE items; --", "'\\''; DROP TABLE items; --'"),
        ("%s %(a)s {} $1 $$", "'%s %(a)s {} $1 $$'"),
        ("a\nb\t\\N", "'a\nb\t\\N'"),
        ("日本", "'日本'"),
        ("NULL", "'NULL'"),
        (None, "NULL"),
    ],
)
def test_values_stand_in_quotes_as_they_are(value: str | None, literal: str) -> None:
    assert f"VALUES ('1', {literal})\n" in text(ITEMS, Merge([row("1", value)], []))


def test_each_of_many_rows_stands_in_brackets_with_any_neighbours() -> None:
    written = {row("1", "a"): "('1', 'a')", row("2", "it's"): "('2', 'it''s')", row("3", None): "('3', NULL)"}
    for rows in permutations([*written, row("1", "a")], 3):
        assert f"VALUES {', '.join(map(written.__getitem__, rows))}\n" in text(ITEMS, Merge(list(rows), []))


def test_names_are_quoted() -> None:
    odd = table('a"b', "per%cent", key=('a"b',))
    statements = text(odd, Merge([row("1", "%")], [(b"2",)]))
    assert 'WHERE ("a""b") IN' in statements
    assert 'ON CONFLICT ("a""b") DO UPDATE SET "per%cent" = EXCLUDED."per%cent"' in statements


# --- which batches ---


class FakeConnection:
    """Takes every message."""

    def __init__(self, encoding: str) -> None:
        self.messages: list[str] = []
        self.error: psycopg.Error | None = None
        self.info = SimpleNamespace(parameter_status=lambda name: encoding if name == "server_encoding" else None)

    def execute(self, message: bytes) -> None:
        self.messages.append(message.decode())
        if self.error is not None and self.messages[-1].endswith(("RELEASE rosetta_direct", "MOVE")):
            raise self.error


class Writing:
    """A writer, what it has sent, and what it has left to be staged."""

    def __init__(self, *held: TableSchema, encoding: str = "UTF8") -> None:
        self.connection = FakeConnection(encoding)
        self.schemas = {each.id: each for each in held}
        targets = Targets({each.id: each.id for each in (ITEMS, NOTES, PAIRS, KEYLESS)}, SchemaPolicy.APPLY, pipeline="shop")
        for each in targets.by_source:
            targets._unassignable[each] = Unassignable()
        state = cast(StreamState, SimpleNamespace(schemas=self.schemas))
        self.writer = DirectWriter(cast(Any, self.connection), targets, state)

    def left(self, *changes: Change) -> list[str]:
        """The tables that are still to be done."""
        batches = compact(changes).tables
        small = self.writer.split(batches)
        return names(small.others if self.writer.write(small) else batches)

    def is_done_with(self, move: str, *changes: Change) -> bool:
        """Write the changes and move the watermark in one message."""
        return self.writer.write_with(self.writer.split(compact(changes).tables), move.encode())


def names(batches: Sequence[TableBatch]) -> list[str]:
    return [batch.table.id.name for batch in batches]


def test_small_batches_go_in_one_message_around_which_a_savepoint_is_kept() -> None:
    writing = Writing(ITEMS, NOTES)
    assert [] == writing.left(insert(ITEMS, "1", "a"), insert(NOTES, "1", "n"), delete(ITEMS, "2"))
    (message,) = writing.connection.messages
    first, *statements, last = message.split(";\n")
    assert ("SAVEPOINT rosetta_direct", "RELEASE rosetta_direct") == (first, last)
    tables = ['DELETE FROM "public"."items"', 'INSERT INTO "public"."items"', 'INSERT INTO "public"."notes"']
    assert tables == [statement[: len(start)] for statement, start in zip(statements, tables, strict=True)]


def test_small_batches_and_the_watermark_are_one_message_and_so_one_transaction() -> None:
    writing = Writing(ITEMS, NOTES)
    assert writing.is_done_with("MOVE", insert(ITEMS, "1", "a"), insert(NOTES, "1", "n"))
    (message,) = writing.connection.messages
    assert "MOVE" == message.split(";\n")[-1]
    assert "SAVEPOINT" not in message, "PostgreSQL allows none outside of a transaction block"
    assert ["items", "notes"] == [name for name in ("items", "notes") if f'INSERT INTO "public"."{name}"' in message]


def test_a_message_that_fails_as_a_whole_has_nothing_to_roll_back() -> None:
    writing = Writing(ITEMS)
    writing.connection.error = psycopg.errors.DivisionByZero()
    assert not writing.is_done_with("MOVE", insert(ITEMS, "1", "a"))
    assert 1 == len(writing.connection.messages)


@pytest.mark.parametrize(
    "changes",
    [
        [update(ITEMS, "1", UNCHANGED)],
        [rekey(ITEMS, ("1",), "2", UNCHANGED)],
        [truncate(ITEMS), insert(ITEMS, "1", "a")],
        [insert(ITEMS, str(number), "a") for number in range(direct.ROW_LIMIT + 1)],
        [delete(ITEMS, str(number)) for number in range(direct.ROW_LIMIT + 1)],
        [insert(ITEMS, "1", "a"), insert(table("id", "name", "size"), "2", "b", "c")],
        [insert(table("id", "name", "size"), "2", "b", "c")],
    ],
    ids=["unsent", "move", "truncate", "rows", "keys", "altered within", "altered before"],
)
def test_what_is_more_than_a_few_whole_rows_is_staged(changes: list[Change]) -> None:
    writing = Writing(ITEMS, NOTES)
    assert {"items"} == set(writing.left(insert(NOTES, "1", "n"), *changes))
    assert "items" not in "".join(writing.connection.messages)


def test_a_table_without_a_key_is_staged() -> None:
    assert ["keyless"] == Writing(KEYLESS).left(insert(KEYLESS, "1", "a"))


def test_a_table_of_which_the_destination_knows_nothing_is_staged() -> None:
    assert ["items"] == Writing().left(insert(ITEMS, "1", "a"))


def test_a_table_that_was_altered_since_its_statements_were_made_is_staged() -> None:
    writing = Writing(ITEMS)
    assert [] == writing.left(insert(ITEMS, "1", "a"))
    writing.schemas[ITEMS.id] = table("id", "label")
    assert ["items"] == writing.left(insert(ITEMS, "2", "b"))


def test_tables_beyond_the_largest_message_are_staged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "BYTE_LIMIT", 400)
    changes = [insert(ITEMS, "1", "a"), insert(NOTES, "1", "n" * 400)]
    assert ["notes"] == Writing(ITEMS, NOTES).left(*changes)


def test_no_character_is_sent_that_may_be_missing_in_a_database() -> None:
    writing = Writing(ITEMS, encoding="LATIN1")
    assert ["items"] == writing.left(insert(ITEMS, "1", "a"))
    assert [] == writing.connection.messages


# --- errors ---


@pytest.mark.parametrize(
    "kind",
    [psycopg.errors.DataException, psycopg.errors.ProgramLimitExceeded, psycopg.errors.ObjectNotInPrerequisiteState],
)
def test_what_a_direct_statement_cannot_have_goes_through_staging_tables(kind: type[psycopg.Error]) -> None:
    writing = Writing(ITEMS, NOTES)
    writing.connection.error = kind()
    assert ["items", "notes"] == writing.left(insert(ITEMS, "1", "a"), insert(NOTES, "1", "n"))
    assert "ROLLBACK TO rosetta_direct" == writing.connection.messages[-1]


@pytest.mark.parametrize(
    "kind",
    [
        psycopg.errors.QueryCanceled,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.AdminShutdown,
        psycopg.OperationalError,
        psycopg.DatabaseError,
    ],
)
def test_what_passes_with_time_is_not_asked_for_again(kind: type[psycopg.Error]) -> None:
    writing = Writing(ITEMS)
    writing.connection.error = kind()
    with pytest.raises(kind):
        writing.left(insert(ITEMS, "1", "a"))
    assert 1 == len(writing.connection.messages)
