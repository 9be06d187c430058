import struct
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED, Row, Value
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.source.pgoutput import protocol
from rosetta_dagster.cdc.source.pgoutput.protocol import Begin, Relation, RelationColumn, text_finder
from tests.support.database import Database
from tests.support.pgoutput import (
    COMMITTED_AT,
    LARGE_LSN,
    LARGE_OID,
    begin,
    commit,
    delete,
    insert,
    keepalive,
    kind_of,
    lsn_of,
    microseconds,
    relation,
    truncate,
    update,
    wal,
)

# --- one kind after the other ---


@pytest.mark.parametrize("lsn", [1, LARGE_LSN])
def test_wal_data_tells_its_kind_and_where_the_change_was_logged(lsn: int) -> None:
    message = insert(7, b"x", lsn=lsn)
    assert (protocol.WAL_DATA, protocol.INSERT, lsn) == (message[0], kind_of(message), lsn_of(message))


@pytest.mark.parametrize("wants_answer", [False, True])
def test_a_keepalive_tells_how_far_the_server_is_and_whether_it_wants_an_answer(wants_answer: bool) -> None:
    message = keepalive(LARGE_LSN, wants_answer=wants_answer)
    assert protocol.KEEPALIVE == message[0]
    assert (LARGE_LSN, wants_answer) == protocol.read_keepalive(message)


def test_a_begin_tells_the_commit_its_time_and_the_transaction() -> None:
    message = begin(LARGE_LSN, 0xFFFF_FFFE)
    assert protocol.BEGIN == kind_of(message)
    assert Begin(Lsn(LARGE_LSN), microseconds(COMMITTED_AT), 0xFFFF_FFFE) == protocol.read_begin(message)
    assert COMMITTED_AT == protocol.read_begin(message).committed_at


def test_of_a_commit_its_end_is_read_and_not_its_beginning() -> None:
    message = commit(LARGE_LSN, LARGE_LSN + 48)
    assert protocol.COMMIT == kind_of(message)
    assert LARGE_LSN + 48 == protocol.read_commit(message)


def test_a_relation_tells_the_table_and_its_columns() -> None:
    columns = (
        RelationColumn("id", 20, -1, identifies=True),
        RelationColumn("naïve_日本語", LARGE_OID, 786438, identifies=False),
        RelationColumn(" ", 25, -1, identifies=False),
    )
    message = relation(LARGE_OID, "Ödd", 'na"me', "i", *columns)
    assert protocol.RELATION == kind_of(message)
    assert Relation(LARGE_OID, "Ödd", 'na"me', "i", columns) == protocol.read_relation(message)


def test_a_relation_may_have_no_columns() -> None:
    assert Relation(7, "public", "bare", "d", ()) == protocol.read_relation(relation(7, "public", "bare", "d"))


def test_an_empty_namespace_is_that_of_the_catalog() -> None:
    assert "pg_catalog" == protocol.read_relation(relation(7, "", "pg_class", "d")).namespace


def test_of_a_columns_flags_only_the_first_says_that_it_identifies() -> None:
    message = bytearray(relation(7, "n", "t", "d", RelationColumn("id", 20, -1, identifies=False)))
    flags_at = message.rindex(b"id\0") - 1
    message[flags_at] = 0b10
    assert not protocol.read_relation(bytes(message)).columns[0].identifies
    message[flags_at] = 0b11
    assert protocol.read_relation(bytes(message)).columns[0].identifies


def images(message: bytes) -> tuple[Row | None, Row | None]:
    """The row before and the row after. Whoever looks for texts finds the same, or nothing."""
    if message[protocol.FIRST_ROW - 1] == protocol.NEW_ROW:
        row = protocol.read_row(message)
        for count in (0, 1, 2, 3, 4, 5, 1600):
            texts = text_finder(count)(message, protocol.FIRST_ROW)
            assert texts is None or row == texts.groups()
        return None, row
    if kind_of(message) == protocol.DELETE:
        return protocol.read_row(message), None
    return protocol.read_both_rows(message)


#: Values that look like what stands around them, and lengths that need each byte of the number.
VALUES: list[Value] = [
    b"", b"a", b"n", b"u", b"t\0\0\0\1", b"\0", "日本語".encode(), None, UNCHANGED, b"x" * 256, b"y" * 70_000,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_every_value_is_read_as_it_is_and_so_is_the_next(value: Value) -> None:
    message = insert(7, value, b"next", value)
    assert (None, (value, b"next", value)) == images(message)


def test_an_insert_may_have_no_values() -> None:
    assert (None, ()) == images(insert(LARGE_OID))


def test_an_insert_may_have_more_columns_than_a_byte_counts() -> None:
    values = tuple(str(n).encode() for n in range(1600))
    assert (None, values) == images(insert(7, *values))


#: Values that hold, or whose lengths are, what stands around values in a message.
_MISLEADING: list[Value] = [
    None, UNCHANGED, b"", b"t", b"n", b"u", b"N", b"tnu", b"nt", b"t" * ord("t"), b"n" * ord("t"), b"u" * ord("n"),
    b"\x01\xff",
]  # fmt: skip


def test_rows_are_read_as_they_are_whatever_their_values_look_like() -> None:
    random = Random(7)
    for _ in range(3000):
        new, old = ([random.choice(_MISLEADING) for _ in range(random.randrange(1, 5))] for _ in range(2))
        expected = tuple(new)
        assert (None, expected) == images(insert(7, *new))
        assert (expected, None) == images(delete(7, *new))
        assert (tuple(old), expected) == images(update(7, *new, old=tuple(old)))


def test_a_row_of_nothing_but_texts_is_found_at_once() -> None:
    for values in ([], [b""], [b"1", b"t", b"nt"], [b"x" * 100] * 3):
        texts = text_finder(len(values))(insert(7, *values), protocol.FIRST_ROW)
        assert texts is not None
        assert tuple(values) == texts.groups()


def test_an_update_that_left_the_key_alone_has_no_old_row() -> None:
    message = update(LARGE_OID, b"1", UNCHANGED)
    assert protocol.UPDATE == kind_of(message)
    assert (None, (b"1", UNCHANGED)) == images(message)


@pytest.mark.parametrize("old_kind", [b"K", b"O"])
def test_an_update_that_tells_the_old_row_has_both(old_kind: bytes) -> None:
    message = update(7, b"2", b"new", old=(b"1", None), old_kind=old_kind)
    assert ((b"1", None), (b"2", b"new")) == images(message)


@pytest.mark.parametrize("kind", [b"K", b"O"])
def test_a_delete_has_only_the_old_row(kind: bytes) -> None:
    message = delete(LARGE_OID, b"1", None, kind=kind)
    assert protocol.DELETE == kind_of(message)
    assert ((b"1", None), None) == images(message)


@pytest.mark.parametrize("oids", [[], [7], [LARGE_OID, 7, 8]], ids=len)
@pytest.mark.parametrize("options", [0, 3])
def test_a_truncate_tells_all_tables_that_were_truncated_together(oids: list[int], options: int) -> None:
    message = truncate(*oids, options=options)
    assert protocol.TRUNCATE == kind_of(message)
    assert oids == protocol.read_truncate(message)


def test_a_status_says_of_one_lsn_that_it_is_written_flushed_and_applied_and_wants_no_answer() -> None:
    expected = (b"r", LARGE_LSN, LARGE_LSN, LARGE_LSN, microseconds(COMMITTED_AT), 0)
    assert expected == struct.unpack(">cQQQqB", protocol.status_update(LARGE_LSN, COMMITTED_AT))


# --- what a real server sends ---


def peek(source: Database, *statements: str) -> list[bytes]:
    """What a server sends of these statements, as WAL data."""
    slot = f"{source.connection.database}_slot"
    source.run(
        "CREATE PUBLICATION everything FOR ALL TABLES", f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    )
    source.run(*statements)
    rows = source.rows(
        f"SELECT lsn - '0/0', data FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'everything')"
    )
    return [wal(bytes(data), lsn=int(lsn)) for lsn, data in rows]


_ROWS = (protocol.INSERT, protocol.UPDATE, protocol.DELETE)


def test_what_a_real_server_sends_is_understood(source: Database) -> None:
    source.run(
        "CREATE TABLE items (id int PRIMARY KEY, name varchar(40), body text, price numeric(10, 2))",
        "ALTER TABLE items ALTER body SET STORAGE EXTERNAL",
        "CREATE TABLE notes (n bigint, body text)",
        "ALTER TABLE notes REPLICA IDENTITY FULL",
    )
    big = b"b" * 10_000
    messages = peek(
        source,
        "INSERT INTO items VALUES (1, 'naïve', repeat('b', 10000), -1.50), (2, '', NULL, NULL)",
        "UPDATE items SET name = NULL WHERE id = 1",
        "UPDATE items SET id = 3 WHERE id = 2",
        "DELETE FROM items WHERE id = 3",
        "INSERT INTO notes VALUES (1, NULL)",
        "UPDATE notes SET body = 'x'",
        "DELETE FROM notes",
        "TRUNCATE items, notes",
    )
    oids = dict(source.rows("SELECT relname::text, oid::bigint FROM pg_class WHERE relname IN ('items', 'notes')"))
    items, notes = oids["items"], oids["notes"]
    rows = [(protocol.relation_of(each), images(each)) for each in messages if kind_of(each) in _ROWS]
    assert [
        (items, (None, (b"1", "naïve".encode(), big, b"-1.50"))),
        (items, (None, (b"2", b"", None, None))),
        (items, (None, (b"1", None, UNCHANGED, b"-1.50"))),
        (items, ((b"2", None, None, None), (b"3", b"", None, None))),
        (items, ((b"3", None, None, None), None)),
        (notes, (None, (b"1", None))),
        (notes, ((b"1", None), (b"1", b"x"))),
        (notes, ((b"1", b"x"), None)),
    ] == rows
    relations = [protocol.read_relation(each) for each in messages if kind_of(each) == protocol.RELATION]
    assert [
        Relation(
            items, "public", "items", "d",
            (
                RelationColumn("id", 23, -1, identifies=True),
                RelationColumn("name", 1043, 44, identifies=False),
                RelationColumn("body", 25, -1, identifies=False),
                RelationColumn("price", 1700, (10 << 16 | 2) + 4, identifies=False),
            ),
        ),
        Relation(
            notes, "public", "notes", "f",
            (RelationColumn("n", 20, -1, identifies=True), RelationColumn("body", 25, -1, identifies=True)),
        ),
    ] == list(dict.fromkeys(relations))  # fmt: skip
    truncated = [protocol.read_truncate(each) for each in messages if kind_of(each) == protocol.TRUNCATE]
    assert [{items, notes}] == [set(each) for each in truncated]


def test_a_real_transaction_tells_its_number_its_commit_and_its_time(source: Database) -> None:
    source.run("CREATE TABLE items (id int PRIMARY KEY)", "CREATE TABLE seen (xid bigint, at timestamptz)")
    before = datetime.now(UTC)
    messages = peek(source, "INSERT INTO seen VALUES (txid_current() & 4294967295, now())", "INSERT INTO items VALUES (1)")
    begins = [protocol.read_begin(each) for each in messages if kind_of(each) == protocol.BEGIN]
    ends = [protocol.read_commit(each) for each in messages if kind_of(each) == protocol.COMMIT]
    inserted = [lsn_of(each) for each in messages if kind_of(each) == protocol.INSERT]
    assert [(begins[0].xid,)] == source.rows("SELECT xid FROM seen")
    assert all(before - timedelta(seconds=5) <= each.committed_at <= datetime.now(UTC) for each in begins)
    # The change, its commit, the commit's end, and then the next transaction.
    order = [place for each in zip(inserted, begins, ends, strict=True) for place in (each[0], each[1].commit_lsn, each[2])]
    assert 6 == len(order)
    assert sorted(set(order[:3])) == order[:3]
    assert sorted(order) == order
