"""A run under supervision: what the row says is done, what happens is told, and a lost configuration database is borne."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc import supervision
from rosetta_dagster.cdc.config import Health, Status, TableState
from rosetta_dagster.cdc.errors import ConfigurationError, LeaseHeld, PipelineNotFound, RosettaError, StoreUnavailable
from rosetta_dagster.cdc.health import observe
from rosetta_dagster.cdc.position import Engine
from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    put_destination,
    put_pipeline,
    put_source,
)
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.conftest import SECRET_KEY, Database

#: How long anything may take, in seconds.
LIMIT = 30.0


@pytest.fixture
def config_server() -> Iterator[EmbeddedPostgres]:
    """A server that may go away, since nothing but the configuration is on it."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def own_store(config_server: EmbeddedPostgres, source: Database, destination: Database) -> Iterator[Store]:
    """The configuration of one pipeline, to be started."""
    source.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
    with Store(SecretStr(config_server.create_database("config")), SecretStr(SECRET_KEY)) as opened:
        opened.migrate()
        put_rows(opened, source, destination)
        yield opened


def put_rows(store: Store, source: Database, destination: Database) -> str:
    """Write the rows of a pipeline that is to run; its name."""
    put_source(store, DeclaredSource(name="db", connection=source.connection))
    put_destination(store, DeclaredDestination(name="dw", type="POSTGRES", config=destination.config))
    # The name is in the slot's, and slots are of the whole server.
    name = source.connection.database
    items = (TableId("public", "items"),)
    put_pipeline(
        store,
        DeclaredPipeline(
            name=name, source="db", destinations=("dw",), tables=items, engine=Engine.PGOUTPUT, status=Status.START
        ),
    )
    return name


class Run:
    """A supervised run in a thread of its own, as a Dagster step has it."""

    def __init__(self, store: Store, name: str) -> None:
        self.error: RosettaError | None = None
        self._store, self._name = store, name
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with closing(supervision.supervised(self._store, self._name, "a-run")) as reports:
                for _ in reports:
                    pass
        except RosettaError as error:
            self.error = error

    def wait(self) -> RosettaError | None:
        """What the run ended with; None when it ended as it was told to."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        return self.error


@pytest.fixture
def name(own_store: Store) -> str:
    return own_store.states()[0].name


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_pause_ends_the_run_and_what_it_did_is_told(own_store: Store, name: str, source: Database) -> None:
    run = Run(own_store, name)
    until(lambda: own_store.state(name).run_status == "STREAMING")
    source.run("INSERT INTO items VALUES (2)")
    until(lambda: own_store.state(name).rows_applied == 1)
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None
    state = own_store.state(name)
    assert ("STOPPED", 1, 1, None) == (state.run_status, state.rows_copied, state.rows_applied, state.last_error)
    assert state.last_success_time is not None
    assert ["STREAMING"] == [table.state for table in own_store.tables(name)]


def test_tables_come_go_and_are_copied_anew_while_the_run_goes_on(
    own_store: Store, config_server: EmbeddedPostgres, name: str, source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE notes (id int PRIMARY KEY)", "INSERT INTO notes VALUES (1), (2)")
    notes = TableId("public", "notes")
    run = Run(own_store, name)
    until(lambda: own_store.state(name).run_status == "STREAMING")
    with own_store.connected() as connection:
        connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'notes' FROM pipelines")
    until(lambda: [TableState.STREAMING] * 2 == [table.state for table in own_store.tables(name)])
    assert [(1,), (2,)] == destination.rows("SELECT id FROM notes ORDER BY 1")
    destination.run("UPDATE notes SET id = 3 WHERE id = 2")
    own_store.ask_resync(name, notes)
    until(lambda: [(1,), (2,)] == destination.rows("SELECT id FROM notes ORDER BY 1"))
    until(lambda: own_store.tables(name)[1].state is TableState.STREAMING)
    source.run("INSERT INTO items VALUES (2)", "INSERT INTO notes VALUES (4)")
    until(lambda: own_store.state(name).rows_applied == 2)
    assert [1, 4] == [table.rows_copied for table in own_store.tables(name)]
    with own_store.connected() as connection:
        connection.execute("DELETE FROM pipeline_tables WHERE table_name = 'notes'")
    source.run("INSERT INTO notes VALUES (5)")
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_table_that_is_set_aside_shows_in_its_row_and_in_the_health(
    own_store: Store, name: str, source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE notes (id int PRIMARY KEY)")
    with own_store.connected() as connection:
        connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'notes' FROM pipelines")
    run = Run(own_store, name)
    until(lambda: [TableState.STREAMING] * 2 == [table.state for table in own_store.tables(name)])
    assert Health.HEALTHY is observe(own_store, name).health
    destination.run("ALTER TABLE notes ADD CONSTRAINT small CHECK (id < 5)")
    source.run("INSERT INTO notes VALUES (7)")
    until(lambda: own_store.tables(name)[1].state is TableState.ERROR)
    error = own_store.tables(name)[1].error
    assert error is not None
    assert "constraint small" in error
    observation = observe(own_store, name)
    assert Health.WARNING is observation.health
    assert f"1 of 2 tables are set aside; resync them. public.notes: {error}" == observation.set_aside
    destination.run("ALTER TABLE notes DROP CONSTRAINT small")
    own_store.ask_resync(name, TableId("public", "notes"))
    until(lambda: own_store.tables(name)[1].state is TableState.STREAMING)
    assert own_store.tables(name)[1].error is None
    assert [(7,)] == destination.rows("SELECT id FROM notes")
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_asking_for_a_table_that_the_pipeline_has_not_is_refused(own_store: Store, name: str) -> None:
    with pytest.raises(PipelineNotFound, match=r"no pipeline .* with a table public\.unknown"):
        own_store.ask_resync(name, TableId("public", "unknown"))


def test_a_second_run_is_refused_and_leaves_no_trace(own_store: Store, name: str) -> None:
    run = Run(own_store, name)
    until(lambda: own_store.state(name).run_status == "STREAMING")
    with pytest.raises(LeaseHeld), closing(supervision.supervised(own_store, name, "another")) as reports:
        next(reports)
    assert "a-run" == own_store.state(name).run_id
    assert own_store.state(name).last_error is None
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_of_two_runs_that_start_at_once_exactly_one_streams(own_store: Store, name: str, source: Database) -> None:
    runs = [Run(own_store, name), Run(own_store, name)]
    until(lambda: own_store.state(name).run_status == "STREAMING")
    walsenders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()"
    until(lambda: source.rows(walsenders) == [(1,)])
    own_store.set_status(name, Status.PAUSE)
    assert [type(None), LeaseHeld] == sorted((type(run.wait()) for run in runs), key=lambda kind: kind is LeaseHeld)


def test_refresh_ends_the_run_and_the_next_one_writes_start_back(own_store: Store, name: str) -> None:
    first = Run(own_store, name)
    until(lambda: own_store.state(name).run_status == "STREAMING")
    own_store.set_status(name, Status.REFRESH)
    assert first.wait() is None
    second = Run(own_store, name)
    until(lambda: own_store.status(name) is Status.START)
    own_store.set_status(name, Status.PAUSE)
    assert second.wait() is None


def test_a_failure_is_told_and_waits_for_a_person_until_the_row_is_changed(own_store: Store, name: str) -> None:
    with own_store.connected() as connection:
        connection.execute("UPDATE sources SET pg_password = 'wrong'")
    error = Run(own_store, name).wait()
    assert isinstance(error, ConfigurationError)
    state = own_store.state(name)
    assert ("FAILED", Health.ERROR, str(error), False) == (
        state.run_status,
        state.health,
        state.last_error,
        state.is_due,
    )
    with own_store.connected() as connection:
        connection.execute("UPDATE sources SET pg_password = 'another'")
    assert own_store.state(name).is_due


def test_a_run_goes_on_while_the_configuration_database_is_restarted(
    own_store: Store, config_server: EmbeddedPostgres, name: str, source: Database, destination: Database
) -> None:
    run = Run(own_store, name)
    until(lambda: own_store.state(name).run_status == "STREAMING")
    config_server.stop(keep_data=True)
    source.run("INSERT INTO items VALUES (2)")
    until(lambda: destination.rows("SELECT count(*) FROM items") == [(2,)])
    config_server.start()
    until(lambda: status_of(own_store, name) is not None)
    # The lease is taken again: nobody else may run the pipeline now.
    until(lambda: is_leased(own_store))
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None
    assert 1 == own_store.state(name).rows_applied


def test_a_run_ends_when_the_configuration_database_stays_away(
    own_store: Store, config_server: EmbeddedPostgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STORE_PATIENCE", 1.0)
    run = Run(own_store, name)
    until(lambda: own_store.state(name).run_status == "STREAMING")
    config_server.stop(keep_data=True)
    assert isinstance(run.wait(), StoreUnavailable)


def status_of(store: Store, name: str) -> Status | None:
    try:
        return store.status(name)
    except StoreUnavailable:
        return None


def is_leased(store: Store) -> bool:
    """Looked at, not tried: whoever tries has the lease for a moment, and the run would find it taken."""
    with store.connected() as connection:
        row = connection.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)").fetchone()
    return row == (True,)
