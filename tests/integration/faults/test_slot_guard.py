"""A slot that retains too much WAL is paused, dropped or reported, whatever its run does, and never another's."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from rosetta_dagster.cdc.config.pipeline import Health, Status
from rosetta_dagster.cdc.config.slot_policy import SlotAction, SlotPolicy
from rosetta_dagster.cdc.errors import RosettaError, SlotInvalid
from rosetta_dagster.cdc.operate import slot_guard
from rosetta_dagster.cdc.operate.resync import resync
from rosetta_dagster.cdc.operate.slot_guard import observe_guarded
from rosetta_dagster.cdc.operate.waiting import explanation
from rosetta_dagster.cdc.source.connections import connect_for_replication
from rosetta_dagster.cdc.source.slot_removal import drop_retaining_slot
from rosetta_dagster.cdc.store.database import Store
from tests.support.database import Database
from tests.support.gate import is_held
from tests.support.supervised import Run
from tests.support.waiting import eventually

FILLER = "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 2000000))"


def guard(store: Store, policy: SlotPolicy) -> None:
    """A megabyte is too much."""
    with store.connected() as connection:
        connection.execute(
            "UPDATE pipelines SET on_slot_limit = %s, thresholds = '{\"wal_error_bytes\": 1000000}'", [policy]
        )


def slots(source: Database) -> list[tuple[str]]:
    return source.rows("SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()")


def paused_after_a_run(store: Store, name: str, source: Database) -> None:
    """The pipeline has copied its table, and its slot retains WAL that nobody reads."""
    run = Run(store, name)
    eventually(lambda: store.state(name).run_status == "STREAMING")
    store.set_status(name, Status.PAUSE)
    assert run.wait() is None
    source.run(FILLER, "INSERT INTO items VALUES (2)")


def test_a_dropped_slot_and_its_remedy_show_until_everything_is_copied_again(
    own_store: Store, name: str, source: Database, destination: Database
) -> None:
    guard(own_store, SlotPolicy.DROP_SLOT)
    paused_after_a_run(own_store, name, source)
    found = observe_guarded(own_store, name)
    assert ([], Health.ERROR, SlotAction.DROPPED) == (slots(source), found.health, found.state.slot_action)
    for said in (found.slot_notice, explanation(own_store.state(name)), explanation(observe_guarded(own_store, name).state)):
        assert said is not None
        assert f"rosetta resync {name}" in said
    # Nothing is applied over the gap.
    own_store.set_status(name, Status.START)
    assert isinstance(Run(own_store, name).wait(), SlotInvalid)
    own_store.set_status(name, Status.PAUSE)
    resync(own_store, name)
    assert own_store.state(name).slot_action is None
    own_store.set_status(name, Status.START)
    run = Run(own_store, name)
    eventually(lambda: destination.rows("SELECT id FROM items ORDER BY id") == [(1,), (2,)])
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    assert Health.HEALTHY is observe_guarded(own_store, name).health
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_the_slot_is_dropped_from_under_a_run_that_is_stuck_at_its_destination(
    own_store: Store, name: str, source: Database, destination: Database
) -> None:
    # Set before the run: a changed policy would restart it, which frees the slot.
    guard(own_store, SlotPolicy.DROP_SLOT)
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    with destination.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE items IN SHARE MODE")
        source.run(FILLER, "INSERT INTO items VALUES (2)")
        eventually(lambda: is_held(destination))
        assert SlotAction.DROPPED is observe_guarded(own_store, name).state.slot_action
        assert [] == slots(source)
    assert isinstance(run.wait(), RosettaError)


@contextmanager
def another_reader(source: Database, slot: str, publication: str) -> Iterator[None]:
    """A client of somebody else streams the slot."""
    with closing(connect_for_replication(source.connection, application_name="somebody")) as connection:
        options = f"(proto_version '1', publication_names '{publication}')"
        connection.pgconn.send_query(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 {options}".encode())
        eventually(lambda: source.rows(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'") == [(True,)])
        yield


def test_a_slot_that_another_client_reads_is_never_dropped(own_store: Store, name: str, source: Database) -> None:
    with own_store.connected() as connection:
        connection.execute("UPDATE pipelines SET replication_name = %s", [f"other_{name}"])
    paused_after_a_run(own_store, name, source)
    guard(own_store, SlotPolicy.DROP_SLOT)
    with another_reader(source, f"other_{name}", f"rosetta_{name}"):
        found = observe_guarded(own_store, name)
        assert found.health is Health.ERROR
        assert "a client that is not known to be Rosetta reads it" in str(found.error)
        assert found.state.slot_action is None
        assert [(f"other_{name}",)] == slots(source)


def test_a_slot_that_is_below_the_limit_by_now_is_not_reported_as_dropped(
    own_store: Store, name: str, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard(own_store, SlotPolicy.DROP_SLOT)
    paused_after_a_run(own_store, name, source)

    def drop(connection: psycopg.Connection[Any], slot: str, limit: int) -> bool:
        return drop_retaining_slot(connection, slot, 1000 * limit)

    monkeypatch.setattr(slot_guard, "drop_retaining_slot", drop)
    assert observe_guarded(own_store, name).state.slot_action is None
    assert own_store.state(name).slot_action is None
    assert 1 == len(slots(source))


def test_a_slot_that_took_the_name_meanwhile_is_not_dropped(source: Database) -> None:
    name = f"rosetta_{source.connection.database}"
    source.run(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    with source.connect() as connection:
        assert not drop_retaining_slot(connection, name, 1_000_000)
        assert [(name,)] == slots(source)
        source.run(FILLER, "SELECT pg_switch_wal()")
        assert drop_retaining_slot(connection, name, 1_000_000)


def test_a_pipeline_is_paused_once_and_may_catch_up_when_it_is_started(
    own_store: Store, name: str, source: Database
) -> None:
    paused_after_a_run(own_store, name, source)
    guard(own_store, SlotPolicy.PAUSE)
    own_store.set_status(name, Status.START)
    found = observe_guarded(own_store, name)
    assert (Status.PAUSE, Health.ERROR) == (found.state.status, found.health)
    assert f"rosetta start {name}" in str(found.slot_notice)
    own_store.set_status(name, Status.START)
    assert Status.START is observe_guarded(own_store, name).state.status
    run = Run(own_store, name)

    def is_over() -> bool:
        return observe_guarded(own_store, name).state.slot_action is None

    eventually(is_over)
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_by_default_it_is_reported_and_nothing_is_done(own_store: Store, name: str, source: Database) -> None:
    paused_after_a_run(own_store, name, source)
    with own_store.connected() as connection:
        connection.execute("UPDATE pipelines SET thresholds = '{\"wal_error_bytes\": 1000000}'")
    found = observe_guarded(own_store, name)
    assert (Health.ERROR, None, 1) == (found.health, found.state.slot_action, len(slots(source)))
