"""Copies are loaded by range, continued, and replaced."""

from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.fingerprint import Fingerprint, Leaf
from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import BegunCopy, Held, StreamIdentity
from rosetta_dagster.cdc.errors import DestinationRejected, TableNotOurs
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import insert
from tests.support.destinations import DestinationKind, make
from tests.support.replica import BEGINNING, ITEMS, NOTES, Open, copy, finish, pages, typed, with_columns


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

    def test_a_fingerprint_is_recorded_only_with_the_columns_that_it_was_read_with(self, begin: Open) -> None:
        now = Fingerprint(
            oid=1, is_partitioned=False, row_type="7", column_count=3, leaves=(Leaf(oid=1, filenode=2),), membership="1 5"
        )
        replica = begin(ITEMS, NOTES)
        replica.destination.record_fingerprints(
            [replace(ITEMS, fingerprint=now), replace(with_columns(NOTES, more="less"), fingerprint=now)]
        )
        held = begin(ITEMS, NOTES).held
        assert {ITEMS.id: now, NOTES.id: None} == {table: each.fingerprint for table, each in held.schemas.items()}

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

    def test_rows_that_may_exist_already_are_replaced(self, begin: Open) -> None:
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
