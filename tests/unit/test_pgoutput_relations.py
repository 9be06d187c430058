"""What a table is: as the stream's messages say, with the rest from the catalog."""

from dataclasses import replace
from operator import attrgetter

import pytest

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, TableReplaced
from rosetta_dagster.cdc.source.pgoutput.protocol import Relation, RelationColumn
from rosetta_dagster.cdc.source.pgoutput.reader import Reader
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import row, table
from tests.support.pgoutput import (
    ID,
    ITEMS,
    ITEMS_MESSAGE,
    ITEMS_OID,
    NAME,
    NOTES,
    NOTES_MESSAGE,
    NOTES_OID,
    OTHER_OID,
    START,
    column,
    delete,
    insert,
    relation,
    relations_of,
    schema_of,
    spelled,
    transaction,
    truncate,
    update,
)


def test_a_table_that_is_as_the_catalog_said_is_not_looked_up() -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    assert ITEMS is schema_of(relations, 7)


@pytest.mark.parametrize(("namespace", "name"), [("public", "other"), ("other", "items")])
def test_a_table_of_another_name_or_namespace_is_not_of_the_pipeline(namespace: str, name: str) -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, namespace, name, "d", (ID, NAME)))
    assert schema_of(relations, 7) is None


def test_a_table_that_was_replaced_by_one_of_its_name_is_known_by_both_numbers() -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    relations.learn(Relation(8, "public", "items", "d", (ID, NAME)))
    assert (ITEMS, ITEMS) == (schema_of(relations, 7), schema_of(relations, 8))


def test_changes_of_a_renamed_table_go_on_under_its_name_in_the_pipeline() -> None:
    relations = relations_of(ITEMS, oids={ITEMS.id: 7})
    relations.learn(Relation(7, "public", "renamed", "d", (ID, NAME)))
    assert ITEMS is schema_of(relations, 7)


def test_a_renamed_and_altered_table_is_looked_up_under_its_new_name() -> None:
    altered = replace(table("id", "name", "more"), id=TableId("archive", "renamed"))
    relations = relations_of(ITEMS, oids={ITEMS.id: 7}, read_schema={altered.id: altered}.get, type_name=lambda *_: "text")
    relations.learn(Relation(7, "archive", "renamed", "d", (ID, NAME, column("more"))))
    assert replace(altered, id=ITEMS.id) == schema_of(relations, 7)


def test_another_table_under_the_name_is_an_error_of_that_table() -> None:
    oids = {ITEMS.id: ITEMS_OID, NOTES.id: NOTES_OID}
    reader = Reader(relations_of(ITEMS, NOTES, oids=oids), START)
    replaced = [
        relation(OTHER_OID, "public", "items", "d", ID, NAME),
        insert(OTHER_OID, b"1", b"a", lsn=10),
        update(OTHER_OID, b"2", b"b", old=(b"1", None), lsn=20),
        delete(OTHER_OID, b"2", None, lsn=30),
        truncate(OTHER_OID, lsn=40),
    ]
    reader.read_some(transaction(1, 500, *replaced, NOTES_MESSAGE, insert(NOTES_OID, b"1", b"a", lsn=50)))
    *unreadable, readable = reader.take_complete()
    assert [(10, None), (20, None), (30, None), (40, None)] == [(each.lsn, each.row) for each in unreadable]
    assert NOTES is readable.table
    for change in unreadable:
        with pytest.raises(TableReplaced, match=r"public\.items was dropped or renamed") as caught:
            compact([change])
        assert BrokenTable(ITEMS.id) == caught.value.broken
        assert caught.value.remedy.endswith(
            "UPDATE pipeline_tables SET resync = true WHERE table_schema = 'public' AND table_name = 'items' "
            "AND pipeline_id = (SELECT id FROM pipelines WHERE name = 'shop');"
        )


def test_a_table_that_got_its_name_back_goes_on() -> None:
    relations = relations_of(ITEMS, oids={ITEMS.id: 7}, read_schema={ITEMS.id: ITEMS}.get, type_name=lambda *_: "text")
    for oid, name in ((7, "away"), (8, "items"), (8, "away"), (7, "items")):
        relations.learn(Relation(oid, "public", name, "d", (ID, NAME)))
    assert ITEMS is schema_of(relations, 7)
    assert schema_of(relations, 8) is None


def test_a_table_of_unknown_oid_that_was_renamed_is_no_longer_of_the_pipeline() -> None:
    relations = relations_of(ITEMS)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    relations.learn(Relation(7, "public", "renamed", "d", (ID, NAME)))
    assert schema_of(relations, 7) is None


def test_an_altered_table_is_as_its_message_says_and_the_catalog_has_the_rest() -> None:
    known = Column(
        name="tags", type="now", type_oid=9000, base_oid=1009, element_oid=25, not_null=True, comment="some words"
    )
    catalog = TableSchema(
        # Ahead of the message: one more column, and another order.
        id=ITEMS.id, columns=(known, *ITEMS.columns, Column(name="later", type="int", type_oid=23, base_oid=23)),
        key=("id",), identity=Identity.KEY, comment="about items",
    )  # fmt: skip
    relations = relations_of(ITEMS, read_schema={ITEMS.id: catalog}.get, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, column("gone", 20, modifier=44), column("tags", 9000))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert ("id", "gone", "tags") == schema.column_names
    assert (("id",), Identity.KEY, "about items") == (schema.key, schema.identity, schema.comment)
    assert Column(name="gone", type="type 20 of 44", type_oid=20, base_oid=20) == schema.columns[1]
    assert replace(known, type="type 9000 of -1") == schema.columns[2]


def test_a_column_is_of_the_type_in_the_message_where_the_catalog_differs() -> None:
    catalog = table("id", "name", "price")
    relations = relations_of(ITEMS, read_schema={ITEMS.id: catalog}.get, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME, column("price", 1700, modifier=9))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert ("type 1700 of 9", 1700, 1700, 9, 3) == attrgetter("type", "type_oid", "base_oid", "type_modifier", "number")(
        schema.columns[2]
    )


def test_an_altered_table_that_is_gone_is_read_as_it_was() -> None:
    relations = relations_of(ITEMS, read_schema=lambda _: None, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, column("other", 20))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert (("id", "other"), ("id",)) == (schema.column_names, schema.key)


def test_a_table_that_is_gone_may_have_lost_columns_before() -> None:
    known = table("id", "name", "old")
    relations = relations_of(known, read_schema=lambda _: None, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "d", (ID, column("old"))))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert [("id", 1), ("old", 3)] == [(each.name, each.number) for each in schema.columns]


def test_a_table_that_lost_its_key_has_none() -> None:
    keyless = replace(ITEMS, key=())
    relations = relations_of(ITEMS, read_schema=lambda _: keyless, type_name=lambda *_: "text")
    for identity in ("f", "f"):
        relations.learn(Relation(7, "public", "items", identity, (ID, NAME)))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert () == schema.key


def test_what_is_said_twice_is_the_same_table_unless_the_catalog_differs() -> None:
    asked: list[TableId] = []

    def read_schema(name: TableId) -> TableSchema:
        asked.append(name)
        return table("id", "name", "more")

    relations = relations_of(ITEMS, read_schema=read_schema, type_name=lambda *_: "text")
    schemas = []
    for oid in (7, 7, 8):
        relations.learn(Relation(oid, "public", "items", "d", (ID, NAME, column("more"))))
        schemas.append(schema_of(relations, oid))
    # The third one has another number, so the same name is of a table that was not there before.
    assert [ITEMS.id] * 2 == asked
    assert schemas[0] is schemas[1] is schemas[2]


@pytest.mark.parametrize(
    ("identity", "columns", "key", "expected"),
    [
        ("d", (ID, NAME), ("id",), Identity.KEY),
        ("i", (ID, NAME), ("id",), Identity.KEY),
        # The index that identified is gone, or there is no primary key.
        ("i", (column("id"), NAME), ("id",), Identity.NOTHING),
        ("d", (column("id"), NAME), ("id",), Identity.NOTHING),
        ("n", (column("id"), NAME), ("id",), Identity.NOTHING),
        # Here all columns identify, which makes none of them a key.
        ("f", (ID, column("name", identifies=True)), ("id",), Identity.FULL),
        # Another index identifies now.
        ("i", (column("id"), column("name", identifies=True)), ("name",), Identity.KEY),
        # The key is no longer among the columns.
        ("f", (column("name", identifies=True),), (), Identity.FULL),
    ],
)
def test_the_message_says_what_identifies_a_row(
    identity: str, columns: tuple[RelationColumn, ...], key: tuple[str, ...], expected: Identity
) -> None:
    relations = relations_of(ITEMS, read_schema=lambda _: ITEMS, type_name=spelled)
    relations.learn(Relation(7, "public", "items", identity, columns))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert (expected, key) == (schema.identity, schema.key)


def test_a_key_of_many_columns_keeps_the_order_of_the_catalog() -> None:
    known = table("a", "b", "c", key=("c", "a"))
    relations = relations_of(known, read_schema=lambda _: known, type_name=spelled)
    columns = (column("a", identifies=True), column("c", identifies=True))
    relations.learn(Relation(7, "public", "items", "d", columns))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert (("c", "a"), (1, 0)) == (schema.key, schema.key_indexes)


def test_a_key_column_renamed_since_stays_the_key_of_earlier_changes() -> None:
    # With FULL the message marks every column. Another one has the name here that the key has by now.
    renamed = table("name", "other", "added", key=("name",))
    columns = tuple(column(name, identifies=True) for name in ("id", "name", "added"))
    relations = relations_of(ITEMS, read_schema=lambda _: renamed, type_name=spelled)
    relations.learn(Relation(7, "public", "items", "f", columns))
    schema = schema_of(relations, 7)
    assert schema is not None
    assert ("id",) == schema.key


def test_changes_have_the_schema_from_before_or_after_an_alteration() -> None:
    altered = table("id", "name", "more")
    reader = Reader(relations_of(ITEMS, read_schema={ITEMS.id: altered}.get, type_name=lambda *_: "text"), START)
    messages = transaction(
        1, 500, ITEMS_MESSAGE, insert(ITEMS_OID, b"1", b"a", lsn=10),
        relation(ITEMS_OID, "public", "items", "d", ID, NAME, column("more")), insert(ITEMS_OID, b"2", b"b", b"c", lsn=20),
    )  # fmt: skip
    for message in messages:
        reader.read_some([message])
    before, after = reader.take_complete()
    assert (ITEMS, row("1", "a")) == (before.table, before.row)
    assert (altered, row("2", "b", "c")) == (after.table, after.row)


def test_the_log_may_be_older_than_the_catalog_and_catches_up_with_it() -> None:
    altered = table("id", "name", "more")
    relations = relations_of(altered, read_schema=lambda _: altered, type_name=lambda *_: "text")
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME)))
    assert ITEMS == schema_of(relations, 7)
    relations.learn(Relation(7, "public", "items", "d", (ID, NAME, column("more"))))
    assert altered == schema_of(relations, 7)
