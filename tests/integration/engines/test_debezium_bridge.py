"""What Java hands over, seen from Python: the batches of the real engine, before anything is decoded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import jpype
import pytest

from rosetta_dagster.cdc.change.event import UNCHANGED
from rosetta_dagster.cdc.source.debezium.engine import EngineThread, Records
from rosetta_dagster.cdc.source.debezium.events import Batch
from rosetta_dagster.cdc.source.debezium.properties import connector_properties
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.debezium_batches import Beat, Event, read

_PLACEHOLDER: Final = "rosetta-unchanged-0123"
#: Seconds that an engine may take for a few hundred events.
_PATIENCE: Final = 60.0


@contextmanager
def engine_of(source: Database, *tables: str) -> Iterator[EngineThread]:
    source.run("CREATE PUBLICATION p FOR ALL TABLES")
    slot = source.connection.database
    source.rows(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    properties = connector_properties(
        source.connection,
        slot_name=slot,
        publication_name="p",
        tables=[TableId("public", table) for table in tables],
        placeholder=_PLACEHOLDER,
    )
    engine = EngineThread(properties, _PLACEHOLDER)
    try:
        yield engine
    finally:
        assert engine.close(_PATIENCE)
        # The server takes a moment to see that its connection has ended.
        while source.rows("SELECT FROM pg_replication_slots WHERE active AND database = current_database()"):
            time.sleep(0.05)


def batches_of(engine: EngineThread, count: int) -> list[Batch]:
    """The batches up to the one with the last of so many changes."""
    batches: list[Batch] = []
    deadline = time.monotonic() + _PATIENCE
    while count > 0:
        assert time.monotonic() < deadline, f"{count} changes did not come"
        records = engine.receive(0.5)
        if records is not None:
            batches.append(records.batch)
            count -= sum(isinstance(each, Event) for each in read(records.batch))
    return batches


def changes_of(engine: EngineThread, count: int) -> list[Event]:
    events = [event for batch in batches_of(engine, count) for event in read(batch)]
    return [event for event in events if isinstance(event, Event)]


def test_each_form_of_value_is_read_and_a_missing_one_is_distinguished(source: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, big bigint, yes boolean, note text, tags text[], size float8)")
    with engine_of(source, "t") as engine:
        source.run(
            "INSERT INTO t VALUES (1, -5, true, 'żółw', '{a,NULL}', 1e300), (2, NULL, false, '', NULL, 'NaN')",
            "ALTER TABLE t ALTER note SET STORAGE EXTERNAL",
            "UPDATE t SET note = repeat('x', 5000) WHERE id = 2",
            "UPDATE t SET big = 7 WHERE id = 2",
            "DELETE FROM t WHERE id = 1",
        )
        first, second, _, updated, deleted = changes_of(engine, 5)
    assert ("iibsjj", ("id", "big", "yes", "note", "tags", "size")) == (first.layout.forms, first.layout.columns)
    assert (23, 20, 16, 25, 1009, 701) == first.layout.types
    assert TableId("public", "t") == first.layout.table
    assert (None, [b"1", b"-5", b"t", "żółw".encode(), b'["a",null]', b"1.0E300"]) == (first.before, first.after)
    assert [b"2", None, b"f", b"", None, b'"NaN"'] == second.after
    assert updated.after is not None
    assert (b"7", UNCHANGED) == (updated.after[1], updated.after[3])
    assert ([b"1", None, None, None, None, None], None) == (deleted.before, deleted.after)
    assert ["c", "c", "u", "d"] == [each.letter for each in (first, second, updated, deleted)]


def test_null_is_read_as_null_although_the_catalog_has_changed(source: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, size int DEFAULT 5, note text, span interval, tags text[])")
    with engine_of(source, "t") as engine:
        source.run(
            "INSERT INTO t VALUES (1, NULL, NULL, NULL, NULL)",
            "UPDATE t SET size = 0, note = '', span = '0', tags = '{}'",
            "ALTER TABLE t ALTER size SET NOT NULL, ALTER note SET NOT NULL",
            "ALTER TABLE t ALTER span SET NOT NULL, ALTER tags SET NOT NULL",
            "DELETE FROM t",
        )
        inserted, _, deleted = changes_of(engine, 3)
    assert [b"1", None, None, None, None] == inserted.after
    assert [b"1", None, None, None, None] == deleted.before


def test_tables_and_their_alterations_are_distinguished_by_layouts(source: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, a int)", 'CREATE TABLE "The. other" (id int PRIMARY KEY)')
    with engine_of(source, "t", "The. other") as engine:
        source.run(
            "INSERT INTO t VALUES (1, 1)",
            'INSERT INTO "The. other" VALUES (1)',
            "ALTER TABLE t ALTER a TYPE text",
            "INSERT INTO t VALUES (2, 'two')",
            "TRUNCATE t",
        )
        events = changes_of(engine, 4)
    assert ["t", "The. other", "t", "t"] == [each.layout.table.name for each in events]
    assert ["ii", "i", "is", "is"] == [each.layout.forms for each in events]
    assert ("t", None, None) == (events[3].letter, events[3].before, events[3].after)


def test_layouts_that_no_event_refers_to_any_more_are_forgotten(source: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    with engine_of(source, "t", "u") as engine:
        source.run("INSERT INTO u VALUES (1)")
        for number in range(5):
            source.run(f"ALTER TABLE t ADD c{number} int", f"INSERT INTO t (id) VALUES ({number})")
            # One batch each.
            batches = batches_of(engine, 2 if number == 0 else 1)
    assert ["t", "t", "u"] == sorted(layout.table.name for layout in batches[-1].layouts.values())


def test_batches_stay_small_however_wide_the_rows_are(source: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, note text)")
    with engine_of(source, "t") as engine:
        source.run("INSERT INTO t SELECT n, repeat('x', 200000) FROM generate_series(1, 150) AS n")
        batches = batches_of(engine, 150)
    assert max(len(batch.values) for batch in batches) <= 4 * 1024 * 1024 + 200_010


def test_a_beat_says_up_to_which_commit_everything_came_and_may_be_committed(source: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY)")
    with engine_of(source, "t") as engine:
        source.run("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
        first, second = changes_of(engine, 2)
        assert (first.commit_before, second.commit_before) == (None, second.lsn)
        records, beat = next_beat(source, engine, after=second.lsn)
        records.commit()
        confirmed = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = current_database()"
        deadline = time.monotonic() + _PATIENCE
        while source.rows(confirmed)[0][0] < beat:
            assert time.monotonic() < deadline
            # Debezium commits when it has handed over a batch.
            engine.receive(0.05)


def next_beat(source: Database, engine: EngineThread, *, after: int) -> tuple[Records, int]:
    """The first batch whose beat tells of a COMMIT behind this LSN, and that COMMIT's."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        source.run("SELECT pg_logical_emit_message(true, 'other', '')")
        records = engine.receive(0.5)
        for each in read(records.batch) if records is not None else ():
            if records is not None and isinstance(each, Beat) and each.commit_lsn is not None and each.commit_lsn > after:
                return records, each.commit_lsn
    raise AssertionError("no beat came")


def test_debezium_keeps_no_text_of_an_event_for_its_metrics(source: Database) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY)")
    with engine_of(source, "t") as engine:
        source.run("INSERT INTO t VALUES (1)")
        changes_of(engine, 1)
        beans = jpype.JClass("java.lang.management.ManagementFactory").getPlatformMBeanServer()
        streaming = f"debezium.postgres:type=connector-metrics,context=streaming,server={source.connection.database}"
        name = jpype.JClass("javax.management.ObjectName")(streaming)
        seen, text = (beans.getAttribute(name, each) for each in ("TotalNumberOfCreateEventsSeen", "LastEvent"))
    assert (1, "") == (int(seen), str(text))


@pytest.mark.parametrize("text", ["a b", "\t\n\\N", "🙂", '{"a": 1}', _PLACEHOLDER[:-1]])
def test_texts_are_read_as_they_are(source: Database, text: str) -> None:
    source.run("CREATE TABLE t (id int PRIMARY KEY, note text)")
    with engine_of(source, "t") as engine:
        with source.connect() as connection:
            connection.execute("INSERT INTO t VALUES (1, %s)", [text])
        (only,) = changes_of(engine, 1)
    assert [b"1", text.encode()] == only.after
