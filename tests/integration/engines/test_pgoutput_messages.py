"""The messages that a real server sends are read as the protocol's tests write them."""

from datetime import UTC, datetime, timedelta

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.source.pgoutput import protocol
from rosetta_dagster.cdc.source.pgoutput.protocol import Relation, RelationColumn
from tests.support.database import Database
from tests.support.pgoutput import images, kind_of, lsn_of, wal


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


def test_a_real_transaction_has_its_number_its_commit_and_its_time(source: Database) -> None:
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
