"""Publications and slots at the source: made once, found, handed over, and given up."""

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.pq.abc import PGconn

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import RosettaError, SlotInvalid, SourceUnavailable
from rosetta_dagster.cdc.source import slots
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.publications import ensure_publication
from rosetta_dagster.cdc.source.slots import create_slot, drop_slot, exported_snapshot, read_slot, release_slot
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.publications import missing_tables
from tests.support.servers import needs_version

T = TableId("public", "t")


@pytest.fixture
def slot(source: Database) -> str:
    """A name of this test alone: slots are of the whole server."""
    return f"rosetta_{source.connection.database}"


def test_a_publication_is_made_once_and_gets_its_missing_tables(
    source: Database, catalog: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    source.run("CREATE TABLE a (id int)", "CREATE TABLE b (id int)")
    a, b = TableId("public", "a"), TableId("public", "b")
    assert missing_tables(catalog, "rosetta_x", [a]) is None
    ensure_publication(catalog, "rosetta_x", [a])
    assert [b] == missing_tables(catalog, "rosetta_x", [a, b])
    for _ in range(2):
        ensure_publication(catalog, "rosetta_x", [b])
        assert [] == missing_tables(catalog, "rosetta_x", [a, b])
    assert [(True,)] == source.rows("SELECT pubviaroot FROM pg_publication")


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        ("SELECT", "CREATE PUBLICATION rosetta_x"),
        ("CREATE PUBLICATION rosetta_x", "ALTER PUBLICATION rosetta_x ADD TABLE t"),
    ],
    ids=["made", "given the table"],
)
def test_a_publication_that_somebody_else_changes_in_the_same_moment_is_taken(
    source: Database, catalog: "psycopg.Connection[tuple[object, ...]]", before: str, meanwhile: str
) -> None:
    source.run("CREATE TABLE t (id int)", before)
    with psycopg.connect(source.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute(meanwhile)
        made = pool.submit(ensure_publication, catalog, "rosetta_x", [T])
        while not source.rows("SELECT FROM pg_locks WHERE NOT granted"):
            assert not made.done()
        other.commit()
        made.result(10)
    assert [] == missing_tables(catalog, "rosetta_x", [T])


def test_a_publication_of_somebody_else_is_not_touched(
    source: Database, catalog: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    source.run("CREATE TABLE a (id int)", "CREATE TABLE b (id int)", "CREATE PUBLICATION theirs FOR TABLE a")
    ensure_publication(catalog, "theirs", [TableId("public", "a"), TableId("public", "b")])
    assert [TableId("public", "b")] == missing_tables(catalog, "theirs", [TableId("public", "b")])


@pytest.mark.parametrize("of", ["ALL TABLES", pytest.param("TABLES IN SCHEMA public", marks=needs_version(15))])
def test_a_publication_of_everything_misses_nothing(
    source: Database, catalog: "psycopg.Connection[tuple[object, ...]]", of: str
) -> None:
    source.run("CREATE TABLE t (id int)", f"CREATE PUBLICATION everything FOR {of}")
    assert [] == missing_tables(catalog, "everything", [T])


def test_a_slot_exists_from_when_it_is_made_until_it_is_dropped(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, slot: str
) -> None:
    assert read_slot(catalog, slot) is None
    drop_slot(catalog, slot)
    with exported_snapshot(source.connection, slot, stopped=bool) as point:
        assert point.lsn > Lsn(0)
    state = read_slot(catalog, slot)
    assert state is not None
    assert (False, "reserved", point.lsn) == (state.active, state.wal_status, state.confirmed_flush_lsn)
    drop_slot(catalog, slot)
    assert read_slot(catalog, slot) is None


@needs_version(17)
@pytest.mark.parametrize("is_temporary", [False, True], ids=["to stay", "temporary"])
def test_a_slot_that_is_to_stay_survives_a_failover(source: Database, slot: str, is_temporary: bool) -> None:
    with exported_snapshot(source.connection, slot, stopped=bool, temporary=is_temporary):
        assert [(not is_temporary,)] == source.rows(f"SELECT failover FROM pg_replication_slots WHERE slot_name = '{slot}'")


@pytest.mark.parametrize(("version", "can_fail_over"), [(160_014, False), (170_000, True)])
def test_a_slot_is_made_to_fail_over_where_the_server_can(version: int, can_fail_over: bool) -> None:
    command = create_slot("s", temporary=False, server_version=version).as_string(None)
    assert command == f"CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'export'{', FAILOVER' * can_fail_over})"


def test_what_a_slot_retains_grows_with_what_is_written(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, slot: str
) -> None:
    source.run(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    before = read_slot(catalog, slot)
    source.run("CREATE TABLE t (a text)", "INSERT INTO t SELECT repeat('x', 100) FROM generate_series(1, 1000)")
    after = read_slot(catalog, slot)
    assert before is not None
    assert after is not None
    assert after.lag_bytes - before.lag_bytes > 100_000
    assert after.retained_bytes - before.retained_bytes > 100_000


def test_the_exported_snapshot_shows_the_consistent_point_and_nothing_later(source: Database, slot: str) -> None:
    source.run("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
    with exported_snapshot(source.connection, slot, stopped=bool) as point:
        source.run("INSERT INTO t VALUES (2)")
        with psycopg.connect(source.url) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute(psycopg.sql.SQL("SET TRANSACTION SNAPSHOT {}").format(point.snapshot_name))
            assert [(1,)] == reader.execute("SELECT a FROM t").fetchall()
    assert [(1,), (2,)] == source.rows("SELECT a FROM t ORDER BY a")


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_slot_whose_copy_failed_is_dropped(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, slot: str, error: type[BaseException]
) -> None:
    seen = []
    with pytest.raises(error), exported_snapshot(source.connection, slot, stopped=bool):  # noqa: PT012 - what is within is what fails
        seen.append(read_slot(catalog, slot))
        raise error
    assert [None] != seen
    assert read_slot(catalog, slot) is None


def test_a_temporary_slot_lives_as_long_as_the_block_however_it_ends(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, slot: str
) -> None:
    with exported_snapshot(source.connection, slot, stopped=bool, temporary=True):
        assert read_slot(catalog, slot) is not None
    release_slot(catalog, slot)
    assert read_slot(catalog, slot) is None
    with pytest.raises(ZeroDivisionError), exported_snapshot(source.connection, slot, stopped=bool, temporary=True):
        raise ZeroDivisionError
    release_slot(catalog, slot)
    assert read_slot(catalog, slot) is None


def test_a_slot_that_exists_is_not_made_again_nor_dropped(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, slot: str
) -> None:
    source.run(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    with pytest.raises(RosettaError, match="already exists"), exported_snapshot(source.connection, slot, stopped=bool):
        pass
    assert read_slot(catalog, slot) is not None


def test_a_slot_of_another_database_or_plugin_is_refused(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, new_source: Callable[[str], Database], slot: str
) -> None:
    new_source("other").run(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    with pytest.raises(SlotInvalid, match=f"Replication slot {slot} is of another database"):
        read_slot(catalog, slot)


def test_an_internal_error_of_the_source_is_one_that_a_new_session_may_not_meet(source: Database) -> None:
    with pytest.raises(SourceUnavailable, match="XX000"), source_errors(source.connection):
        source.run("DO $$ BEGIN RAISE 'could not map' USING ERRCODE = 'XX000'; END $$")


def test_a_connection_that_breaks_under_a_command_passes_with_time(source: Database) -> None:
    with connect(source.connection) as connection:
        with socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        # As the commands of replication are sent.
        error = psycopg.errors.error_from_result(connection.pgconn.exec_(b"SELECT 1"))
    with pytest.raises(SourceUnavailable, match="closed the connection"), source_errors(source.connection):
        raise error


def stream(connection: PostgresConnection, slot: str) -> PGconn:
    """Something that reads the slot, as a run does."""
    conninfo = connection.conninfo(application_name="reader", replication="database")
    reader = psycopg.pq.PGconn.connect(conninfo.encode())
    command = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names 'p')"
    assert psycopg.pq.ExecStatus.COPY_BOTH == reader.exec_(command.encode()).status
    return reader


def test_the_reader_that_a_dead_run_left_on_a_slot_of_ours_is_ended(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, slot: str
) -> None:
    source.run("CREATE PUBLICATION p", f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    reader = stream(source.connection, slot)
    assert [(True,)] == source.rows(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'")
    release_slot(catalog, slot)
    assert [(False,)] == source.rows(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'")
    reader.finish()


def test_the_reader_of_a_slot_that_is_named_otherwise_is_left_alone(
    catalog: "psycopg.Connection[tuple[object, ...]]", source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = source.connection.database
    source.run("CREATE PUBLICATION p", f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    monkeypatch.setattr(slots, "RELEASE_TIMEOUT", 0.3)
    reader = stream(source.connection, slot)
    with pytest.raises(SourceUnavailable, match=f"Replication slot {slot} is still in use"):
        release_slot(catalog, slot)
    assert [(True,)] == source.rows(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'")
    reader.finish()
