"""What every destination has to do, as the docstrings of `cdc/destination/base.py` promise it."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, islice
from typing import TypeAlias

import pytest

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Row
from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import Column, Identity, OldRowValues, TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import BegunCopy, Destination, Held, StreamIdentity
from rosetta_dagster.cdc.errors import (
    BrokenTable,
    DestinationRejected,
    RosettaError,
    SchemaChangeRefused,
    SlotInvalid,
    TableNotOurs,
    WatermarkMoved,
)
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import Text, delete, delete_whole, insert, key_row, only, rekey, row, table, truncate, update
from tests.support.destinations import KINDS, DestinationKind, TextRow, in_order, make

IDENTITY = StreamIdentity(pipeline="shop", system_identifier="7000000000000000001", slot_name="rosetta_shop")
BEGINNING = SnapshotPoint(Lsn(16), XidSnapshot(100, 100, frozenset()))

#: OIDs of the types that the tests use.
OIDS = {"text": 25, "integer": 23, "bigint": 20, "numeric": 1700, "uuid": 2950, "bytea": 17, "json": 114}

#: What a text may hold that a way of writing it down could stumble over.
AWKWARD_TEXTS = [
    "", " ", "\t", "\n", "\r\n", "\\", "\\\\", "\\N", "\\.", "\\t", "a\tb\nc\\d\re", "NULL", "null", "'", "''", '"',
    "$$", "%", "%s", "{}", "{NULL}", "(,)", ",", ";--", "\x01\x7f", "ß€😀", "trailing ", "0", "u", "é\n\\N\n",
]  # fmt: skip

ODD_NAMES = [
    'quo"te', "per%cent", "%s", "two words", "Upper", "semi;colon", "curly{}", "select", "naïve_日本語", "back\\slash",
    "c0", "c1", "op", "unchanged", "copies", "t", "s", "dot.ted", "x" * 63, "apo'strophe", " ", "é" * 31,
]  # fmt: skip


class Replica:
    """A destination that a test drives as a run would: opened, prepared, and each batch with the next watermark."""

    def __init__(self, kind: DestinationKind, destination: Destination, held: Held, tables: Sequence[TableSchema]) -> None:
        self.kind = kind
        self.destination = destination
        self.held = held
        self.tables = tables
        self.targets: Mapping[TableId, TableId] = {}
        self._number = held.watermark.position.lsn if held.watermark else 1000

    def apply(self, *changes: Change) -> Watermark:
        """Apply the changes as one batch."""
        self._number += 1
        reached = watermark(self._number)
        self.destination.apply(compact(changes), reached)
        return reached

    def rows(self, schema: TableSchema) -> list[TextRow]:
        return self.kind.rows(self.targets.get(schema.id, schema.id), schema.column_names)


Open: TypeAlias = Callable[..., Replica]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> DestinationKind:
    return KINDS[request.param](request)


@pytest.fixture
def begin(kind: DestinationKind) -> Iterator[Open]:
    """Opens and prepares destinations of these tables; unless told otherwise, an empty copy of each is complete."""
    opened: list[Destination] = []

    def opener(
        *tables: TableSchema,
        identity: StreamIdentity = IDENTITY,
        copied: bool = True,
        namespace: str | None = None,
        targets: Mapping[TableId, TableId] | None = None,
    ) -> Replica:
        destination = make(kind, tables, pipeline=identity.pipeline, namespace=namespace, targets=targets)
        opened.append(destination)
        held = destination.open(identity)
        destination.prepare(tables)
        replica = Replica(kind, destination, held, tables)
        replica.targets = targets or {}
        missing = [schema for schema in tables if schema.id not in held.copied]
        if copied and missing:
            copy(destination, missing)
        return replica

    yield opener
    for destination in opened:
        destination.close()


def copy(destination: Destination, tables: Sequence[TableSchema], *blocks: bytes) -> None:
    """A whole copy of the tables; the blocks go into each of them."""
    destination.start_copy(tables, BEGINNING)
    for schema in tables:
        with destination.loader() as loader:
            loader.load(schema, pages(), blocks)
        finish(destination, schema)


def finish(destination: Destination, schema: TableSchema) -> None:
    """All rows of the table are loaded."""
    with destination.loader() as loader:
        loader.complete(schema)
    destination.finish_copy(schema)


def with_columns(schema: TableSchema, **names: str) -> TableSchema:
    """The table after its columns got other names."""
    columns = tuple(replace(column, name=names.get(column.name, column.name)) for column in schema.columns)
    return replace(schema, columns=columns)


def pages() -> CopiedRange:
    """A range that no copy had before."""
    first_page = next(_pages)
    return CopiedRange(PageRange(Relation(ITEMS.id, 1), first_page, first_page + 1), 99)


def watermark(number: int) -> Watermark:
    return Watermark(engine=Engine.DEBEZIUM, position=Position(number, number, 0), xid=number)


def copied_up_to(reached: Watermark | None, table: TableSchema) -> Held:
    """What a destination holds that has one table."""
    return Held(watermark=reached, copied={table.id: BEGINNING}, schemas={table.id: table})


def typed(columns: Mapping[str, str], *key: str, name: str = "items", identity: Identity = Identity.KEY) -> TableSchema:
    """A table of these columns and types."""
    return TableSchema(
        id=TableId("public", name),
        columns=tuple(
            Column(name=each, type=kind, type_oid=OIDS[kind], base_oid=OIDS[kind], not_null=each in key, number=number)
            for number, (each, kind) in enumerate(columns.items(), 1)
        ),
        key=key,
        identity=identity,
    )


def keyless(*names: str, name: str = "notes") -> TableSchema:
    return table(*names, key=(), identity=Identity.FULL, name=name)


ID, VALUE = typed({"id": "integer", "value": "text"}, "id").columns
_pages = count()
ITEMS = table("id", "name", "size")
PAIRS = table("b", "value", "a", key=("a", "b"), name="pairs")
NOTES = keyless("text", "more")


class TestOneBatch:
    def test_the_last_of_several_updates_of_a_row_wins(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "first", "1"), *(update(ITEMS, "1", f"name {n}", str(n)) for n in range(20)))
        assert [("1", "name 19", "19")] == replica.rows(ITEMS)

    def test_insert_update_and_delete_of_one_key_leave_nothing(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "2", "stays", None))
        replica.apply(insert(ITEMS, "1", "a", None), update(ITEMS, "1", "b", None), delete(ITEMS, "1"))
        assert [("2", "stays", None)] == replica.rows(ITEMS)

    def test_a_row_deleted_and_inserted_again_is_the_new_one(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "old", "old"))
        replica.apply(delete(ITEMS, "1"), insert(ITEMS, "1", "new", None))
        assert [("1", "new", None)] == replica.rows(ITEMS)

    def test_inserts_updates_and_deletes_of_different_rows_are_all_done(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", None), insert(ITEMS, "2", "b", None), insert(ITEMS, "3", "c", None))
        replica.apply(delete(ITEMS, "1"), update(ITEMS, "2", "B", "big"), insert(ITEMS, "4", "d", None))
        assert [("2", "B", "big"), ("3", "c", None), ("4", "d", None)] == replica.rows(ITEMS)

    def test_tables_of_one_batch_are_written_each_to_its_own(self, begin: Open) -> None:
        replica = begin(ITEMS, PAIRS, NOTES)
        replica.apply(
            insert(ITEMS, "1", "a", None),
            insert(PAIRS, "b", "v", "a"),
            insert(NOTES, "x", "y"),
            insert(ITEMS, "2", "b", None),
        )
        assert [("1", "a", None), ("2", "b", None)] == replica.rows(ITEMS)
        assert [("b", "v", "a")] == replica.rows(PAIRS)
        assert [("x", "y")] == replica.rows(NOTES)

    @pytest.mark.parametrize("row_count", [1, 1_000, 100_000])
    def test_a_batch_may_be_of_any_size(self, begin: Open, row_count: int) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, f"{n:06}", f"name {n}", None) for n in range(row_count)))
        replica.apply(
            *(update(ITEMS, f"{n:06}", UNCHANGED, "big") for n in range(0, row_count, 2)),
            *(delete(ITEMS, f"{n:06}") for n in range(1, row_count, 2)),
        )
        assert [(f"{n:06}", f"name {n}", "big") for n in range(0, row_count, 2)] == replica.rows(ITEMS)

    def test_a_row_that_is_there_already_is_replaced_also_among_many_that_are_new(self, begin: Open) -> None:
        replica = begin(ITEMS, PAIRS)
        replica.apply(insert(ITEMS, "050", "theirs", "small"))
        replica.apply(
            insert(PAIRS, "b", "v", "a"), *(insert(ITEMS, f"{n:03}", f"name {n}", None) for n in range(100)),
        )  # fmt: skip
        assert [(f"{n:03}", f"name {n}", None) for n in range(100)] == replica.rows(ITEMS)
        assert [("b", "v", "a")] == replica.rows(PAIRS)

    def test_an_unchanged_row_of_a_table_that_is_all_key_stays(self, begin: Open) -> None:
        links = table("a", "b", key=("a", "b"), name="links")
        replica = begin(links)
        replica.apply(insert(links, "1", "2"), insert(links, "1", "3"))
        replica.apply(update(links, "1", "2"), delete(links, "1", "3"), insert(links, "2", "2"))
        assert [("1", "2"), ("2", "2")] == replica.rows(links)


class TestKeys:
    def test_a_row_keeps_its_values_under_a_new_key(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "x"), insert(ITEMS, "2", "b", "y"))
        replica.apply(rekey(ITEMS, ("1",), "9", "a", "x"))
        assert [("2", "b", "y"), ("9", "a", "x")] == replica.rows(ITEMS)

    def test_values_that_were_not_sent_move_with_the_key(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "only here"), insert(ITEMS, "2", "b", "y"))
        replica.apply(rekey(ITEMS, ("1",), "9", None, UNCHANGED))
        assert [("2", "b", "y"), ("9", None, "only here")] == replica.rows(ITEMS)

    def test_a_key_that_moved_may_move_again_and_be_written_on(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "only here"))
        replica.apply(
            update(ITEMS, "1", "b", UNCHANGED),
            rekey(ITEMS, ("1",), "2", "b", UNCHANGED),
            update(ITEMS, "2", "c", UNCHANGED),
            rekey(ITEMS, ("2",), "3", "d", UNCHANGED),
            insert(ITEMS, "1", "another", None),
        )
        assert [("1", "another", None), ("3", "d", "only here")] == replica.rows(ITEMS)

    def test_two_rows_swap_their_keys_with_values_that_were_not_sent(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "of a"), insert(ITEMS, "2", "b", "of b"))
        replica.apply(
            rekey(ITEMS, ("1",), "3", UNCHANGED, UNCHANGED),
            rekey(ITEMS, ("2",), "1", UNCHANGED, UNCHANGED),
            rekey(ITEMS, ("3",), "2", UNCHANGED, UNCHANGED),
        )
        assert [("1", "b", "of b"), ("2", "a", "of a")] == replica.rows(ITEMS)

    def test_a_row_may_take_the_key_of_one_that_was_deleted(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "of a"), insert(ITEMS, "2", "b", "of b"))
        replica.apply(delete(ITEMS, "2"), rekey(ITEMS, ("1",), "2", UNCHANGED, UNCHANGED))
        assert [("2", "a", "of a")] == replica.rows(ITEMS)

    def test_every_column_of_a_composite_key_counts(self, begin: Open) -> None:
        replica = begin(PAIRS)
        replica.apply(*(insert(PAIRS, b, "old", a) for a in "12" for b in "12"))
        replica.apply(update(PAIRS, "1", "new", "2"), delete(PAIRS, "1", "1"), rekey(PAIRS, ("2", "2"), "2", UNCHANGED, "3"))
        assert [("1", "new", "2"), ("2", "old", "1"), ("2", "old", "3")] == replica.rows(PAIRS)

    @pytest.mark.parametrize(
        ("kind_of_key", "keys"),
        [
            ("uuid", ("00000000-0000-0000-0000-000000000001", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
            ("text", ("", "a\tb\\\n'\"%s")),
            ("numeric", ("1.10", "-99999999999999999999999999999999.000001")),
            ("bigint", ("-9223372036854775808", "9223372036854775807")),
        ],
    )
    def test_a_key_may_be_of_any_type_that_has_an_order(self, begin: Open, kind_of_key: str, keys: tuple[str, str]) -> None:
        schema = typed({"key": kind_of_key, "value": "text", "more": "text"}, "key")
        replica = begin(schema)
        first, second = keys
        replica.apply(insert(schema, first, "a", "kept"), insert(schema, second, "b", "kept"))
        replica.apply(update(schema, first, "A", UNCHANGED), delete(schema, second))
        assert [(first, "A", "kept")] == replica.rows(schema)
        replica.apply(rekey(schema, (first,), second, UNCHANGED, UNCHANGED))
        assert [(second, "A", "kept")] == replica.rows(schema)

    def test_a_numeric_key_may_change_by_its_scale_only(self, begin: Open) -> None:
        schema = typed({"key": "numeric", "value": "text"}, "key")
        replica = begin(schema)
        replica.apply(insert(schema, "1.0", "a"))
        replica.apply(rekey(schema, ("1.0",), "1.00", "b"))
        assert [("1.00", "b")] == replica.rows(schema)
        replica.apply(rekey(schema, ("1.00",), "1.000", UNCHANGED))
        assert [("1.000", "b")] == replica.rows(schema)


class TestValuesThatWereNotSent:
    def test_they_are_taken_from_a_row_inserted_in_the_same_batch(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"), update(ITEMS, "1", "b", UNCHANGED))
        assert [("1", "b", "large")] == replica.rows(ITEMS)

    def test_they_are_left_as_an_earlier_batch_wrote_them(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"), insert(ITEMS, "2", "b", "larger"))
        replica.apply(update(ITEMS, "1", UNCHANGED, "small"), update(ITEMS, "2", "B", UNCHANGED))
        assert [("1", "a", "small"), ("2", "B", "larger")] == replica.rows(ITEMS)

    def test_null_is_written_beside_them(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"), insert(ITEMS, "2", "b", "larger"))
        replica.apply(update(ITEMS, "1", None, UNCHANGED), update(ITEMS, "2", UNCHANGED, None))
        assert [("1", None, "large"), ("2", "b", None)] == replica.rows(ITEMS)

    def test_a_column_set_to_null_stays_null_in_the_batch_that_leaves_it_alone_afterwards(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"))
        replica.apply(
            update(ITEMS, "1", UNCHANGED, None), update(ITEMS, "1", "b", UNCHANGED), update(ITEMS, "1", UNCHANGED, UNCHANGED)
        )
        assert [("1", "b", None)] == replica.rows(ITEMS)

    def test_a_column_set_to_null_in_an_earlier_batch_stays_null(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "large"))
        replica.apply(update(ITEMS, "1", UNCHANGED, None))
        replica.apply(update(ITEMS, "1", "b", UNCHANGED))
        assert [("1", "b", None)] == replica.rows(ITEMS)

    def test_whole_rows_and_rows_in_part_go_through_one_batch(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, str(n), "a", "large") for n in range(4)))
        replica.apply(
            update(ITEMS, "0", "b", UNCHANGED),
            update(ITEMS, "1", "b", "small"),
            delete(ITEMS, "2"),
            update(ITEMS, "3", UNCHANGED, UNCHANGED),
            insert(ITEMS, "4", "b", "new"),
        )
        assert [("0", "b", "large"), ("1", "b", "small"), ("3", "a", "large"), ("4", "b", "new")] == replica.rows(ITEMS)

    def test_values_of_other_types_are_left_alone_as_well(self, begin: Open) -> None:
        schema = typed({"id": "integer", "image": "bytea", "document": "json", "amount": "numeric"}, "id")
        replica = begin(schema)
        replica.apply(insert(schema, "1", "\\x00ff5c", '{"a":  1}', "1.50"))
        replica.apply(update(schema, "1", UNCHANGED, UNCHANGED, "2.50"))
        replica.apply(rekey(schema, ("1",), "2", UNCHANGED, '{"b": [2]}', "3.50"))
        replica.apply(rekey(schema, ("2",), "3", "\\x5c4e", UNCHANGED, "4.50"))
        assert [("3", "\\x5c4e", '{"b": [2]}', "4.50")] == replica.rows(schema)


class TestTruncate:
    def test_what_comes_before_it_in_the_batch_is_gone_and_what_comes_after_stays(self, begin: Open) -> None:
        replica = begin(ITEMS, PAIRS)
        replica.apply(insert(ITEMS, "0", "old", None), insert(ITEMS, "1", "old", None), insert(PAIRS, "b", "stays", "a"))
        replica.apply(
            insert(ITEMS, "2", "before", None), truncate(ITEMS), insert(ITEMS, "1", "after", None), delete(ITEMS, "1"),
            insert(ITEMS, "3", "after", None),
        )  # fmt: skip
        assert [("3", "after", None)] == replica.rows(ITEMS)
        assert [("b", "stays", "a")] == replica.rows(PAIRS)

    def test_a_truncate_at_the_end_leaves_nothing(self, begin: Open) -> None:
        replica = begin(ITEMS, NOTES)
        replica.apply(insert(ITEMS, "1", "a", None), insert(NOTES, "a", "b"))
        replica.apply(insert(ITEMS, "2", "b", None), truncate(ITEMS), insert(NOTES, "c", "d"), truncate(NOTES))
        assert [] == replica.rows(ITEMS)
        assert [] == replica.rows(NOTES)

    def test_after_it_a_row_may_be_changed_in_part(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "old", "old"))
        replica.apply(
            truncate(ITEMS),
            insert(ITEMS, "1", "new", "large"),
            update(ITEMS, "1", UNCHANGED, UNCHANGED),
            rekey(ITEMS, ("1",), "2", "newer", UNCHANGED),
        )
        assert [("2", "newer", "large")] == replica.rows(ITEMS)


class TestWithoutAKey:
    def test_equal_rows_are_all_kept(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*[insert(NOTES, "same", None)] * 3, insert(NOTES, "other", None))
        replica.apply(insert(NOTES, "same", None))
        assert [("other", None), *[("same", None)] * 4] == replica.rows(NOTES)

    def test_a_delete_takes_one_of_equal_rows(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*[insert(NOTES, "same", "x")] * 5, *[insert(NOTES, "same", None)] * 2)
        replica.apply(delete_whole(NOTES, "same", "x"), delete_whole(NOTES, "same", "x"), delete_whole(NOTES, "same", None))
        assert [("same", "x"), ("same", "x"), ("same", "x"), ("same", None)] == replica.rows(NOTES)

    def test_an_update_changes_one_of_equal_rows(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*[insert(NOTES, "same", "x")] * 3)
        replica.apply(update(NOTES, "new", UNCHANGED, old=row("same", "x")))
        assert [("new", "x"), ("same", "x"), ("same", "x")] == replica.rows(NOTES)

    def test_rows_that_come_and_go_in_one_batch_leave_the_others(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(insert(NOTES, "same", "x"))
        replica.apply(insert(NOTES, "same", "x"), delete_whole(NOTES, "same", "x"), insert(NOTES, "", None))
        assert [("", None), ("same", "x")] == replica.rows(NOTES)

    def test_empty_texts_and_nulls_are_different_rows(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*(insert(NOTES, a, b) for a in ("", None) for b in ("", None)))
        replica.apply(delete_whole(NOTES, "", None))
        assert [("", ""), (None, ""), (None, None)] == replica.rows(NOTES)

    def test_rows_may_hold_types_that_know_no_equality_or_too_much_of_it(self, begin: Open, kind: DestinationKind) -> None:
        schema = typed({"amount": "numeric", "document": "json"}, name="facts", identity=Identity.FULL)
        replica = begin(schema)
        replica.apply(insert(schema, "1.0", "{}"), insert(schema, "1.00", "{}"), insert(schema, "1.00", "{ }"))
        replica.apply(delete_whole(schema, "1.00", "{}"))
        assert [("1.0", kind.printed_json("{}")), ("1.00", kind.printed_json("{ }"))] == replica.rows(schema)


class TestValuesAndNames:
    def test_any_text_is_written_as_it_is(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, str(n), text, None) for n, text in enumerate(AWKWARD_TEXTS)))
        assert in_order([(str(n), text, None) for n, text in enumerate(AWKWARD_TEXTS)]) == replica.rows(ITEMS)

    def test_any_text_is_written_beside_values_that_were_not_sent(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, str(n), None, "kept") for n in range(len(AWKWARD_TEXTS))))
        replica.apply(*(update(ITEMS, str(n), text, UNCHANGED) for n, text in enumerate(AWKWARD_TEXTS)))
        assert in_order([(str(n), text, "kept") for n, text in enumerate(AWKWARD_TEXTS)]) == replica.rows(ITEMS)

    def test_any_text_may_be_a_key_that_moves_to_any_other(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(*(insert(ITEMS, text, text, f"kept {n}") for n, text in enumerate(AWKWARD_TEXTS)))
        replica.apply(*(rekey(ITEMS, (text,), f"{text}!", text, UNCHANGED) for text in AWKWARD_TEXTS))
        moved: list[TextRow] = [(f"{text}!", text, f"kept {n}") for n, text in enumerate(AWKWARD_TEXTS)]
        assert in_order(moved) == replica.rows(ITEMS)
        replica.apply(*(delete(ITEMS, f"{text}!") for text in AWKWARD_TEXTS[1:]))
        assert moved[:1] == replica.rows(ITEMS)

    def test_any_text_is_found_in_a_table_without_a_key(self, begin: Open) -> None:
        replica = begin(NOTES)
        replica.apply(*(insert(NOTES, text, None) for text in AWKWARD_TEXTS), insert(NOTES, None, None))
        assert in_order([*((text, None) for text in AWKWARD_TEXTS), (None, None)]) == replica.rows(NOTES)
        replica.apply(*(delete_whole(NOTES, text, None) for text in AWKWARD_TEXTS))
        assert [(None, None)] == replica.rows(NOTES)

    def test_columns_may_have_any_names(self, begin: Open, kind: DestinationKind) -> None:
        names = [name for name in ODD_NAMES if name not in kind.unusable_columns]
        schema = table(*names, key=(names[0], names[10]))
        replica = begin(schema)
        values = [f"value {n}" for n in range(len(names))]
        replica.apply(insert(schema, *values), insert(schema, "gone", *values[1:]))
        replica.apply(update(schema, *values[:-1], UNCHANGED), delete(schema, "gone", values[10]))
        assert [tuple(values)] == replica.rows(schema)
        moved: list[Text] = [UNCHANGED] * len(values)
        moved[0], moved[1], moved[10] = "moved", "new", values[10]
        replica.apply(rekey(schema, (values[0], values[10]), *moved))
        assert [("moved", "new", *values[2:])] == replica.rows(schema)

    def test_columns_of_a_table_without_a_key_may_have_any_names(self, begin: Open, kind: DestinationKind) -> None:
        names = [name for name in ODD_NAMES if name not in kind.unusable_columns]
        schema = keyless(*names)
        replica = begin(schema)
        values = [f"value {n}" for n in range(len(names))]
        replica.apply(insert(schema, *values), insert(schema, *values))
        replica.apply(update(schema, "new", *[UNCHANGED] * (len(values) - 1), old=row(*values)))
        assert [("new", *values[1:]), tuple(values)] == replica.rows(schema)

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_a_table_and_its_namespace_may_have_any_name(self, begin: Open, kind: DestinationKind, name: str) -> None:
        if name in kind.unusable_namespaces:
            pytest.skip("The server behind the tests cannot take this name.")
        schema = TableSchema(id=TableId(name, name), columns=ITEMS.columns, key=ITEMS.key, identity=Identity.KEY)
        replica = begin(schema, copied=False)
        copy(replica.destination, [schema], b"1\ta\tkept\n")
        replica.apply(update(schema, "1", "b", UNCHANGED), insert(schema, "2", "c", None))
        assert [("1", "b", "kept"), ("2", "c", None)] == replica.rows(schema)
        replica.apply(truncate(schema))
        assert [] == replica.rows(schema)


class TestExactlyOnce:
    def test_how_far_the_slot_may_move_is_remembered_and_never_taken_back(self, begin: Open) -> None:
        assert begin(ITEMS).held.noted is None
        for lsn in (500, 400):
            begin(ITEMS).destination.note(Lsn(lsn))
        assert 500 == begin(ITEMS).held.noted
        begin(ITEMS).destination.forget()
        assert begin(ITEMS).held.noted is None

    def test_nothing_is_held_before_the_first_copy(self, begin: Open) -> None:
        assert Held() == begin(ITEMS, copied=False).held

    def test_the_watermark_is_what_the_last_batch_wrote(self, begin: Open) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "a", None))
        reached = first.apply(insert(ITEMS, "2", "b", None))
        assert copied_up_to(reached, ITEMS) == begin(ITEMS).held

    def test_a_watermark_of_64_bits_is_read_as_it_was_written(self, begin: Open) -> None:
        first = begin(ITEMS)
        high = Watermark(engine=Engine.PGOUTPUT, position=Position(2**64 - 1, 2**63, 70_000), xid=2**32 - 1)
        first.destination.apply(compact([insert(ITEMS, "1", "a", None)]), high)
        assert high == begin(ITEMS).held.watermark

    def test_an_empty_batch_moves_the_watermark(self, begin: Open) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "a", None))
        reached = first.apply()
        second = begin(ITEMS)
        assert reached == second.held.watermark
        assert [("1", "a", None)] == second.rows(ITEMS)

    def test_a_batch_that_comes_again_after_a_crash_is_done_once(self, begin: Open) -> None:
        # The crash came after the batch was durable and before the source was told so.
        notes = [insert(NOTES, f"note {n}", None, at=Position(n, n, 0), xid=500 + n) for n in range(1, 6)]
        first = begin(NOTES)
        first.destination.apply(compact(notes[:3]), watermark(3))
        first.destination.close()
        second = begin(NOTES)
        left = second.held.missing_changes(notes, Engine.DEBEZIUM)
        assert notes[3:] == left
        second.destination.apply(compact(left), watermark(5))
        assert [(f"note {n}", None) for n in range(1, 6)] == second.rows(NOTES)

    def test_a_copy_and_the_stream_overlap_without_doubling(self, begin: Open) -> None:
        first = begin(NOTES, copied=False)
        copy(first.destination, [NOTES], b"in the copy\t\\N\n")
        held = begin(NOTES).held
        in_copy = insert(NOTES, "in the copy", None, at=Position(1, 1, 0), xid=99)
        after = insert(NOTES, "after", None, at=Position(1, 2, 0), xid=100)
        first.apply(*held.missing_changes([in_copy, after], Engine.DEBEZIUM))
        assert [("after", None), ("in the copy", None)] == first.rows(NOTES)

    @pytest.mark.parametrize("bad", [("not a number", "b"), ("2", None)], ids=["wrong type", "null in the key"])
    def test_a_batch_that_fails_leaves_neither_rows_nor_watermark(self, begin: Open, bad: tuple[str, str | None]) -> None:
        schema = typed({"amount": "integer", "id": "text"}, "id", name="amounts")
        first = begin(ITEMS, schema)
        reached = first.apply(insert(ITEMS, "1", "a", None), insert(schema, "1", "a"))
        with pytest.raises(DestinationRejected):
            first.apply(insert(ITEMS, "2", "b", None), delete(ITEMS, "1"), truncate(schema), insert(schema, *bad))
        first.destination.close()
        second = begin(ITEMS, schema)
        assert reached == second.held.watermark
        assert [("1", "a", None)] == second.rows(ITEMS)
        assert [("1", "a")] == second.rows(schema)
        second.apply(insert(ITEMS, "2", "b", None), insert(schema, "2", "b"))
        assert [("1", "a", None), ("2", "b", None)] == second.rows(ITEMS)

    @pytest.mark.parametrize("row_count", [1, 100])
    def test_an_error_of_the_destination_quotes_no_value(self, begin: Open, row_count: int) -> None:
        schema = typed({"id": "integer", "amount": "integer"}, "id", name="amounts")
        replica = begin(schema)
        with pytest.raises(RosettaError) as caught:
            replica.apply(*(insert(schema, str(n), "a secret") for n in range(row_count)))
        assert "a secret" not in f"{caught.value} {caught.value.__cause__}"
        assert "22P02" in str(caught.value)

    @pytest.mark.parametrize("row_count", [1, 100])
    def test_an_error_of_the_destination_names_the_table_and_the_column(self, begin: Open, row_count: int) -> None:
        schema = typed({"id": "integer", "amount": "integer"}, "id", name="amounts")
        replica = begin(schema)
        with pytest.raises(DestinationRejected, match=r"(?s)amounts.*amount\b"):
            replica.apply(*(insert(schema, str(n), "not a number") for n in range(row_count)))

    def test_a_second_run_that_writes_first_stops_the_other(self, begin: Open) -> None:
        one, other = begin(ITEMS), begin(ITEMS)
        reached = one.apply(insert(ITEMS, "1", "of one", None))
        with pytest.raises(WatermarkMoved):
            other.apply(insert(ITEMS, "2", "of the other", None), update(ITEMS, "1", "of the other", None))
        assert [("1", "of one", None)] == one.rows(ITEMS)
        assert reached == begin(ITEMS).held.watermark

    def test_a_run_that_was_overtaken_later_is_stopped_too(self, begin: Open) -> None:
        begin(ITEMS).apply(insert(ITEMS, "0", "first", None))
        one, other = begin(ITEMS), begin(ITEMS)
        one.apply(insert(ITEMS, "1", "of one", None))
        other_number = 5000
        with pytest.raises(WatermarkMoved):
            other.destination.apply(compact([insert(ITEMS, "2", "of the other", None)]), watermark(other_number))
        one.apply(insert(ITEMS, "3", "of one", None))
        assert [("0", "first", None), ("1", "of one", None), ("3", "of one", None)] == one.rows(ITEMS)

    def test_two_pipelines_keep_watermarks_of_their_own(self, begin: Open) -> None:
        other_identity = StreamIdentity(pipeline="other", system_identifier="7", slot_name="rosetta_other")
        one, other = begin(ITEMS), begin(NOTES, identity=other_identity)
        one_reached = one.apply(insert(ITEMS, "1", "a", None))
        other.apply()
        other_reached = other.apply(insert(NOTES, "a", "b"))
        assert copied_up_to(one_reached, ITEMS) == begin(ITEMS).held
        assert copied_up_to(other_reached, NOTES) == begin(NOTES, identity=other_identity).held


class TestTheStreamItContinues:
    @pytest.mark.parametrize(
        ("system_identifier", "slot_name"),
        [("7000000000000000002", "rosetta_shop"), ("7000000000000000001", "rosetta_other")],
        ids=["another cluster", "another slot"],
    )
    def test_another_stream_is_refused_and_the_old_one_goes_on(
        self, begin: Open, kind: DestinationKind, system_identifier: str, slot_name: str
    ) -> None:
        reached = begin(ITEMS).apply(insert(ITEMS, "1", "a", None))
        foreign = make(kind, [ITEMS])
        with pytest.raises(SlotInvalid):
            foreign.open(StreamIdentity(pipeline="shop", system_identifier=system_identifier, slot_name=slot_name))
        foreign.close()
        assert reached == begin(ITEMS).held.watermark

    def test_what_was_forgotten_may_come_from_another_stream(self, begin: Open) -> None:
        first = begin(NOTES, copied=False)
        copy(first.destination, [NOTES], b"old\t\\N\n")
        first.apply(insert(NOTES, "old too", None))
        first.destination.close()
        first.destination.forget()
        moved = StreamIdentity(pipeline="shop", system_identifier="7000000000000000002", slot_name="rosetta_new")
        second = begin(NOTES, identity=moved, copied=False)
        assert (None, {}) == (second.held.watermark, second.held.copied)
        assert [("old", None), ("old too", None)] == second.rows(NOTES), "rows stay until they are copied anew"
        copy(second.destination, [NOTES], b"new\t\\N\n")
        assert [("new", None)] == second.rows(NOTES)

    def test_forgetting_what_was_never_known_does_nothing(self, begin: Open, kind: DestinationKind) -> None:
        make(kind, [ITEMS]).forget()
        assert Held() == begin(ITEMS, copied=False).held

    def test_a_destination_may_be_closed_twice_and_before_it_was_opened(self, begin: Open, kind: DestinationKind) -> None:
        make(kind, [ITEMS]).close()
        replica = begin(ITEMS)
        replica.destination.close()
        replica.destination.close()
        assert [] == begin(ITEMS).rows(ITEMS)


class TestCopies:
    def test_copied_rows_are_loaded_with_every_text(self, begin: Open) -> None:
        replica = begin(ITEMS, copied=False)
        replica.destination.start_copy([ITEMS], BEGINNING)
        with replica.destination.loader() as loader:
            assert 2 == loader.load(ITEMS, pages(), [b"1\ta\\tb\\n\\\\N\t", b"\\N\n2\t\t", "ß\n".encode()])
            assert 1 == loader.load(ITEMS, pages(), [b"3\tc\t\\N\n"])
            assert 0 == loader.load(ITEMS, pages(), [])
        assert [("1", "a\tb\n\\N", None), ("2", "", "ß"), ("3", "c", None)] == replica.rows(ITEMS)

    def test_loaders_work_side_by_side(self, begin: Open) -> None:
        replica = begin(ITEMS, NOTES, copied=False)
        replica.destination.start_copy([ITEMS, NOTES], BEGINNING)
        with replica.destination.loader() as one, replica.destination.loader() as other:
            assert 1 == one.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
            assert 1 == other.load(NOTES, pages(), [b"x\ty\n"])
            assert 1 == other.load(ITEMS, pages(), [b"2\tb\t\\N\n"])
        assert [("1", "a", None), ("2", "b", None)] == replica.rows(ITEMS)
        assert [("x", "y")] == replica.rows(NOTES)

    def test_loaded_rows_are_durable_on_return(self, begin: Open) -> None:
        replica = begin(ITEMS, copied=False)
        replica.destination.start_copy([ITEMS], BEGINNING)
        with replica.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
            assert [("1", "a", None)] == replica.rows(ITEMS)

    def test_only_finished_copies_are_held(self, begin: Open) -> None:
        replica = begin(ITEMS, NOTES, copied=False)
        point = SnapshotPoint(Lsn.parse("1F/FFFFFFFF"), XidSnapshot(2**33, 2**33 + 9, frozenset({2**33 + 1, 2**33 + 7})))
        replica.destination.start_copy([ITEMS, NOTES], point)
        finish(replica.destination, ITEMS)
        assert {ITEMS.id: point} == begin(ITEMS, NOTES, copied=False).held.copied

    def test_a_copy_that_is_started_again_is_not_held_until_it_is_finished_again(self, begin: Open) -> None:
        replica = begin(ITEMS, NOTES, copied=False)
        copy(replica.destination, [ITEMS, NOTES], b"")
        later = SnapshotPoint(Lsn(32), XidSnapshot(200, 200, frozenset()))
        replica.destination.start_copy([ITEMS], later)
        assert {NOTES.id: BEGINNING} == begin(ITEMS, NOTES, copied=False).held.copied
        finish(replica.destination, ITEMS)
        assert {ITEMS.id: later, NOTES.id: BEGINNING} == begin(ITEMS, NOTES, copied=False).held.copied

    def test_an_interrupted_copy_is_emptied_and_done_again(self, begin: Open) -> None:
        first = begin(NOTES, ITEMS, copied=False)
        copy(first.destination, [ITEMS], b"1\ta\t\\N\n")
        first.destination.start_copy([NOTES], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(NOTES, pages(), [b"half\t\\N\n"])
        first.destination.close()
        second = begin(NOTES, ITEMS, copied=False)
        assert {ITEMS.id: BEGINNING} == second.held.copied
        copy(second.destination, [NOTES], b"half\t\\N\nand half\t\\N\n")
        assert [("and half", None), ("half", None)] == second.rows(NOTES)
        assert [("1", "a", None)] == second.rows(ITEMS)
        assert {ITEMS.id: BEGINNING, NOTES.id: BEGINNING} == begin(NOTES, ITEMS).held.copied

    def test_a_copy_that_fails_leaves_no_row_of_its_range(self, begin: Open) -> None:
        schema = typed({"id": "integer"}, "id", name="numbers")
        replica = begin(schema, copied=False)
        replica.destination.start_copy([schema], BEGINNING)
        with pytest.raises(DestinationRejected), replica.destination.loader() as loader:
            loader.load(schema, pages(), [b"1\n2\n", b"three\n"])
        assert [] == replica.rows(schema)

    def test_ranges_are_held_until_the_copy_is_finished(self, begin: Open) -> None:
        replica = begin(ITEMS, copied=False)
        replica.destination.start_copy([ITEMS], BEGINNING)
        odd = PageRange(Relation(TableId("a part", 'of "it"'), 2**32 - 1), 8192, None)
        loaded = [CopiedRange(odd, 2**40), pages()]
        with replica.destination.loader() as loader:
            for number, part in enumerate(loaded):
                loader.load(ITEMS, part, [f"{number}\t\\N\t\\N\n".encode()])
        held = begin(ITEMS, copied=False).held
        assert {ITEMS.id: BegunCopy(table=ITEMS, ranges=frozenset(loaded))} == held.begun
        finish(replica.destination, ITEMS)
        assert {} == begin(ITEMS).held.begun

    def test_rows_that_may_be_there_are_replaced(self, begin: Open) -> None:
        replica = begin(ITEMS, copied=False)
        replica.destination.start_copy([ITEMS], BEGINNING)
        part = pages()
        with replica.destination.loader() as loader:
            loader.load(ITEMS, part, [b"1\ta\tx\n2\tb\ty\n"])
        replica.destination.resume_copy([ITEMS], BEGINNING)
        with replica.destination.loader() as loader:
            assert 2 == loader.load(ITEMS, part, [b"2\tB\t\\N\n3\tc\tz\n"], replacing=True)
        assert [("1", "a", "x"), ("2", "B", None), ("3", "c", "z")] == replica.rows(ITEMS)

    def test_a_copy_is_resumed_as_of_a_later_point(self, begin: Open) -> None:
        first = begin(ITEMS, copied=False)
        first.destination.start_copy([ITEMS], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\tx\n2\tb\ty\n3\tc\tz\n"])
        first.destination.close()
        later = SnapshotPoint(Lsn(32), XidSnapshot(200, 200, frozenset()))
        second = begin(ITEMS, copied=False)
        second.destination.resume_copy([ITEMS], later)
        with second.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"4\td\t\\N\n2\tB\ty\n"], replacing=True)
            loader.keep(ITEMS, [b"2\n", b"3\n4\n"])
        finish(second.destination, ITEMS)
        assert {ITEMS.id: later} == begin(ITEMS).held.copied
        assert [("2", "B", "y"), ("3", "c", "z"), ("4", "d", None)] == second.rows(ITEMS)

    def test_rows_of_somebody_else_are_refused_and_stay(self, begin: Open, kind: DestinationKind) -> None:
        somebody = StreamIdentity(pipeline="other", system_identifier="7", slot_name="rosetta_other")
        begin(ITEMS, identity=somebody).destination.close()
        kind.insert(ITEMS.id, ITEMS.column_names, ("1", "not ours", None))
        replica = begin(NOTES, ITEMS, copied=False)
        with pytest.raises(TableNotOurs, match=r"public\.items"):
            replica.destination.start_copy([NOTES, ITEMS], BEGINNING)
        replica.destination.close()
        assert [("1", "not ours", None)] == replica.rows(ITEMS)
        # Nor did the refused start make any of the tables ours.
        again = begin(NOTES, ITEMS, copied=False)
        assert Held() == again.held
        with pytest.raises(TableNotOurs):
            again.destination.start_copy([ITEMS], BEGINNING)

    def test_a_table_of_another_pipeline_is_refused(self, begin: Open) -> None:
        copy(begin(NOTES, copied=False).destination, [NOTES], b"of shop\t\\N\n")
        other_identity = StreamIdentity(pipeline="other", system_identifier="7", slot_name="rosetta_other")
        other = begin(NOTES, identity=other_identity, copied=False)
        with pytest.raises(TableNotOurs):
            other.destination.start_copy([NOTES], BEGINNING)
        assert [("of shop", None)] == other.rows(NOTES)

    def test_rows_are_counted_at_any_time(self, begin: Open, kind: DestinationKind) -> None:
        assert {ITEMS.id: 0, NOTES.id: 0} == make(kind, [ITEMS, NOTES]).row_counts([ITEMS.id, NOTES.id])
        replica = begin(ITEMS, NOTES)
        replica.apply(*(insert(ITEMS, str(n), None, None) for n in range(7)), *[insert(NOTES, "same", None)] * 2)
        replica.destination.close()
        assert {ITEMS.id: 7, NOTES.id: 2} == make(kind, [ITEMS, NOTES]).row_counts([ITEMS.id, NOTES.id])


class TestTablesAndColumns:
    def test_pipelines_may_begin_together_at_a_new_destination(self, begin: Open) -> None:
        tables = [table("id", name=f"items_{number}") for number in range(6)]

        def begun(schema: TableSchema) -> Replica:
            identity = StreamIdentity(
                pipeline=schema.id.name, system_identifier=IDENTITY.system_identifier, slot_name=f"slot_{schema.id.name}"
            )
            return begin(schema, identity=identity, namespace="shared")

        with ThreadPoolExecutor(len(tables)) as pool:
            replicas = list(pool.map(begun, tables))
        assert len(tables) == len(replicas)

    def test_missing_tables_are_made_with_their_columns_in_order(self, begin: Open, kind: DestinationKind) -> None:
        assert [] == kind.columns(ITEMS.id)
        begin(ITEMS, PAIRS)
        assert ["id", "name", "size"] == kind.columns(ITEMS.id)
        assert ["b", "value", "a"] == kind.columns(PAIRS.id)

    def test_missing_columns_are_added_and_rows_stay(self, begin: Open, kind: DestinationKind) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        wide = table("id", "name", "size", "last", "least")
        replica = begin(wide)
        replica.apply(insert(wide, "2", "b", "y", "l", "e"), update(wide, "1", UNCHANGED, UNCHANGED, "L", None))
        assert ["id", "name", "size", "last", "least"] == kind.columns(wide.id)
        assert [("1", "a", "x", "L", None), ("2", "b", "y", "l", "e")] == replica.rows(wide)

    def test_a_missing_column_that_may_not_be_null_can_be_added_to_rows_without_it(self, begin: Open) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        more = Column(name="more", type="text", type_oid=25, base_oid=25, not_null=True, number=4)
        wide = TableSchema(id=ITEMS.id, columns=(*ITEMS.columns, more), key=ITEMS.key, identity=Identity.KEY)
        replica = begin(wide)
        replica.apply(insert(wide, "2", "b", "y", "m"))
        assert [("1", "a", "x", None), ("2", "b", "y", "m")] == replica.rows(wide)

    def test_a_column_that_the_source_has_no_more_is_kept(self, begin: Open, kind: DestinationKind) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        narrow = only(ITEMS, "id", "size")
        begin(narrow).apply(insert(narrow, "2", "y"), update(narrow, "1", "z"))
        assert [("1", "a", "z"), ("2", None, "y")] == kind.rows(ITEMS.id, ITEMS.column_names)

    def test_columns_may_come_and_go_within_one_batch(self, begin: Open) -> None:
        wide = table("id", "name", "size", "colour")
        narrow = only(wide, "id", "colour")
        replica = begin(ITEMS)
        replica.apply(
            insert(ITEMS, "1", "a", "x"),
            update(wide, "1", "b", UNCHANGED, "red"),
            insert(wide, "2", "c", "y", "green"),
            update(narrow, "2", "blue"),
            insert(narrow, "3", "black"),
        )
        assert [("1", "b", "x", "red"), ("2", "c", "y", "blue"), ("3", None, None, "black")] == replica.rows(wide)

    def test_a_column_keeps_its_values_under_another_name(self, begin: Open, kind: DestinationKind) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        renamed = with_columns(ITEMS, name="label")
        replica = begin(renamed)
        replica.apply(insert(renamed, "2", "b", "y"))
        assert ["id", "label", "size"] == kind.columns(ITEMS.id)
        assert [("1", "a", "x"), ("2", "b", "y")] == replica.rows(renamed)

    def test_rows_from_before_a_column_hold_what_it_was_added_with(self, begin: Open) -> None:
        begin(ITEMS).apply(insert(ITEMS, "1", "a", "x"))
        wide = table("id", "name", "size", "colour")
        colour = replace(wide.columns[3], filling=OldRowValues.CONSTANT, fill_value="it's \\ red")
        wide = replace(wide, columns=(*wide.columns[:3], colour))
        replica = begin(wide)
        replica.apply(insert(wide, "2", "b", "y", None), update(wide, "1", "A", UNCHANGED, UNCHANGED))
        assert [("1", "A", "x", "it's \\ red"), ("2", "b", "y", None)] == replica.rows(wide)

    def test_columns_are_added_by_changes_that_cancel_each_other_out(self, begin: Open, kind: DestinationKind) -> None:
        replica = begin(NOTES)
        replica.apply(insert(NOTES, "x", "y"))
        wide = keyless("text", "more", "colour")
        colour = replace(wide.columns[2], filling=OldRowValues.CONSTANT, fill_value="red")
        wide = replace(wide, columns=(*wide.columns[:2], colour))
        same = row("x", "y", "red")
        replica.apply(update(wide, "x", "y", "red", old=same))
        assert ["text", "more", "colour"] == kind.columns(NOTES.id)
        assert [("x", "y", "red")] == replica.rows(wide)

    def test_a_key_may_move_as_the_first_thing_after_a_column_came(self, begin: Open) -> None:
        replica = begin(ITEMS)
        replica.apply(insert(ITEMS, "1", "a", "x"))
        wide = table("id", "name", "size", "colour")
        replica.apply(rekey(wide, ("1",), "2", UNCHANGED, UNCHANGED, "red"))
        assert [("2", "a", "x", "red")] == replica.rows(wide)

    def test_a_wider_type_takes_what_the_narrow_one_could_not(self, begin: Open) -> None:
        narrow = typed({"id": "integer", "value": "integer"}, "id")
        begin(narrow).apply(insert(narrow, "1", "2147483647"))
        wide = typed({"id": "integer", "value": "bigint"}, "id")
        replica = begin(narrow)
        replica.apply(insert(narrow, "2", "7"), insert(wide, "3", "2147483648"))
        assert [("1", "2147483647"), ("2", "7"), ("3", "2147483648")] == replica.rows(wide)

    @pytest.mark.parametrize(
        "after",
        [
            typed({"id": "integer", "value": "integer"}, "id"),
            replace(typed({"id": "integer", "value": "text"}, "id"), columns=(ID, replace(VALUE, number=3))),
            replace(typed({"id": "integer", "value": "text"}, "id"), columns=(ID, replace(VALUE, number=0))),
        ],
        ids=["narrower", "dropped and added", "unknown"],
    )
    def test_what_cannot_be_followed_is_refused_for_this_table_alone(self, begin: Open, after: TableSchema) -> None:
        before = typed({"id": "integer", "value": "text"}, "id")
        replica = begin(before, NOTES)
        replica.apply(insert(before, "1", "a"))
        with pytest.raises(SchemaChangeRefused) as raised:
            replica.apply(insert(NOTES, "x", "y"), insert(after, "2", "7"))
        assert raised.value.broken == BrokenTable(before.id, replica.destination.name)
        assert ([("1", "a")], []) == (replica.rows(before), replica.rows(NOTES))
        replica.destination.close()
        replica.destination.set_aside(before.id, "because")
        assert {before.id: "because"} == begin(before, NOTES).held.set_aside

    def test_a_table_that_is_copied_anew_gets_the_columns_of_the_source(self, begin: Open) -> None:
        before = typed({"id": "integer", "value": "text"}, "id")
        first = begin(before)
        first.apply(insert(before, "1", "a"))
        first.destination.close()
        first.destination.set_aside(before.id, "because")
        first.destination.forget([before.id])
        after = typed({"id": "integer", "value": "integer", "more": "text"}, "id")
        second = begin(after, copied=False)
        assert {} == second.held.set_aside
        copy(second.destination, [after], b"2\t7\tx\n")
        assert [("2", "7", "x")] == second.rows(after)

    @pytest.mark.parametrize("is_dropped_before", [False, True], ids=["dropped with it", "dropped before"])
    def test_a_key_that_took_the_name_of_a_dropped_column_is_copied_anew(
        self, begin: Open, *, is_dropped_before: bool
    ) -> None:
        before = typed({"id": "text", "value": "integer"}, "id")
        first = begin(before)
        first.apply(insert(before, "a", "1"))
        if is_dropped_before:
            first.apply(insert(only(before, "id"), "b"))
        first.destination.close()
        first.destination.forget([before.id])
        after = replace(before, columns=(replace(before.columns[0], name="value"),), key=("value",))
        second = begin(after, copied=False)
        copy(second.destination, [after], b"c\n")
        second.apply(insert(after, "d"), delete(after, "c"))
        assert [("d",)] == second.rows(after)

    def test_a_table_goes_to_its_target(self, begin: Open, kind: DestinationKind) -> None:
        target = TableId("the replica", 'the "items"')
        replica = begin(ITEMS, NOTES, copied=False, targets={ITEMS.id: target})
        copy(replica.destination, [ITEMS], b"1\ta\t\\N\n")
        copy(replica.destination, [NOTES])
        replica.apply(insert(ITEMS, "2", "b", None), insert(NOTES, "x", "y"), rekey(ITEMS, ("1",), "3", UNCHANGED, "z"))
        assert [("2", "b", None), ("3", "a", "z")] == kind.rows(target, ITEMS.column_names)
        assert [("x", "y")] == kind.rows(NOTES.id, NOTES.column_names)
        assert [] == kind.columns(ITEMS.id)
        assert {ITEMS.id: 2} == replica.destination.row_counts([ITEMS.id])

    def test_a_table_with_another_target_is_copied_anew_into_it(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS, NOTES)
        first.apply(insert(ITEMS, "1", "old", None), insert(NOTES, "x", "y"))
        first.destination.close()
        first.destination.set_aside(ITEMS.id, "because")
        moved = {ITEMS.id: TableId("kept", "elsewhere")}
        second = begin(ITEMS, NOTES, copied=False, targets=moved)
        assert ({NOTES.id}, {}, {}) == (set(second.held.copied), second.held.begun, second.held.set_aside)
        copy(second.destination, [ITEMS], b"1\tnew\t\\N\n")
        second.apply(update(ITEMS, "1", "newer", UNCHANGED), insert(NOTES, "z", None))
        second.destination.close()
        assert ([("1", "newer", None)], [("x", "y"), ("z", None)]) == (second.rows(ITEMS), second.rows(NOTES))
        assert [("1", "old", None)] == kind.rows(ITEMS.id, ITEMS.column_names)
        assert {ITEMS.id, NOTES.id} == set(begin(ITEMS, NOTES, targets=moved).held.copied)
        # Back where it was, it lacks what passed by; the rows there are somebody's by now.
        third = begin(ITEMS, NOTES, copied=False)
        assert ({NOTES.id}, {}) == (set(third.held.copied), third.held.begun)
        with pytest.raises(TableNotOurs):
            third.destination.start_copy([ITEMS], BEGINNING)

    def test_ranges_that_went_into_another_target_are_not_held_of_this_one(self, begin: Open) -> None:
        first, moved = begin(ITEMS, copied=False), {ITEMS.id: TableId("kept", "items")}
        first.destination.start_copy([ITEMS], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
        first.destination.close()
        second = begin(ITEMS, copied=False, targets=moved)
        assert {} == second.held.begun
        second.destination.start_copy([ITEMS], BEGINNING)
        second.destination.close()
        assert frozenset() == begin(ITEMS, copied=False, targets=moved).held.begun[ITEMS.id].ranges

    def test_a_finished_copy_whose_target_went_away_and_came_back_is_copied_anew(
        self, begin: Open, kind: DestinationKind
    ) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "old", None))
        first.destination.close()
        # A run that gets no further than to open.
        begin(ITEMS, copied=False, targets={ITEMS.id: TableId("kept", "items")}).destination.close()
        second = begin(ITEMS, copied=False)
        assert ({}, {ITEMS.id}) == (second.held.copied, set(second.held.begun))
        copy(second.destination, [ITEMS], b"2\tnew\t\\N\n")
        assert [("2", "new", None)] == second.rows(ITEMS)

    def test_a_broken_off_copy_whose_table_was_dropped_starts_over(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS, copied=False)
        first.destination.start_copy([ITEMS], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
        first.destination.close()
        kind.drop(ITEMS.id)
        second = begin(ITEMS, copied=False)
        assert ({ITEMS.id: BegunCopy(table=None, ranges=frozenset())}, {}) == (second.held.begun, second.held.schemas)
        copy(second.destination, [ITEMS], b"2\tb\t\\N\n")
        assert [("2", "b", None)] == second.rows(ITEMS)

    def test_ranges_of_a_table_that_was_dropped_are_not_held_of_one_that_somebody_made_then(
        self, begin: Open, kind: DestinationKind
    ) -> None:
        first = begin(ITEMS, copied=False)
        first.destination.start_copy([ITEMS], BEGINNING)
        with first.destination.loader() as loader:
            loader.load(ITEMS, pages(), [b"1\ta\t\\N\n"])
        first.destination.close()
        kind.drop(ITEMS.id)
        # A run that gets no further than to open.
        begin(ITEMS, copied=False).destination.close()
        begin(ITEMS, identity=replace(IDENTITY, pipeline="other")).destination.close()
        assert frozenset() == begin(ITEMS, copied=False).held.begun[ITEMS.id].ranges

    def test_a_broken_off_copy_of_a_table_that_the_pipeline_has_no_more_is_not_asked_for(self, begin: Open) -> None:
        first = begin(ITEMS, NOTES, copied=False)
        first.destination.start_copy([ITEMS], BEGINNING)
        first.destination.close()
        second = begin(NOTES)
        second.apply(insert(NOTES, "x", "y"))
        assert [("x", "y")] == second.rows(NOTES)

    def test_a_stream_does_not_continue_on_a_table_that_was_dropped(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS, NOTES)
        first.apply(insert(ITEMS, "1", "a", None), insert(NOTES, "x", "y"))
        first.destination.close()
        kind.drop(ITEMS.id)
        with pytest.raises(DestinationRejected, match="is gone, and with it the rows") as caught:
            begin(ITEMS, NOTES)
        assert caught.value.broken is not None
        assert ITEMS.id == caught.value.broken.table
        first.destination.forget([ITEMS.id])
        third = begin(ITEMS, NOTES, copied=False)
        copy(third.destination, [ITEMS], b"2\tb\t\\N\n")
        assert ([("2", "b", None)], [("x", "y")]) == (third.rows(ITEMS), third.rows(NOTES))

    def test_all_tables_go_to_the_namespace_of_the_destination(self, begin: Open, kind: DestinationKind) -> None:
        replica = begin(ITEMS, NOTES, namespace="Its Own")
        replica.apply(insert(ITEMS, "1", "a", None), insert(NOTES, "x", "y"))
        assert [("1", "a", None)] == kind.rows(TableId("Its Own", "items"), ITEMS.column_names)
        assert [("x", "y")] == kind.rows(TableId("Its Own", "notes"), NOTES.column_names)
        assert [] == kind.columns(ITEMS.id)

    def test_preparing_again_changes_nothing(self, begin: Open, kind: DestinationKind) -> None:
        first = begin(ITEMS)
        first.apply(insert(ITEMS, "1", "a", None))
        first.destination.prepare([ITEMS])
        assert ["id", "name", "size"] == kind.columns(ITEMS.id)
        assert [("1", "a", None)] == begin(ITEMS).rows(ITEMS)


#: One more than there are rows at most, so that a row always finds a new key.
KEYS = [str(n) for n in range(8)]


class Model:
    """What a table holds, changed one change at a time; makes changes that the table allows."""

    def __init__(self, schema: TableSchema, dice: random.Random) -> None:
        self.schema = schema
        self.held: dict[str, TextRow] = {}
        self._dice = dice

    def changes(self) -> Iterator[Change]:
        """Changes without an end."""
        while True:
            is_new = not self.held or (len(self.held) < len(KEYS) and self._dice.random() < 0.3)
            key = None if is_new else self._dice.choice(sorted(self.held))
            if self._dice.random() < 0.01:
                self.held = {}
                yield truncate(self.schema)
            elif key is None:
                new_key = self._free_key()
                self.held[new_key] = (new_key, self._text(), self._text())
                yield insert(self.schema, *self.held[new_key])
            elif self._dice.random() < 0.2:
                whole = self.held.pop(key)
                yield delete(self.schema, key) if self.schema.key else delete_whole(self.schema, *whole)
            else:
                yield self._update(key)

    def _update(self, key: str) -> Change:
        """An update of some columns; the key changes now and then, and the other values are sent or not."""
        before = self.held.pop(key)
        new_key = self._free_key() if self._dice.random() < 0.3 else key
        sent: list[Text] = [new_key]
        after: list[str | None] = [new_key]
        for value in before[1:]:
            is_sent = self._dice.random() < 0.5
            after.append(self._text() if is_sent else value)
            sent.append(after[-1] if is_sent else UNCHANGED)
        self.held[new_key] = tuple(after)
        return update(self.schema, *sent, old=self._old_row(before, new_key))

    def _old_row(self, before: TextRow, new_key: str) -> Row | None:
        if not self.schema.key:
            return row(*before)
        return None if before[0] == new_key else key_row(self.schema, row(before[0]))

    def _free_key(self) -> str:
        return self._dice.choice([text for text in KEYS if text not in self.held])

    def _text(self) -> str | None:
        return self._dice.choice([*AWKWARD_TEXTS, None])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("schema", [ITEMS, keyless("id", "name", "size")], ids=["key", "no key"])
def test_any_changes_in_any_batches_leave_what_they_leave_one_by_one(begin: Open, schema: TableSchema, seed: int) -> None:
    dice = random.Random(seed)
    model, replica = Model(schema, dice), begin(schema)
    changes = model.changes()
    for _ in range(25):
        replica.apply(*islice(changes, dice.randint(1, 60)))
        assert in_order(list(model.held.values())) == replica.rows(schema)
