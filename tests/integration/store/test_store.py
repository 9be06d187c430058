"""The configuration database: what it tells of pipelines, who may run one, and what runs report."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from rosetta_dagster.cdc.change.position import Engine, Lsn
from rosetta_dagster.cdc.config.pipeline import Health, Status, TableState
from rosetta_dagster.cdc.errors import (
    ConfigurationError,
    PipelineNotFound,
    RosettaError,
    SourceUnavailable,
    StoreUnavailable,
)
from rosetta_dagster.cdc.postgres.errors import Translation, translate
from rosetta_dagster.cdc.source.slot_reading import SlotReading
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.migrate import migrate, read_migrations
from rosetta_dagster.cdc.store.records import Progress, RunStatus, TableProgress
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database, end_connections
from tests.support.rows import Add, metadata

ORDERS = TableId("public", "orders")


def progress(run_status: str = "STREAMING", *, copied: int = 0, applied: int = 0, **changes: Any) -> Progress:
    table = TableProgress(state=TableState.STREAMING, error=None, copied=copied, applied=applied, last_change_at=None)
    values: dict[str, Any] = {"applied_lsn": None, "lag_seconds": None, "success_age": None, "tables": {ORDERS: table}}
    return Progress(run_status=RunStatus(run_status), **{**values, **changes})


def test_a_pipeline_is_read_with_everything_that_it_needs(store: Store, add: Add, config_database: Database) -> None:
    add("Shop", source_slot="of_source")
    config_database.run(
        """INSERT INTO destinations (name, type, config) VALUES ('b', 'POSTGRES', '{}'), ('a', 'POSTGRES', '{}')""",
        "INSERT INTO pipeline_destinations SELECT p.id, d.id FROM pipelines p, destinations d",
        "INSERT INTO pipeline_tables (pipeline_id, table_schema, table_name, target_schema, target_name)"
        " SELECT id, 'Sales', 'Odd \"name', 'to', 'there' FROM pipelines",
    )
    config = store.pipeline("Shop")
    assert ("Shop", Engine.DEBEZIUM, "of_source") == (config.name, config.engine, config.slot_name)
    assert "u@db:5432/d" == config.source.connection.describe()
    assert ["a", "b"] == [destination.name for destination in config.destinations]
    assert [
        (TableId("Sales", 'Odd "name'), "to", "there"),
        (ORDERS, None, None),
    ] == [(table.id, table.target_namespace, table.target_name) for table in config.tables]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_spellings_of_the_url_are_understood(config_database: Database, scheme: str) -> None:
    url = scheme + "://" + config_database.url.partition("://")[2]
    with Store(SecretStr(url)) as store:
        store.migrate()
        assert [] == store.states()


def test_what_does_not_exist_is_reported_by_name(store: Store) -> None:
    calls: dict[str, Callable[[str], object]] = {
        "pipeline": store.pipeline, "source": store.source, "destination": store.destination,
    }  # fmt: skip
    for kind, call in calls.items():
        with pytest.raises(PipelineNotFound, match=f"There is no {kind} ghost"):
            call("ghost")
    for action in (store.state, lambda name: store.set_status(name, Status.START)):
        with pytest.raises(PipelineNotFound, match="There is no pipeline ghost"):
            action("ghost")
    assert store.status("ghost") is None


def test_shapes_and_states_are_by_name_and_hold_nothing_of_others(store: Store, add: Add) -> None:
    add("b")
    add("a")
    assert ["a", "b"] == [shape.name for shape in store.shapes()]
    assert [("a", "a", 1, Status.PAUSE, "STOPPED", True), ("b", "b", 1, Status.PAUSE, "STOPPED", True)] == [
        (state.name, state.source, state.table_count, state.status, state.run_status, state.is_due)
        for state in store.states()
    ]
    assert () == store.shapes()[0].destinations
    assert [ORDERS] == [table.id for table in store.tables("a")]


def test_the_target_of_a_table_is_its_own_then_the_destinations_then_the_sources(
    store: Store, add: Add, config_database: Database
) -> None:
    add("shop")
    config_database.run(
        """INSERT INTO destinations (name, type, config) VALUES ('dw', 'POSTGRES', '{"schema": "mirror"}')""",
        "INSERT INTO pipeline_destinations SELECT p.id, d.id FROM pipelines p, destinations d",
        "INSERT INTO pipeline_tables (pipeline_id, table_name, target_schema, target_name)"
        " SELECT id, 'zebras', 'zoo', 'animals' FROM pipelines",
    )
    (shape,) = store.shapes()
    assert [TableId("mirror", "orders"), TableId("zoo", "animals")] == [
        shape.destinations[0].target_of(table) for table in shape.tables
    ]


def test_the_status_is_set_and_with_a_condition_only_from_there(store: Store, add: Add) -> None:
    add("shop")
    assert store.set_status("shop", Status.REFRESH)
    assert not store.set_status("shop", Status.START, only_from=Status.PAUSE)
    assert Status.REFRESH is store.status("shop")
    assert store.set_status("shop", Status.START, only_from=Status.REFRESH)
    assert Status.START is store.status("shop")


def test_a_store_opens_its_connection_again_after_it_broke(store: Store, config_database: Database) -> None:
    store.states()
    end_connections(config_database)
    with pytest.raises(StoreUnavailable, match=r"^The configuration database "):
        store.states()
    assert [] == store.states()


def test_a_closed_store_opens_again_when_it_is_used(store: Store) -> None:
    store.close()
    assert [] == store.states()


def test_a_configuration_database_that_is_away_is_transient_and_takes_one_line(config_database: Database) -> None:
    url = config_database.url.replace(f":{config_database.connection.port}/", ":1/")
    with Store(SecretStr(url)) as store, pytest.raises(StoreUnavailable, match=r"cannot be reached.*tried again") as caught:
        store.states()
    assert "\n" not in str(caught.value)
    assert caught.value.transient


def test_threads_that_share_a_store_take_turns(store: Store, add: Add) -> None:
    pipeline_id = add("shop")
    store.report_started(pipeline_id, "run")
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(store.report_progress, pipeline_id, "run", progress(applied=1)) for _ in range(80)]:
            done.result(20)
    assert 80 == store.state("shop").rows_applied
    assert 80 == store.tables("shop")[0].rows_applied


def test_the_wait_after_a_transient_failure_doubles_up_to_five_minutes(
    store: Store, add: Add, config_database: Database
) -> None:
    pipeline_id = add("shop")
    waits = []
    for _ in range(12):
        store.report_failure(pipeline_id, None, "away", transient=True)
        waits.append(metadata(config_database, "extract(epoch FROM next_attempt_at - last_error_at)::float8")[0])
    longest = [5, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 300]
    assert all(most * 0.75 - 0.05 <= wait <= most + 0.05 for wait, most in zip(waits, longest, strict=True)), waits
    assert (12, False) == (store.state("shop").failure_count, store.state("shop").is_due)


def test_the_wait_stays_at_five_minutes_however_often_it_failed(store: Store, add: Add, config_database: Database) -> None:
    pipeline_id = add("shop")
    config_database.run("UPDATE pipeline_metadata SET failure_count = 1000000")
    store.report_failure(pipeline_id, None, "away", transient=True)
    (wait,) = metadata(config_database, "extract(epoch FROM next_attempt_at - last_error_at)::float8")
    assert 225 <= wait <= 300.05


def test_pipelines_that_failed_together_do_not_come_back_at_once(store: Store, add: Add, config_database: Database) -> None:
    for number in range(8):
        store.report_failure(add(f"shop_{number}"), None, "away", transient=True)
    waits = config_database.rows("SELECT extract(epoch FROM next_attempt_at - last_error_at)::float8 FROM pipeline_metadata")
    assert max(waits)[0] - min(waits)[0] > 0.1


def test_a_terminal_failure_waits_for_an_operator_or_ten_minutes(store: Store, add: Add, config_database: Database) -> None:
    pipeline_id = add("shop")
    store.report_failure(pipeline_id, None, "wrong row", transient=False)
    columns = "status, health_status, last_error, extract(epoch FROM next_attempt_at - last_error_at)::float8"
    *noted, wait = metadata(config_database, columns)
    assert ["FAILED", "ERROR", "wrong row"] == noted
    assert 600 <= wait <= 660.1
    assert not store.state("shop").is_due
    store.set_status("shop", Status.START)
    assert (0, True) == (store.state("shop").failure_count, store.state("shop").is_due)


def test_a_wait_that_is_over_is_due(store: Store, add: Add, config_database: Database) -> None:
    add("shop")
    config_database.run("UPDATE pipeline_metadata SET next_attempt_at = now() - interval '1 second', failure_count = 1")
    assert store.state("shop").is_due


def test_progress_is_added_to_what_was_reported_before(store: Store, add: Add, config_database: Database) -> None:
    pipeline_id = add("shop")
    add("other")
    store.report_started(pipeline_id, "run")
    changed_at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    table = TableProgress(state=TableState.SNAPSHOT, error=None, copied=3, applied=2, last_change_at=changed_at)
    store.report_progress(pipeline_id, "run", progress("SNAPSHOT", applied_lsn=Lsn(255), tables={ORDERS: table}))
    store.report_progress(pipeline_id, "run", progress(copied=10, applied=5, lag_seconds=1.5, success_age=60.0))
    state = store.state("shop")
    assert (13, 7, "STREAMING", 1.5, "run") == (
        state.rows_copied, state.rows_applied, state.run_status, state.lag_seconds, state.run_id,
    )  # fmt: skip
    (record,) = store.tables("shop")
    assert (TableState.STREAMING, 13, 7, changed_at) == (
        record.state, record.rows_copied, record.rows_applied, record.last_change_time,
    )  # fmt: skip
    assert [("0/FF", True)] == config_database.rows(
        "SELECT applied_lsn::text, last_success_time BETWEEN now() - interval '70 s' AND now() - interval '50 s'"
        f" FROM pipeline_metadata WHERE pipeline_id = {pipeline_id}"
    )
    assert 0 == store.state("other").rows_applied
    assert 0 == store.tables("other")[0].rows_applied


def test_a_run_that_was_overtaken_writes_nothing_more(store: Store, add: Add) -> None:
    pipeline_id = add("shop")
    store.report_started(pipeline_id, "old")
    store.report_started(pipeline_id, "new")
    before = store.state("shop").run_status
    store.report_progress(pipeline_id, "old", progress(applied=5))
    store.report_failure(pipeline_id, "old", "late", transient=False)
    store.report_stopped(pipeline_id, "old")
    state = store.state("shop")
    assert (before, 0, None, 0) == (state.run_status, state.rows_applied, state.last_error, state.failure_count)
    assert 0 == store.tables("shop")[0].rows_applied


def test_a_streaming_run_clears_the_error_at_once_and_the_failures_after_a_minute(
    store: Store, add: Add, config_database: Database
) -> None:
    pipeline_id = add("shop")
    store.report_failure(pipeline_id, None, "away", transient=True)
    store.report_started(pipeline_id, "run")
    store.report_progress(pipeline_id, "run", progress("SNAPSHOT"))
    assert ("away", Health.ERROR) == (store.state("shop").last_error, store.state("shop").health)
    store.report_progress(pipeline_id, "run", progress())
    state = store.state("shop")
    assert (None, Health.HEALTHY, 1) == (state.last_error, state.health, state.failure_count)
    config_database.run("UPDATE pipeline_metadata SET started_at = now() - interval '61 seconds'")
    store.report_progress(pipeline_id, "run", progress())
    assert 0 == store.state("shop").failure_count


def test_a_run_that_stops_as_it_should_leaves_no_wait_and_one_that_failed_does(store: Store, add: Add) -> None:
    pipeline_id = add("shop")
    store.report_started(pipeline_id, "run")
    store.report_failure(pipeline_id, "run", "away", transient=True)
    store.report_stopped(pipeline_id, "run")
    assert ("FAILED", 1) == (store.state("shop").run_status, store.state("shop").failure_count)
    store.report_started(pipeline_id, "run")
    store.report_stopped(pipeline_id, "run")
    state = store.state("shop")
    assert ("STOPPED", 0, True) == (state.run_status, state.failure_count, state.is_due)


def test_the_slot_of_a_pipeline_is_noted_and_forgotten(store: Store, add: Add, config_database: Database) -> None:
    pipeline_id = add("shop")
    columns = "slot_name, wal_status, confirmed_flush_lsn::text, wal_size, lag_bytes, safe_wal_size"
    store.report_slot(pipeline_id, "rosetta_shop", SlotReading(True, "reserved", Lsn(256), 1000, 10, 77, Lsn(266)))
    assert ("rosetta_shop", "reserved", "0/100", 1000, 10, 77) == metadata(config_database, columns)
    store.report_slot(pipeline_id, "rosetta_shop", None)
    assert ("rosetta_shop", None, None, None, None, None) == metadata(config_database, columns)


def test_two_pipelines_that_name_one_slot_are_refused(store: Store, add: Add) -> None:
    add("one", slot="shared")
    add("two", slot="shared")
    for mine, other in (("one", "two"), ("two", "one")):
        with pytest.raises(ConfigurationError, match=f"Pipeline {mine} has the same replication slot as {other}"):
            store.pipeline(mine)


def test_two_pipelines_on_a_sources_slot_are_refused_until_one_has_its_own(
    store: Store, add: Add, config_database: Database
) -> None:
    add("one", source_slot="shared")
    add("two", of_source="one")
    with pytest.raises(ConfigurationError, match="same replication slot"):
        store.pipeline("two")
    config_database.run("UPDATE pipelines SET replication_name = 'mine' WHERE name = 'two'")
    assert ["shared", "mine"] == [store.pipeline(name).slot_name for name in ("one", "two")]


def test_slots_of_the_same_name_on_different_servers_are_different_slots(store: Store, add: Add) -> None:
    add("one", slot="shared")
    add("two", slot="shared", host="elsewhere")
    assert "shared" == store.pipeline("one").slot_name


def test_a_slot_named_like_the_one_that_another_pipeline_gets_by_default_is_refused(store: Store, add: Add) -> None:
    add("one")
    add("two", slot="rosetta_one")
    with pytest.raises(ConfigurationError, match="same replication slot"):
        store.pipeline("two")


@pytest.mark.parametrize(
    ("statement", "kind", "told"),
    [
        ("SELECT 1 / 0", ConfigurationError, "DivisionByZero (22012)"),
        ("SELECT * FROM nowhere", ConfigurationError, 'relation "nowhere" does not exist (42P01)'),
        ("SELECT pg_terminate_backend(pg_backend_pid())", SourceUnavailable, "administrator command"),
        ("SET statement_timeout = 1; SELECT pg_sleep(10)", SourceUnavailable, "statement timeout (57014)"),
        ("BEGIN READ ONLY; CREATE TABLE a ()", ConfigurationError, "read-only transaction (25006)"),
        ("SELECT 'the value'::integer", ConfigurationError, "InvalidTextRepresentation (22P02)"),
        ("DO $$ BEGIN RAISE 'the value'; END $$", ConfigurationError, "RaiseException (P0001)"),
        ("CREATE TABLE t (c integer NOT NULL); INSERT INTO t VALUES (NULL)", ConfigurationError, "table t, column c"),
        ("CREATE TABLE t (c text CONSTRAINT tag CHECK (c = '')); INSERT INTO t VALUES ('the value')", ConfigurationError,
         "table t, constraint tag"),
    ],
)  # fmt: skip
def test_an_error_of_a_server_names_places_and_never_values(
    source: Database, statement: str, kind: type[RosettaError], told: str
) -> None:
    translation = Translation(who="source x", unavailable=SourceUnavailable, rejected=ConfigurationError)
    with pytest.raises(psycopg.Error) as caught:
        source.run(statement)
    error = translate(caught.value, translation)
    assert kind is type(error)
    assert told in str(error)
    assert str(error).startswith("Source x ")
    assert "the value" not in str(error)
    assert error.remedy


def test_an_error_inside_copy_names_table_and_column_and_not_the_value(source: Database) -> None:
    source.run("CREATE TABLE t (c integer)")
    with (
        pytest.raises(errors.DataError) as caught,
        source.connect() as connection,
        connection.cursor().copy("COPY t FROM STDIN") as copy,
    ):
        copy.write("the value\n")
    translation = Translation(who="destination x", unavailable=StoreUnavailable, rejected=ConfigurationError)
    message = str(translate(caught.value, translation))
    assert "COPY t, line 1, column c" in message
    assert "the value" not in message


def test_a_config_that_is_not_of_a_kind_that_can_be_shown_does_not_hide_the_others(
    store: Store, add: Add, config_database: Database
) -> None:
    add("shop")
    with config_database.connect() as connection:
        config = Jsonb({"host": ["odd"], "password": 5, "schema": None})
        connection.execute("INSERT INTO destinations (name, type, config) VALUES ('dw', 'POSTGRES', %s)", [config])
    config_database.run("INSERT INTO pipeline_destinations SELECT p.id, d.id FROM pipelines p, destinations d")
    (shape,) = store.shapes()
    assert {"host": ["odd"]} == shape.destinations[0].connection


@pytest.mark.parametrize(
    "case",
    [
        ("START", "59 seconds", "HEALTHY"),
        ("START", "61 seconds", "ERROR"),
        ("REFRESH", "61 seconds", "ERROR"),
        ("PAUSE", "1 day", "HEALTHY"),
    ],
)
def test_a_dead_pipeline_is_never_shown_as_healthy(
    store: Store, add: Add, config_database: Database, case: tuple[str, str, str]
) -> None:
    status, silence, health = case
    pipeline_id = add("shop")
    store.set_status("shop", Status(status))
    store.report_started(pipeline_id, "a-run")
    store.report_progress(pipeline_id, "a-run", progress("STREAMING"))
    store.report_health(pipeline_id, Health.HEALTHY)
    # Its processes are killed: nothing writes any more.
    config_database.run(
        f"UPDATE pipeline_metadata SET heartbeat_at = clock_timestamp() - interval '{silence}'",
        "ALTER TABLE pipelines DISABLE TRIGGER touch",
        f"UPDATE pipelines SET updated_at = clock_timestamp() - interval '{silence}'",
    )
    documented = "SELECT pm.health_status FROM pipelines p JOIN pipeline_metadata pm ON p.id = pm.pipeline_id"
    assert [(health,)] == config_database.rows(documented)
    assert health == store.state("shop").health


def test_a_pipeline_that_was_just_started_has_a_minute_to_run(store: Store, add: Add, config_database: Database) -> None:
    add("shop")
    config_database.run("UPDATE pipeline_metadata SET heartbeat_at = now() - interval '1 day'")
    store.set_status("shop", Status.START)
    assert Health.HEALTHY is store.state("shop").health


def test_roles_keep_what_they_may_do_with_the_metadata(config_database: Database) -> None:
    migrations = read_migrations()
    before = [migration for migration in migrations if migration.name < "010"]
    role = f"reader_{config_database.connection.database}"
    with config_database.connect() as connection:
        migrate(connection, before)
    config_database.run(f"CREATE ROLE {role}", f"GRANT SELECT, UPDATE ON pipeline_metadata TO {role}")
    try:
        with config_database.connect() as connection:
            migrate(connection, migrations)
        may = f"has_table_privilege('{role}', 'pipeline_metadata', '%s')"
        assert [(True, True, False)] == config_database.rows(f"SELECT {may % 'SELECT'}, {may % 'UPDATE'}, {may % 'DELETE'}")
    finally:
        config_database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_only_failed_pipelines_are_retried_and_only_those_that_are_named(
    store: Store, add: Add, config_database: Database
) -> None:
    for name in ("one", "two"):
        store.report_failure(add(name), None, "no privilege", transient=False)
    store.retry_failed(["one"])
    assert (True, False) == (store.state("one").is_due, store.state("two").is_due)
    assert 590 < (store.state("two").seconds_until_due or 0) < 661
