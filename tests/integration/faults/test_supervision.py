"""A run under supervision: what the row says is done, what happens is told, and a lost configuration database is borne."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import psycopg
import pytest

from rosetta_dagster.cdc.config.pipeline import Health, Status, TableState
from rosetta_dagster.cdc.errors import (
    ConfigurationError,
    LeaseHeld,
    PipelineNotFound,
    StoreUnavailable,
    TransientError,
    WorkerStuck,
)
from rosetta_dagster.cdc.operate.health import observe
from rosetta_dagster.cdc.run import supervision
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredSource,
    put_destination,
    put_source,
)
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import SECRET_KEY, Database
from tests.support.supervised import Run
from tests.support.waiting import eventually

#: How long anything may take, in seconds.
LIMIT = 30.0


def test_pause_ends_the_run_and_its_progress_is_reported(own_store: Store, name: str, source: Database) -> None:
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    source.run("INSERT INTO items VALUES (2)")
    eventually(lambda: own_store.state(name).rows_applied == 1)
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None
    state = own_store.state(name)
    assert ("STOPPED", 1, 1, None) == (state.run_status, state.rows_copied, state.rows_applied, state.last_error)
    assert state.last_success_time is not None
    assert ["STREAMING"] == [table.state for table in own_store.tables(name)]


def test_tables_are_added_removed_and_resynced_while_the_run_goes_on(
    own_store: Store, name: str, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "CHANGE_INTERVAL", 0)
    source.run("CREATE TABLE notes (id int PRIMARY KEY)", "INSERT INTO notes VALUES (1), (2)")
    notes = TableId("public", "notes")
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    with own_store.connected() as connection:
        connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'notes' FROM pipelines")
    eventually(lambda: [TableState.STREAMING] * 2 == [table.state for table in own_store.tables(name)])
    assert [(1,), (2,)] == destination.rows("SELECT id FROM notes ORDER BY 1")
    destination.run("UPDATE notes SET id = 3 WHERE id = 2")
    own_store.ask_resync(name, notes)
    eventually(lambda: [(1,), (2,)] == destination.rows("SELECT id FROM notes ORDER BY 1"))
    eventually(lambda: own_store.tables(name)[1].state is TableState.STREAMING)
    source.run("INSERT INTO items VALUES (2)", "INSERT INTO notes VALUES (4)")
    eventually(lambda: own_store.state(name).rows_applied == 2)
    assert [1, 4] == [table.rows_copied for table in own_store.tables(name)]
    with own_store.connected() as connection:
        connection.execute("DELETE FROM pipeline_tables WHERE table_name = 'notes'")
    source.run("INSERT INTO notes VALUES (5)")
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_changed_selection_is_taken_up_while_the_run_goes_on(
    own_store: Store, name: str, source: Database, destination: Database
) -> None:
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    source.run("INSERT INTO items SELECT n FROM generate_series(2, 9) AS n")
    eventually(lambda: [(9,)] == destination.rows("SELECT count(*) FROM items"))
    with own_store.connected() as connection:
        connection.execute("UPDATE pipeline_tables SET row_filter = 'id > 5'")
    eventually(lambda: [(6,), (7,), (8,), (9,)] == destination.rows("SELECT id FROM items ORDER BY 1"))
    source.run("INSERT INTO items VALUES (-20), (10)", "UPDATE items SET id = -id WHERE id IN (-20, 9)")
    eventually(lambda: [(6,), (7,), (8,), (10,), (20,)] == destination.rows("SELECT id FROM items ORDER BY 1"))
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_table_that_is_set_aside_shows_in_its_row_and_in_the_health(
    own_store: Store, name: str, source: Database, destination: Database
) -> None:
    source.run("CREATE TABLE notes (id int PRIMARY KEY)")
    with own_store.connected() as connection:
        connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'notes' FROM pipelines")
    run = Run(own_store, name)
    eventually(lambda: [TableState.STREAMING] * 2 == [table.state for table in own_store.tables(name)])
    assert Health.HEALTHY is observe(own_store, name).health
    destination.run("ALTER TABLE notes ADD CONSTRAINT small CHECK (id < 5)")
    source.run("INSERT INTO notes VALUES (7)")
    eventually(lambda: own_store.tables(name)[1].state is TableState.ERROR)
    error = own_store.tables(name)[1].error
    assert error is not None
    assert "constraint small" in error
    observation = observe(own_store, name)
    assert Health.WARNING is observation.health
    assert f"1 of 2 tables are set aside; resync them. public.notes: {error}" == observation.set_aside
    destination.run("ALTER TABLE notes DROP CONSTRAINT small")
    own_store.ask_resync(name, TableId("public", "notes"))
    eventually(lambda: own_store.tables(name)[1].state is TableState.STREAMING)
    assert own_store.tables(name)[1].error is None
    assert [(7,)] == destination.rows("SELECT id FROM notes")
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_asking_for_a_table_that_the_pipeline_has_not_is_refused(own_store: Store, name: str) -> None:
    with pytest.raises(PipelineNotFound, match=r"no pipeline .* with a table public\.unknown"):
        own_store.ask_resync(name, TableId("public", "unknown"))


def test_a_second_run_is_refused_and_leaves_no_trace(own_store: Store, name: str) -> None:
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    with pytest.raises(LeaseHeld), closing(supervision.supervise(own_store, name, "another")) as reports:
        next(reports)
    assert "a-run" == own_store.state(name).run_id
    assert own_store.state(name).last_error is None
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_of_two_runs_that_start_at_once_exactly_one_streams(own_store: Store, name: str, source: Database) -> None:
    runs = [Run(own_store, name), Run(own_store, name)]
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    walsenders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()"
    eventually(lambda: source.rows(walsenders) == [(1,)])
    own_store.set_status(name, Status.PAUSE)
    assert [type(None), LeaseHeld] == sorted((type(run.wait()) for run in runs), key=lambda kind: kind is LeaseHeld)


def test_refresh_ends_the_run_and_the_next_one_writes_start_back(own_store: Store, name: str) -> None:
    first = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    own_store.set_status(name, Status.REFRESH)
    assert first.wait() is None
    second = Run(own_store, name)
    eventually(lambda: own_store.status(name) is Status.START)
    own_store.set_status(name, Status.PAUSE)
    assert second.wait() is None


def test_a_resync_of_an_empty_table_ends_as_streaming_however_fast_it_is(
    own_store: Store, name: str, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.run("DELETE FROM items")
    run = Run(own_store, name)
    eventually(lambda: own_store.tables(name)[0].state is TableState.STREAMING)
    # The row is PENDING as the copy begins, and no report is written before the copy is complete.
    monkeypatch.setattr(supervision, "TICK", 3.0)
    monkeypatch.setattr(supervision, "CHANGE_INTERVAL", 0)
    own_store.ask_resync(name, TableId("public", "items"))
    eventually(lambda: not own_store.tables(name)[0].resync)
    eventually(lambda: own_store.tables(name)[0].state is TableState.STREAMING)
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_table_that_is_taken_out_and_added_again_at_once_is_streaming(own_store: Store, name: str) -> None:
    run = Run(own_store, name)
    eventually(lambda: own_store.tables(name)[0].state is TableState.STREAMING)
    with own_store.connected() as connection, connection.transaction():
        connection.execute("DELETE FROM pipeline_tables")
        connection.execute("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'items' FROM pipelines")
    assert own_store.tables(name)[0].state is TableState.PENDING
    eventually(lambda: own_store.tables(name)[0].state is TableState.STREAMING)
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_run_seldom_asks_the_configuration_database(own_store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of its rows are announced, so that they are noticed without asking."""
    monkeypatch.setattr(supervision, "READ_INTERVAL", 600.0)
    execute, statements = psycopg.Connection.execute, Counter[str]()

    def counted(connection: psycopg.Connection[Any], *args: Any, **options: Any) -> Any:
        statements[connection.info.dbname] += 1
        return execute(connection, *args, **options)

    with own_store.connected() as connection:
        database = connection.info.dbname
    run = Run(own_store, name)
    eventually(lambda: own_store.tables(name)[0].state is TableState.STREAMING)
    monkeypatch.setattr(psycopg.Connection, "execute", counted)
    time.sleep(6)
    assert 0 < statements[database] <= 6, "three reports, and the state of a table"
    request = own_store.request_inspection(name)
    eventually(lambda: own_store.state(name).inspection_done >= request)
    own_store.ask_resync(name, TableId("public", "items"))
    eventually(lambda: own_store.state(name).rows_copied == 2)
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


def test_a_run_that_does_not_end_in_time_counts_as_failed(
    own_store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    stop = Worker.stop
    monkeypatch.setattr(Worker, "stop", lambda worker, timeout: stop(worker, timeout) and False)
    own_store.set_status(name, Status.PAUSE)
    error = run.wait()
    assert isinstance(error, WorkerStuck)
    state = own_store.state(name)
    assert ("FAILED", 1, str(error)) == (state.run_status, state.failure_count, state.last_error)


def test_a_failure_is_reported_and_waits_until_the_row_is_changed(own_store: Store, name: str) -> None:
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
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    config_server.stop(keep_data=True)
    source.run("INSERT INTO items VALUES (2)")
    eventually(lambda: destination.rows("SELECT count(*) FROM items") == [(2,)])
    config_server.start()
    eventually(lambda: status_of(own_store, name) is not None)
    # The lease is taken again: nobody else may run the pipeline now.
    eventually(lambda: is_leased(own_store))
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None
    assert 1 == own_store.state(name).rows_applied


def test_a_run_ends_when_the_configuration_database_stays_away(
    own_store: Store, config_server: EmbeddedPostgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STORE_PATIENCE", 1.0)
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    config_server.stop(keep_data=True)
    try:
        assert isinstance(run.wait(), StoreUnavailable)
    finally:
        config_server.start()


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


class Refused(NamedTuple):
    """A row, a server or a role that is not as it has to be, and what the operator is told."""

    statements: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    told: str = ""
    #: What to do about it.
    remedy: str = "Correct the row"


#: Statements at the source (`{role}`: the role that the pipeline connects as) and at the configuration database.
BAD_INPUT = {
    "port": Refused(rows=('UPDATE destinations SET config = config || \'{"port": 0, "password": "p"}\'',), told="port: "),
    "database": Refused(rows=("UPDATE sources SET pg_database = 'ghost'",), told='database "ghost" does not exist'),
    "user": Refused(
        rows=("UPDATE sources SET pg_username = 'ghost', pg_password = 'p'",),
        told="password authentication failed",
        remedy="Correct the user name",
    ),
    "destination's password": Refused(
        rows=('UPDATE destinations SET config = config || \'{"password": "hunter2hunter2"}\'',),
        told="password authentication failed",
        remedy="or the password",
    ),
    "tls": Refused(
        rows=("UPDATE sources SET pg_sslmode = 'require'",), told="server does not support SSL", remedy="Set sslmode"
    ),
    "no tables": Refused(
        rows=("DELETE FROM pipeline_tables",), told="has no tables", remedy="Insert rows into pipeline_tables"
    ),
    "no destination": Refused(rows=("DELETE FROM pipeline_destinations",), told="has no destination", remedy="Insert a row"),
    "missing table": Refused(
        rows=("UPDATE pipeline_tables SET table_name = 'ghost'",), told="public.ghost does not exist", remedy="Create it"
    ),
    "replication": Refused(
        statements=("ALTER ROLE {role} NOREPLICATION",), told="may not replicate", remedy="Run ALTER ROLE"
    ),
    "privilege": Refused(
        statements=("REVOKE SELECT ON items FROM {role}",), told="may not read table public.items", remedy="Run GRANT"
    ),
    "publication": Refused(
        statements=("CREATE PUBLICATION theirs",),
        rows=("UPDATE sources SET publication_name = 'theirs'",),
        told="Publication theirs does not have table public.items",
        remedy="Run ALTER PUBLICATION",
    ),
    "shared slot": Refused(
        rows=(
            "UPDATE sources SET replication_name = 'shared'",
            "INSERT INTO pipelines (name, source_id) SELECT 'second', id FROM sources",
        ),
        told="has the same replication slot as second",
        remedy="replication_name",
    ),
}


@pytest.fixture
def role(own_store: Store, source: Database) -> Iterator[str]:
    """What the pipeline connects as: it may do all that it needs, and nothing more."""
    name, password = f"reader_{source.connection.database}", "open-sesame-of-the-reader"
    source.run(
        f"CREATE ROLE {name} LOGIN REPLICATION PASSWORD '{password}'",
        f"GRANT SELECT ON items TO {name}",
        "CREATE PUBLICATION ready FOR TABLE items",
    )
    with own_store.connected() as connection:
        connection.execute(
            "UPDATE sources SET pg_username = %s, pg_password = %s, publication_name = 'ready'", [name, password]
        )
    yield name
    source.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


# What is wrong is found before the stream opens, so one engine stands for both.
@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_message_on_the_row_and_in_the_run_and_is_not_retried(
    own_store: Store, name: str, role: str, source: Database, case: Refused
) -> None:
    source.run(*(statement.format(role=role) for statement in case.statements))
    with own_store.connected() as connection:
        for statement in case.rows:
            connection.execute(statement.encode())
    error = Run(own_store, name).wait()
    assert error is not None
    state, text = own_store.state(name), str(error)
    assert case.told in text
    assert case.remedy in text
    assert not error.transient
    assert ("FAILED", text, False) == (state.run_status, state.last_error, state.is_due)
    # The check tells what the row says.
    observation = observe(own_store, name)
    assert Health.ERROR is observation.health
    assert text in (observation.problem, observation.error)
    assert "Traceback" not in text
    assert "\n" not in text
    for secret in ("open-sesame", "hunter2", source.config["password"], SECRET_KEY):
        assert secret not in f"{text} {error!r}"
    assert [] == source.rows("SELECT FROM pg_replication_slots WHERE database = current_database()")


def test_a_role_with_no_more_than_it_needs_is_enough(
    own_store: Store, name: str, role: str, source: Database, destination: Database
) -> None:
    run = Run(own_store, name)
    eventually(lambda: own_store.state(name).run_status == "STREAMING")
    source.run("INSERT INTO items VALUES (2)")
    eventually(lambda: destination.rows("SELECT count(*) FROM items") == [(2,)])
    own_store.set_status(name, Status.PAUSE)
    assert run.wait() is None


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_server_that_stays_away_is_retried_with_growing_waits_until_it_is_back(
    own_store: Store, name: str, source: Database, destination: Database, side: str
) -> None:
    with EmbeddedPostgres() as server:
        away = Database(url=server.create_database("away"))
        if side == "source":
            away.run("CREATE TABLE items (id int PRIMARY KEY)", "INSERT INTO items VALUES (1)")
            source = away
            put_source(own_store, DeclaredSource(name="db", connection=source.connection))
        else:
            destination = away
            put_destination(own_store, DeclaredDestination(name="dw", type="POSTGRES", config=destination.config))
        run = Run(own_store, name)
        eventually(lambda: own_store.state(name).run_status == "STREAMING")
        server.kill()
        if side == "destination":
            source.run("INSERT INTO items VALUES (2)")
        error, waits = run.wait(), []
        for number in (1, 2, 3, 4):
            assert isinstance(error, TransientError)
            state = own_store.state(name)
            assert ("FAILED", str(error), number, False) == (
                state.run_status,
                state.last_error,
                state.failure_count,
                state.is_due,
            )
            waits.append(wait_of(own_store))
            # The sensor starts the next one when the wait is over.
            error = Run(own_store, name).wait() if number < 4 else error
        assert waits == sorted(waits)
        assert waits[-1] > 4 * waits[0]
        server.start()
        source.run("INSERT INTO items VALUES (3)")
        run = Run(own_store, name)
        eventually(
            lambda: destination.rows("SELECT id FROM items ORDER BY id") == source.rows("SELECT id FROM items ORDER BY id")
        )
        own_store.set_status(name, Status.PAUSE)
        assert run.wait() is None
    assert own_store.state(name).last_error is None


def wait_of(store: Store) -> float:
    """Seconds from the last failure to the next attempt."""
    with store.connected() as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM next_attempt_at - last_error_at)::float8 FROM pipeline_metadata"
        ).fetchone()
    assert row is not None
    wait: float = row[0]
    return wait
