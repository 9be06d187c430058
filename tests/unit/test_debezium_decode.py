from collections.abc import Sequence
from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.columns import Form
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Operation, UnreadableTable
from rosetta_dagster.cdc.change.position import Lsn, Position
from rosetta_dagster.cdc.change.schema import Identity, TableSchema
from rosetta_dagster.cdc.errors import BrokenTable, ChangeUndecodable
from rosetta_dagster.cdc.source.debezium.decode import Decoder, ReadSchemas
from rosetta_dagster.cdc.source.debezium.events import INTEGER, TEXT
from rosetta_dagster.cdc.source.debezium.positions import TransactionLsns
from rosetta_dagster.cdc.source.debezium.reader import Reader
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import column, row, table
from tests.support.debezium_batches import Event, batch_of, event, layout_of

PLACEHOLDER = "rosetta-unchanged-0123"
ITEMS = table("id", "name")


class Decoding:
    """Reads events one by one."""

    def __init__(self, known: TableSchema, read_schemas: ReadSchemas) -> None:
        self.decoder = Decoder({known.id: known}, {}, read_schemas, PLACEHOLDER)
        self._reader = Reader(self.decoder, TransactionLsns(Lsn(1), []), Lsn(1))

    def change(self, told: Event) -> Change:
        """The change that the event stands for; raises why it cannot be read."""
        change = self.told(told)
        if isinstance(change.table, UnreadableTable):
            raise change.table.error
        return change

    def told(self, *events: Event) -> Change:
        """The last change when these events have come."""
        self._reader.read(batch_of(events, added=()))
        return self._reader.changes[-1]

    def forms(self) -> list[Form]:
        """What is kept of each change."""
        return [kind.form for kind in self._reader.changes.kinds]

    @property
    def count(self) -> int:
        """How many changes there are."""
        return len(self._reader.changes)


def decoder(known: TableSchema = ITEMS, current: TableSchema | None = None) -> Decoding:
    """A decoder that was started with one schema, and has seen that the catalog holds another by now; None: nothing."""
    found = {} if current is None else {current.id: current}
    made = Decoding(known, lambda _: found)
    made.decoder.look_up([known.id])
    return made


def test_an_insert_is_decoded_with_its_place() -> None:
    found = decoder().change(event("c", None, {"id": "1", "name": "a"}))
    assert Change(40, 50, 0, 7, Operation.INSERT, ITEMS, row("1", "a"), None) == found


def test_an_update_of_other_columns_than_the_key_has_no_old_row() -> None:
    found = decoder().change(event("u", None, {"id": "1", "name": "b"}))
    assert (Operation.UPDATE, row("1", "b"), None) == (found.operation, found.row, found.old_row)


def test_an_update_whose_old_row_was_logged_has_both() -> None:
    whole = replace(ITEMS, identity=Identity.FULL)
    found = decoder(whole).change(event("u", {"id": "1", "name": "a"}, {"id": "1", "name": "b"}))
    assert (row("1", "b"), row("1", "a")) == (found.row, found.old_row)


def test_a_delete_has_only_the_old_row() -> None:
    found = decoder().change(event("d", {"id": "1", "name": None}, None))
    assert (Operation.DELETE, None, row("1", None)) == (found.operation, found.row, found.old_row)


def test_a_truncate_has_no_rows() -> None:
    found = decoder().change(event("t", None, None))
    assert Change(40, 50, 0, 7, Operation.TRUNCATE, ITEMS, None, None) == found


def test_a_truncate_comes_with_the_columns_of_the_change_before_it() -> None:
    read = decoder(ITEMS, table("id", "name", "added"))
    first = read.change(event("c", None, {"id": "1", "name": "a"}))
    assert first.table is read.change(event("t", None, None)).table
    assert ("id", "name") == first.table.column_names


def test_null_the_empty_string_and_a_value_not_sent_are_distinguished() -> None:
    read = decoder(table("id", "a", "b"))
    found = read.change(event("u", None, {"id": "", "a": None, "b": UNCHANGED}))
    assert row("", None, UNCHANGED) == found.row


def test_an_array_that_was_not_sent_is_recognized_in_every_change() -> None:
    arrays = replace(
        ITEMS, columns=(ITEMS.columns[0], replace(column("tags", "text[]", oid=1009, number=2), element_oid=25))
    )
    read = decoder(arrays, arrays)
    unsent = event("u", None, {"id": "1", "tags": f'["{PLACEHOLDER}"]'.encode()})
    sent = event("u", None, {"id": "1", "tags": b'["a"]'})
    found = [read.told(each) for each in (sent, unsent, sent, unsent)]
    assert [b"{a}", UNCHANGED, b"{a}", UNCHANGED] == [each.row[1] for each in found if each.row]
    assert [Form.WHOLE, Form.PARTIAL, Form.WHOLE, Form.PARTIAL] == read.forms()


def test_text_is_decoded_to_utf_8() -> None:
    found = decoder().change(event("c", None, {"id": "1", "name": "żółw\n\\N"}))
    assert (b"1", "żółw\n\\N".encode()) == found.row


def test_changes_of_a_table_share_one_schema_so_that_they_fold_into_one_batch() -> None:
    read = decoder()
    first, second = (read.change(event("c", None, {"id": each, "name": "a"})) for each in ("1", "2"))
    assert first.table is second.table


def test_an_added_column_is_read_from_the_catalog() -> None:
    wider = table("id", "name", "added")
    found = decoder(ITEMS, wider).change(event("c", None, {"id": "1", "name": "a", "added": "x"}))
    assert wider is found.table
    assert row("1", "a", "x") == found.row


def test_another_type_under_the_same_name_is_that_of_the_catalog() -> None:
    old, new = (
        replace(ITEMS, columns=(ITEMS.columns[0], column("name", kind, oid=1700, number=2)))
        for kind in ("numeric(4,2)", "numeric")
    )
    found = decoder(old, new).change(event("c", None, {"id": "1", "name": "12.34567"}))
    assert (new, row("1", "12.34567")) == (found.table, found.row)


def test_a_reading_that_finds_nothing_new_leaves_the_schema_as_it_is() -> None:
    read = decoder(ITEMS, table("id", "name"))
    first = read.change(event("c", None, {"id": "1", "name": "a"}))
    read.decoder.look_up([ITEMS.id])
    assert first.table is ITEMS is read.change(event("c", None, {"id": "2", "name": "a"})).table


def test_a_dropped_column_is_gone_from_the_schema() -> None:
    narrow = table("id")
    found = decoder(ITEMS, narrow).change(event("c", None, {"id": "1"}))
    assert narrow == found.table


def test_a_column_that_the_catalog_has_dropped_already_is_known_from_before() -> None:
    current = replace(ITEMS, columns=(ITEMS.columns[0], column("new", number=4)))
    found = decoder(table("id", "name", "old"), current).change(event("c", None, {"id": "1", "old": "x", "new": "y"}))
    assert (("id", "old", "new"), row("1", "x", "y")) == (found.table.column_names, found.row)
    assert ("id",) == found.table.key


def test_a_table_that_is_gone_from_the_catalog_is_decoded_by_what_was_known() -> None:
    found = decoder(table("id", "name", "old"), None).change(event("c", None, {"id": "1", "old": "x"}))
    assert (("id", "old"), ("id",)) == (found.table.column_names, found.table.key)


def test_a_table_that_is_gone_has_the_columns_that_the_catalog_had_last() -> None:
    found: dict[TableId, TableSchema] = {ITEMS.id: table("id", "name", "added")}
    made = Decoding(ITEMS, lambda _: found)
    made.decoder.look_up([ITEMS.id])
    found.clear()
    made.decoder.look_up([ITEMS.id])
    change = made.change(event("c", None, {"id": "1", "name": "a", "added": "x"}))
    assert (("id", "name", "added"), ("id",)) == (change.table.column_names, change.table.key)


def test_a_column_unknown_to_catalog_and_schema_is_refused_by_name_not_by_value() -> None:
    with pytest.raises(ChangeUndecodable, match=r"public\.items.*: ghost\.") as refused:
        decoder(ITEMS, ITEMS).change(event("c", None, {"id": "1", "name": "a", "ghost": "secret"}))
    assert "secret" not in str(refused.value)


def refusal(read: Decoding, refused_event: Event) -> ChangeUndecodable:
    with pytest.raises(ChangeUndecodable) as refused:
        read.change(refused_event)
    return refused.value


def test_a_text_in_what_was_a_boolean_is_read_by_the_catalogs_type() -> None:
    columns = (ITEMS.columns[0], column("name", "boolean", oid=16, number=2))
    known = replace(ITEMS, columns=columns)
    found = decoder(known, ITEMS).change(event("c", None, {"id": "1", "name": "no"}))
    assert (ITEMS, row("1", "no")) == (found.table, found.row)
    assert "no" not in str(refusal(decoder(known, known), event("c", None, {"id": "1", "name": "no"}))).split()


@pytest.mark.parametrize(
    ("before", "oid", "now", "value", "expected"),
    [
        ("integer", 23, ("numeric", 1700), None, None),
        ("numeric", 1700, ("text", 25), "NAN", "NaN"),
        ("text", 25, ("text", 16400), "a", "a"),
    ],
)
def test_a_change_is_of_the_type_that_it_was_logged_with(
    before: str, oid: int, now: tuple[str, int], value: str | None, expected: str | None
) -> None:
    known, current = (
        replace(ITEMS, columns=(ITEMS.columns[0], column("size", kind, oid=number, number=2)))
        for kind, number in ((before, oid), now)
    )
    logged = event("c", None, {"id": "1", "size": value})
    logged = logged._replace(layout=layout_of("items", ("id", "size"), "ss", (25, oid)))
    found = decoder(known, current).change(logged)
    assert (known, row("1", expected)) == (found.table, found.row)


def test_a_column_takes_its_new_digits_although_another_has_its_earlier_name() -> None:
    at = column("at", "timestamp(3)", oid=1114, number=3)
    known, current = (
        replace(ITEMS, columns=(ITEMS.columns[0], column(name, number=2), replace(at, type=kind)))
        for name, kind in (("name", "timestamp(3)"), ("note", "timestamp"))
    )
    change = decoder(known, current).change(event("c", None, {"id": "1", "name": "a", "at": None}))
    assert [("id", "text"), ("name", "text"), ("at", "timestamp")] == [(c.name, c.type) for c in change.table.columns]


@pytest.mark.parametrize(("before", "logged", "now"), [(21, 23, 20), (23, 20, 1700), (1043, 25, 1043), (2950, 25, 1043)])
def test_a_changed_type_is_read_where_values_have_the_same_text_form(before: int, logged: int, now: int) -> None:
    known, current = (
        replace(ITEMS, columns=(ITEMS.columns[0], column("size", f"type {oid}", oid=oid, number=2))) for oid in (before, now)
    )
    form = TEXT if logged == 25 else INTEGER
    change = event("c", None, {"id": "1", "size": "7"})
    change = change._replace(layout=layout_of("items", ("id", "size"), f"s{form}", (25, logged)))
    assert row("1", "7") == decoder(known, current).change(change).row


def test_a_changed_type_is_refused_where_values_have_another_text_form() -> None:
    known, current = (
        replace(ITEMS, columns=(ITEMS.columns[0], column("size", f"type {oid}", oid=oid, number=2))) for oid in (23, 25)
    )
    change = event("c", None, {"id": "1", "size": "NAN"})
    refusal(decoder(known, current), change._replace(layout=layout_of("items", ("id", "size"), "ss", (25, 1700))))


def test_of_columns_that_got_other_types_each_is_of_the_one_that_it_was_logged_with() -> None:
    earlier = column("size", "numeric", oid=1700, number=2), column("at", "timestamptz(0)", oid=1184, number=3)
    later = column("size", "text", number=2), column("at", "timestamptz", oid=1184, number=3)
    known, current = (replace(ITEMS, columns=(ITEMS.columns[0], *columns)) for columns in (earlier, later))
    logged = event("c", None, {"id": "1", "size": "NAN", "at": None})
    logged = logged._replace(layout=layout_of("items", ("id", "size", "at"), "sss", (25, 1700, 1184)))
    assert (earlier[0], later[1]) == decoder(known, current).change(logged).table.columns[1:]


def test_columns_with_unknown_numbers_are_refused_before_their_values_are_read() -> None:
    size = column("size", "integer", oid=23, number=2)
    current = replace(ITEMS, columns=(ITEMS.columns[0], replace(size, name="other"), replace(size, number=3)))
    error = refusal(decoder(ITEMS, current), event("c", None, {"id": "1", "size": b"5"}))
    assert "changed again before" in str(error)


def test_a_change_that_is_refused_leaves_what_is_known_of_its_table() -> None:
    read = decoder(ITEMS, table("name", "id"))
    first = read.change(event("c", None, {"id": "1", "name": "a"}))
    refusal(read, event("c", None, {"name": b"5", "id": "1"}))
    assert first.table is read.change(event("c", None, {"id": "2", "name": "b"})).table


def test_a_change_that_was_refused_appears_in_its_place_with_the_error() -> None:
    read, refused = decoder(ITEMS, ITEMS), event("c", None, {"id": "1", "name": b"5"})
    found = read.told(refused)
    assert (40, 50, 0, 7, Operation.INSERT) == found[:5]
    assert isinstance(found.table, UnreadableTable)
    assert (ITEMS.id, BrokenTable(ITEMS.id)) == (found.table.id, found.table.error.broken)
    assert Position(40, 50, 1) == read.change(event("c", None, {"id": "2", "name": "b"})).position


def test_changes_that_are_refused_for_one_reason_share_one_schema() -> None:
    read, refused = decoder(ITEMS, ITEMS), event("c", None, {"id": "1", "name": b"5"})
    first, second = (read.told(refused) for _ in range(2))
    assert first.table is second.table


def test_the_catalog_is_read_once_in_a_transaction_whose_changes_are_refused() -> None:
    read: list[TableId] = []

    def read_schemas(asked: Sequence[TableId]) -> dict[TableId, TableSchema]:
        read.extend(asked)
        return {ITEMS.id: ITEMS}

    decode = Decoding(ITEMS, read_schemas)
    for xid in (7, 7, 8):
        refusal(decode, event("c", None, {"id": "1", "name": b"5"}, xid=xid))
    assert [ITEMS.id, ITEMS.id] == read


def test_a_delete_is_decoded_by_the_columns_of_its_old_row() -> None:
    wider = table("id", "name", "added")
    found = decoder(ITEMS, wider).change(event("d", {"id": "1", "name": None, "added": None}, None))
    assert (wider, row("1", None, None)) == (found.table, found.old_row)


def test_a_key_column_renamed_since_stays_the_key_of_earlier_changes() -> None:
    found = decoder(table("id", "name"), table("ident", "name", "added", key=("ident",))).change(
        event("u", None, {"id": "1", "name": "a", "added": "x"})
    )
    assert ("id",) == found.table.key


def test_a_change_that_cannot_be_read_leaves_those_of_its_layout_readable() -> None:
    size = replace(ITEMS, columns=(ITEMS.columns[0], column("size", "integer", oid=23, number=2)))
    read = decoder(size, size)
    good, bad = (event("c", None, {"id": "1", "size": value}) for value in (b"5", b"[5]"))
    assert [False, True, False] == [isinstance(read.told(each).table, UnreadableTable) for each in (good, bad, good)]
    assert row("1", "5") == read.change(good).row


def test_events_of_an_earlier_layout_are_read_by_the_table_as_it_is_known_by_then() -> None:
    narrow, wide = ({"id": "1", "name": "a"}, {"id": "1", "name": "a", "added": "x"})
    read = decoder(ITEMS, table("id", "name", "added"))
    tables = [read.change(event("c", None, each)).table for each in (narrow, wide, wide, narrow, narrow)]
    assert [2, 3, 3, 2, 2] == [len(each.columns) for each in tables]
    assert tables[1] is tables[2]
    assert tables[3] is tables[4]


def test_a_table_that_turns_out_to_have_another_type_has_it_in_all_that_follows() -> None:
    flags = replace(ITEMS, columns=(ITEMS.columns[0], column("name", "boolean", oid=16, number=2)))
    found = {ITEMS.id: flags}
    read = Decoding(flags, lambda _: found)
    empty = event("c", None, {"id": "1", "name": None})
    assert flags is read.change(empty).table
    found[ITEMS.id] = ITEMS
    assert [ITEMS, ITEMS] == [read.change(each).table for each in (event("u", None, {"id": "1", "name": "no"}), empty)]


def test_a_delete_without_its_key_is_refused_after_any_other_change() -> None:
    read = decoder(ITEMS, ITEMS)
    known, lost = (event("d", {"id": key, "name": None}, None) for key in ("1", None))
    assert [False, True, False] == [isinstance(read.told(each).table, UnreadableTable) for each in (known, lost, known)]


# --- changed keys ---

DELETED, INSERTED = event("d", {"id": "1", "name": None}, None), event("c", None, {"id": "2", "name": UNCHANGED})


def test_a_delete_and_insert_of_one_log_record_are_an_update_of_the_key() -> None:
    read = decoder()
    expected = Change(40, 50, 0, 7, Operation.UPDATE, ITEMS, row("2", UNCHANGED), row("1", None))
    assert (expected, 1) == (read.told(DELETED, INSERTED), read.count)


def test_every_changed_key_is_joined() -> None:
    read = decoder()
    last = read.told(
        *(DELETED, INSERTED), *(each._replace(lsn=60) for each in (DELETED, INSERTED)), DELETED._replace(lsn=70)
    )
    assert (Operation.DELETE, 3) == (last.operation, read.count)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((INSERTED, DELETED), id="the insert is first"),
        pytest.param((DELETED, DELETED), id="two deletes"),
        pytest.param((INSERTED, INSERTED), id="two inserts"),
        pytest.param((DELETED, INSERTED._replace(lsn=51)), id="another record"),
        pytest.param((DELETED, INSERTED._replace(xid=2)), id="another transaction"),
        pytest.param((DELETED, INSERTED._replace(letter="u")), id="an update"),
    ],
)
def test_other_changes_are_not_joined(events: Sequence[Event]) -> None:
    read = decoder()
    read.told(*events)
    assert 2 == read.count


@pytest.mark.parametrize("form", ["s", "j"])
def test_changes_of_two_tables_are_not_joined_readable_or_not(form: str) -> None:
    orders = table("id", name="orders")
    made = Decoder({each.id: each for each in (ITEMS, orders)}, {}, lambda _: {}, PLACEHOLDER)
    reader = Reader(made, TransactionLsns(Lsn(1), []), Lsn(1))
    deleted = event("d", {"id": "1", "name": "a"}, None)._replace(layout=layout_of("items", ("id", "name"), f"s{form}"))
    reader.read(batch_of([deleted, event("c", None, {"id": "2"}, table="orders")], added=()))
    assert [Operation.DELETE, Operation.INSERT] == [each.operation for each in reader.changes]


def test_halves_that_were_read_by_different_columns_stay_two() -> None:
    read = decoder(ITEMS, table("id", "name", "added"))
    read.told(DELETED, event("c", None, {"id": "2", "name": "a", "added": "x"}))
    assert 2 == read.count


@pytest.mark.parametrize("half", [0, 1])
def test_a_changed_key_of_which_one_half_cannot_be_read_is_one_change_that_cannot(half: int) -> None:
    events = [event("d", {"id": "1", "name": "a"}, None), event("c", None, {"id": "2", "name": "a"})]
    events[half] = events[half]._replace(layout=layout_of("items", ("id", "name"), "sj"))
    read = decoder(ITEMS, ITEMS)
    found = read.told(*events)
    assert ((40, 50, 0, 7, Operation.UPDATE), 1) == (found[:5], read.count)
    assert isinstance(found.table, UnreadableTable)
    assert (None, None) == (found.row, found.old_row)


def test_a_joined_change_keeps_an_old_row_that_was_logged_whole() -> None:
    whole = table("id", "name", identity=Identity.FULL)
    deleted, inserted = event("d", {"id": "1", "name": "before"}, None), event("c", None, {"id": "2", "name": "after"})
    joined = decoder(whole).told(deleted, inserted)
    assert (row("2", "after"), row("1", "before")) == (joined.row, joined.old_row)
