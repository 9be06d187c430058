"""The migrations: applied once, never changed, and what the tables that they make refuse and do by themselves."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import MigrationRefused, RosettaError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.migrate import _LOCK, Migration, migrate, read_migrations
from tests.support.database import SECRET_KEY, Database
from tests.support.waiting import eventually

#: What is applied to every configuration database.
SCHEMA = tuple(migration.name for migration in read_migrations() if not migration.is_seed)

SOURCE = "INSERT INTO sources (name, pg_host, pg_database, pg_username) VALUES ('{name}', 'db', 'shop', 'app')"
DESTINATION = "INSERT INTO destinations (name, type) VALUES ('{name}', 'POSTGRES')"
PIPELINE = "INSERT INTO pipelines (name, source_id) SELECT '{name}', id FROM sources WHERE name = 'shop'"


def names_of_tables(database: Database) -> set[str]:
    return {name for (name,) in database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def store_of(database: Database) -> Store:
    return Store(SecretStr(database.url), SecretStr(SECRET_KEY))


@pytest.fixture
def migrated(config_database: Database) -> Database:
    """With the pipeline `shop`, from the source `shop` to the destination `warehouse`."""
    with store_of(config_database) as store:
        store.migrate()
    config_database.run(
        SOURCE.format(name="shop"),
        DESTINATION.format(name="warehouse"),
        PIPELINE.format(name="shop"),
        "INSERT INTO pipeline_destinations SELECT p.id, d.id FROM pipelines p, destinations d",
        "INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'orders' FROM pipelines",
    )
    return config_database


def test_an_empty_database_gets_its_tables_and_a_second_time_nothing(config_database: Database) -> None:
    with store_of(config_database) as store:
        first, second = store.migrate(), store.migrate()
    assert first == SCHEMA
    assert () == second
    assert {"sources", "destinations", "pipelines", "pipeline_destinations", "pipeline_tables", "pipeline_progress"} < (
        names_of_tables(config_database)
    )
    assert [(0,)] == config_database.rows("SELECT count(*) FROM pipelines")


def test_sample_data_comes_only_when_asked_for_and_only_once(config_database: Database) -> None:
    with store_of(config_database) as store:
        assert store.migrate() == SCHEMA
        assert ("002_seed_data.sql",) == store.migrate(seed=True)
        assert () == store.migrate(seed=True)
    assert [("shop", 4)] == config_database.rows(
        "SELECT p.name, count(*) FROM pipelines p JOIN pipeline_tables t ON t.pipeline_id = p.id GROUP BY p.name"
    )


def test_two_that_migrate_at_once_apply_each_migration_once(config_database: Database) -> None:
    def run() -> tuple[str, ...]:
        with store_of(config_database) as store:
            return store.migrate(seed=True)

    def both_wait() -> bool:
        return config_database.rows(
            "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database AND datname = current_database()"
            " WHERE locktype = 'advisory' AND NOT granted"
        ) == [(2,)]

    with ThreadPoolExecutor() as pool:
        # Both have seen an empty database before either can begin.
        with config_database.connect() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            runs = [pool.submit(run) for _ in range(2)]
            eventually(both_wait)
        applied = sorted(run.result(20) for run in runs)
    assert [(), tuple(sorted((*SCHEMA, "002_seed_data.sql")))] == applied
    assert [(len(SCHEMA) + 1,)] == config_database.rows("SELECT count(*) FROM rosetta_migrations")
    assert [(1,)] == config_database.rows("SELECT count(*) FROM pipelines")


def test_threads_that_share_a_store_migrate_once(config_database: Database) -> None:
    barrier = threading.Barrier(2)

    def run(store: Store) -> tuple[str, ...]:
        barrier.wait(20)
        return store.migrate()

    with store_of(config_database) as store, ThreadPoolExecutor() as pool:
        runs = [pool.submit(run, store) for _ in range(2)]
        assert [(), SCHEMA] == sorted(run.result(20) for run in runs)


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(config_database: Database) -> None:
    old = Migration(name="001_a.sql", text="CREATE TABLE a (id int)")
    changed = Migration(name="001_a.sql", text="CREATE TABLE a (id bigint)")
    new = Migration(name="002_b.sql", text="CREATE TABLE b (id int)")
    with config_database.connect() as connection:
        assert ("001_a.sql",) == migrate(connection, [old])
        with pytest.raises(MigrationRefused, match=r"Migration 001_a.sql was changed.*Restore the file"):
            migrate(connection, [changed])
        with pytest.raises(MigrationRefused, match=r"001_a\.sql"):
            migrate(connection, [changed, new])
        assert {"a", "rosetta_migrations"} == names_of_tables(config_database)
        assert ("002_b.sql",) == migrate(connection, [old, new])


def test_a_migration_that_fails_leaves_nothing_of_those_applied_with_it(config_database: Database) -> None:
    good = Migration(name="001_a.sql", text="CREATE TABLE a (id int)")
    bad = Migration(name="002_b.sql", text="CREATE TABLE b (id int); SELECT 1 / 0")
    with config_database.connect() as connection:
        with pytest.raises(errors.DivisionByZero):
            migrate(connection, [good, bad])
        assert set() == names_of_tables(config_database)
        assert ("001_a.sql",) == migrate(connection, [good])


def test_a_percent_sign_in_a_migration_is_text(config_database: Database) -> None:
    with config_database.connect() as connection:
        migrate(connection, [Migration(name="001_a.sql", text="CREATE TABLE a AS SELECT '%s %'::text AS b")])
    assert [("%s %",)] == config_database.rows("SELECT b FROM a")


def test_files_are_read_in_the_order_of_their_names_and_others_left_out(tmp_path: Path) -> None:
    for name in ("010_c.sql", "002_b.sql", "001_a.sql", "003_notes.txt"):
        (tmp_path / name).write_text(name)
    assert ["001_a.sql", "002_b.sql", "010_c.sql"] == [migration.name for migration in read_migrations(tmp_path)]


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE pipelines SET status = 'RUN'", "pipeline_status_is_start_pause_or_refresh"),
        ("UPDATE pipelines SET status = 'start'", "pipeline_status_is_start_pause_or_refresh"),
        ("UPDATE pipelines SET engine = 'KAFKA'", "pipeline_engine_is_debezium_or_pgoutput"),
        ("UPDATE pipelines SET name = 'a b'", "pipeline_name_is_letters_digits_underscores"),
        ("UPDATE pipelines SET managed_by = 'ME'", "pipeline_managed_by_sql_or_code"),
        ("UPDATE pipelines SET replication_name = 'Upper'", "pipeline_replication_name_is_a_slot_name"),
        ("UPDATE sources SET replication_name = 'a-b'", "source_replication_name_is_a_slot_name"),
        ("UPDATE sources SET pg_port = 0", "source_port_is_a_tcp_port"),
        ("UPDATE sources SET pg_port = 65536", "source_port_is_a_tcp_port"),
        ("UPDATE sources SET pg_sslmode = 'maybe'", "source_sslmode_is_one_of_libpq"),
        ("UPDATE destinations SET type = 'MYSQL'", "Destination warehouse cannot be of type MYSQL: there is no such type."),
        ("UPDATE pipelines SET on_gap = 'SKIP'", "pipeline_on_gap_is_copy_or_stop_table"),
        ("UPDATE pipelines SET on_partition_drop = 'DROP'", "pipeline_on_partition_drop_is_follow_or_keep"),
        ("UPDATE pipelines SET on_slot_limit = 'DROP'", "pipeline_on_slot_limit_is_alert_pause_or_drop_slot"),
        ("UPDATE pipelines SET types = 'JSON'", "pipeline_types_is_create_or_text"),
        ("UPDATE destinations SET config = '[1]'", "destination_config_is_an_object"),
        ("UPDATE pipeline_tables SET state = 'LOST'", "table_state_is_known"),
        ("UPDATE pipeline_metadata SET status = 'GONE'", "metadata_status_is_known"),
        ("UPDATE pipeline_metadata SET reported_health = 'SICK'", "health_is_healthy_warning_or_error"),
    ],
)
def test_a_wrong_value_is_refused_with_a_constraint_whose_name_says_why(
    migrated: Database, statement: str, constraint: str
) -> None:
    with pytest.raises(errors.CheckViolation, match=constraint):
        migrated.run(statement)


def test_a_table_is_once_in_a_pipeline(migrated: Database) -> None:
    with pytest.raises(errors.UniqueViolation, match="table_is_once_in_a_pipeline"):
        migrated.run("INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'orders' FROM pipelines")


def test_a_source_or_destination_in_use_stays_and_a_pipeline_takes_its_rows_along(migrated: Database) -> None:
    for table in ("sources", "destinations"):
        with pytest.raises(psycopg.IntegrityError, match="foreign key"):
            migrated.run(f"DELETE FROM {table}")
    migrated.run("DELETE FROM pipelines")
    for table in ("pipeline_destinations", "pipeline_tables", "pipeline_metadata"):
        assert [(0,)] == migrated.rows(f"SELECT count(*) FROM {table}")


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("sources", "pg_host = 'elsewhere'"),
        ("destinations", "config = '{\"port\": 1}'"),
        ("pipelines", "status = 'START'"),
        ("pipeline_tables", "state = 'STREAMING'"),
    ],
)
def test_an_update_is_dated(migrated: Database, table: str, change: str) -> None:
    query = f"SELECT updated_at = created_at FROM {table}"
    assert [(True,)] == migrated.rows(query)
    migrated.run(f"UPDATE {table} SET {change}")
    assert [(False,)] == migrated.rows(query)


def test_an_update_of_metadata_is_dated(migrated: Database) -> None:
    (before,) = migrated.rows("SELECT updated_at FROM pipeline_metadata")
    migrated.run("UPDATE pipeline_metadata SET wal_size = 1")
    (after,) = migrated.rows("SELECT updated_at FROM pipeline_metadata")
    assert after > before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pipelines SET status = 'START'",
        "UPDATE pipelines SET status = status",
        "UPDATE pipelines SET engine = 'PGOUTPUT'",
        "UPDATE pipelines SET publication_name = 'p'",
        "UPDATE pipelines SET replication_name = 's'",
        "UPDATE sources SET pg_password = 'new'",
        "UPDATE destinations SET config = '{}'",
        "UPDATE pipeline_tables SET target_name = 'o'",
        "INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, 'items' FROM pipelines WHERE name = 'shop'",
        "DELETE FROM pipeline_tables",
        "DELETE FROM pipeline_destinations",
    ],
)
def test_a_change_by_an_operator_ends_the_wait_of_that_pipeline_only(migrated: Database, statement: str) -> None:
    migrated.run(
        SOURCE.format(name="other"),
        "INSERT INTO pipelines (name, source_id) SELECT 'other', id FROM sources WHERE name = 'other'",
        "UPDATE pipeline_metadata SET failure_count = 3, next_attempt_at = 'infinity'",
    )
    of_shop = " WHERE name = 'shop'" if statement.startswith(("UPDATE pipelines", "UPDATE sources")) else ""
    migrated.run(statement + of_shop)
    assert [("other", 3, True), ("shop", 0, None)] == migrated.rows(
        "SELECT name, failure_count, next_attempt_at = 'infinity' FROM pipeline_metadata JOIN pipelines ON id = pipeline_id"
        " ORDER BY name"
    )


def test_what_rosetta_writes_of_a_table_does_not_end_the_wait(migrated: Database) -> None:
    migrated.run(
        "UPDATE pipeline_metadata SET failure_count = 3, next_attempt_at = 'infinity'",
        "UPDATE pipeline_tables SET state = 'ERROR', rows_applied = 7",
    )
    assert [(3, True)] == migrated.rows("SELECT failure_count, next_attempt_at = 'infinity' FROM pipeline_metadata")


@pytest.mark.parametrize("status", ["PAUSE", "START", "REFRESH"])
def test_the_statement_of_an_operator_sets_the_status(migrated: Database, status: str) -> None:
    migrated.run(PIPELINE.format(name="untouched"), f"UPDATE pipelines SET status='{status}' WHERE name='shop'")
    assert [("shop", status), ("untouched", "PAUSE")] == migrated.rows("SELECT name, status FROM pipelines ORDER BY name")


def test_the_queries_of_an_operator_show_every_pipeline_from_the_start(migrated: Database) -> None:
    assert [("shop", "HEALTHY", None, None)] == migrated.rows(
        "SELECT p.name, pm.health_status, pm.wal_size, pm.last_success_time FROM pipelines p "
        "JOIN pipeline_metadata pm ON p.id = pm.pipeline_id"
    )
    assert 1 == len(migrated.rows("SELECT * FROM pipeline_metadata"))


def test_missing_rights_in_the_database_are_reported_in_one_sentence(config_database: Database) -> None:
    place = config_database.connection
    role = f"reader_of_{place.database}"
    config_database.run(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    reader = Database(url=place.model_copy(update={"username": role, "password": SecretStr("secret")}).conninfo())
    with store_of(reader) as store, pytest.raises(RosettaError, match=r"^The configuration database .*permission denied"):
        store.migrate()
    config_database.run(f"DROP ROLE {role}")


def test_the_sample_data_runs_through_the_same_checks_as_everything_else(config_database: Database) -> None:
    with store_of(config_database) as store:
        store.migrate(seed=True)
        config = store.pipeline("shop")
    names: list[Any] = [str(table.id) for table in config.tables]
    assert ["public.customers", "public.order_items", "public.orders", "public.products"] == names
    assert "rosetta_shop" == config.slot_name


def test_a_lost_connection_while_migrating_leaves_nothing(config_database: Database) -> None:
    ending = Migration(name="002_b.sql", text="CREATE TABLE b (id int); SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg.OperationalError), psycopg.connect(config_database.url, autocommit=True) as connection:
        migrate(connection, [Migration(name="001_a.sql", text="CREATE TABLE a (id int)"), ending])
    assert set() == names_of_tables(config_database)
