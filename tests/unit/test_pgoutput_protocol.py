import struct
from random import Random

import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED, Value
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.source.pgoutput import protocol
from rosetta_dagster.cdc.source.pgoutput.protocol import Begin, Relation, RelationColumn, text_finder
from tests.support.pgoutput import (
    COMMITTED_AT,
    LARGE_LSN,
    LARGE_OID,
    begin,
    commit,
    delete,
    images,
    insert,
    keepalive,
    kind_of,
    lsn_of,
    microseconds,
    relation,
    truncate,
    update,
)

# --- one kind after the other ---


@pytest.mark.parametrize("lsn", [1, LARGE_LSN])
def test_wal_data_has_its_kind_and_where_the_change_was_logged(lsn: int) -> None:
    message = insert(7, b"x", lsn=lsn)
    assert (protocol.WAL_DATA, protocol.INSERT, lsn) == (message[0], kind_of(message), lsn_of(message))


@pytest.mark.parametrize("wants_answer", [False, True])
def test_a_keepalive_has_the_servers_position_and_whether_it_wants_an_answer(wants_answer: bool) -> None:
    message = keepalive(LARGE_LSN, wants_answer=wants_answer)
    assert protocol.KEEPALIVE == message[0]
    assert (LARGE_LSN, wants_answer) == protocol.read_keepalive(message)


def test_a_begin_has_the_commit_its_time_and_the_transaction() -> None:
    message = begin(LARGE_LSN, 0xFFFF_FFFE)
    assert protocol.BEGIN == kind_of(message)
    assert Begin(Lsn(LARGE_LSN), microseconds(COMMITTED_AT), 0xFFFF_FFFE) == protocol.read_begin(message)
    assert COMMITTED_AT == protocol.read_begin(message).committed_at


def test_of_a_commit_its_end_is_read_and_not_its_beginning() -> None:
    message = commit(LARGE_LSN, LARGE_LSN + 48)
    assert protocol.COMMIT == kind_of(message)
    assert LARGE_LSN + 48 == protocol.read_commit(message)


def test_a_relation_describes_the_table_and_its_columns() -> None:
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


def test_rows_are_read_as_they_are_with_values_of_any_form() -> None:
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
def test_an_update_with_the_old_row_has_both(old_kind: bytes) -> None:
    message = update(7, b"2", b"new", old=(b"1", None), old_kind=old_kind)
    assert ((b"1", None), (b"2", b"new")) == images(message)


@pytest.mark.parametrize("kind", [b"K", b"O"])
def test_a_delete_has_only_the_old_row(kind: bytes) -> None:
    message = delete(LARGE_OID, b"1", None, kind=kind)
    assert protocol.DELETE == kind_of(message)
    assert ((b"1", None), None) == images(message)


@pytest.mark.parametrize("oids", [[], [7], [LARGE_OID, 7, 8]], ids=len)
@pytest.mark.parametrize("options", [0, 3])
def test_a_truncate_names_all_tables_that_were_truncated_together(oids: list[int], options: int) -> None:
    message = truncate(*oids, options=options)
    assert protocol.TRUNCATE == kind_of(message)
    assert oids == protocol.read_truncate(message)


def test_a_status_reports_one_lsn_as_written_flushed_and_applied() -> None:
    expected = (b"r", LARGE_LSN, LARGE_LSN, LARGE_LSN, microseconds(COMMITTED_AT), 0)
    assert expected == struct.unpack(">cQQQqB", protocol.status_update(LARGE_LSN, COMMITTED_AT))
