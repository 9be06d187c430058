"""The command `rosetta`: what each command does and prints, and that a failure is one line and exit code 1."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, SourceConfig
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import PipelineNotFound
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.migrate import read_migrations
from tests.support.command_line import PASSWORD, Result, Rosetta, assert_one_line
from tests.support.database import Database


def test_the_whole_program_is_found_under_its_name_and_as_a_module() -> None:
    for command in ([sys.executable, "-m", "rosetta_dagster"], [str(Path(sys.executable).with_name("rosetta"))]):
        done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=60)
        assert 0 == done.returncode, done.stderr
        for name in ("demo", "migrate", "pipelines", "start", "pause", "refresh", "resync", "check", "source"):
            assert name in done.stdout


def whole_program(url: str, directory: Path, *arguments: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "rosetta_dagster", *arguments],
        capture_output=True, text=True, check=False, timeout=60, cwd=directory,
        env={**os.environ, "CONFIG_DATABASE_URL": url},
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_failure_of_the_whole_program_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = whole_program(f"postgresql://u:{PASSWORD}@127.0.0.1:1/d", tmp_path, "pipelines")
    assert_one_line(result, "configuration database cannot be reached")


def test_rows_are_added_with_their_secrets_encrypted(shop: Database, store: Store, config_database: Database) -> None:
    config = store.pipeline("shop")
    assert config.source.connection == shop.connection
    assert shop.config["password"] == config.destinations[0].config["password"]
    assert ["public.orders"] == [str(table.id) for table in config.tables]
    assert [("PAUSE", "DEBEZIUM", "SQL")] == config_database.rows("SELECT status, engine, managed_by FROM pipelines")
    stored = config_database.rows("SELECT pg_password, config ->> 'password' FROM sources, destinations")
    assert all(text.startswith("enc:v2:") for text in stored[0])


def test_the_options_of_a_source_a_destination_and_a_pipeline_are_kept(rosetta: Rosetta, store: Store) -> None:
    where = ["--host", "h", "--database", "d", "--username", "u"]
    results = [
        rosetta("source", "add", "s", *where, "--sslmode", "require", "--publication", "p", "--slot", "my_slot"),
        rosetta("destination", "add", "one", *where, "--schema", "mirror"),
        rosetta("destination", "add", "two", *where),
        rosetta("pipeline", "add", "p", "--source", "s", "--destination", "one", "--destination", "two",
                "--table", "a.b", "--table", "Sales.Odd.name", "--engine", "PGOUTPUT"),
    ]  # fmt: skip
    assert [
        (0, "added source s; see its tables with: rosetta source tables s\n", results[0].err),
        (0, "added destination one\n", ""),
        (0, "added destination two\n", ""),
        (0, "added pipeline p; test it with: rosetta test p; start it with: rosetta start p\n", ""),
    ] == results
    assert results[0].err.endswith(" To change the source: rosetta source edit s\n"), "no server has the name h"
    config = store.pipeline("p")
    assert ("my_slot", "p", "PGOUTPUT", "require", 5432) == (
        config.slot_name, config.publication_name, config.engine, config.source.connection.sslmode,
        config.source.connection.port,
    )  # fmt: skip
    assert ["mirror", None] == [row.config.get("schema") for row in config.destinations]
    assert [("Sales", "Odd.name"), ("a", "b")] == [tuple(table.id) for table in config.tables]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["source", "add", "s", "--host", "h", "--database", "d", "--username", "u", "--port", "70000"], "port"),
        (["source", "add", "s", "--host", "", "--database", "d", "--username", "u"], "host"),
        (["source", "add", "s", "--host", "h", "--database", "d", "--username", "u", "--sslmode", "no"], "sslmode"),
        (["source", "add", "s", "--host", "h", "--database", "d", "--username", "u", "--slot", "A-B"], "--slot: "),
        (["destination", "add", "s", "--host", "h", "--database", "d", "--username", "u", "--port", "0"], "port"),
        (["destination", "add", "s", "--host", "h", "--database", "d", "--username", "u", "--schema", ""], "schema"),
        (["pipeline", "add", "p", "--source", "ghost", "--destination", "d", "--table", "t"], "no source ghost"),
        (["start", "ghost"], "There is no pipeline ghost"),
        (["pause", "ghost"], "There is no pipeline ghost"),
        (["refresh", "ghost"], "There is no pipeline ghost"),
        (["resync", "ghost"], "There is no pipeline ghost"),
        (["check", "ghost"], "There is no pipeline ghost"),
        (["check", "ghost", "--json"], "There is no pipeline ghost"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_1(rosetta: Rosetta, arguments: list[str], part: str) -> None:
    assert_one_line(rosetta(*arguments), part)


@pytest.mark.parametrize("kind", ["source", "destination", "pipeline"])
def test_a_name_that_is_taken_is_refused_and_the_row_kept(
    rosetta: Rosetta, shop: Database, config_database: Database, kind: str
) -> None:
    name = "dw" if kind == "destination" else "shop"
    options = ["--source", "shop", "--destination", "dw", "--table", "other"]
    where = ["--host", "h", "--database", "d", "--username", "u"]
    tables = ("sources", "destinations", "pipelines", "pipeline_tables")
    before = [config_database.rows(f"SELECT * FROM {table}") for table in tables]
    assert_one_line(rosetta(kind, "add", name, *(options if kind == "pipeline" else where)), f"a {kind} {name} already")
    assert before == [config_database.rows(f"SELECT * FROM {table}") for table in tables]


def test_a_name_that_the_database_refuses_is_explained_by_its_rule(rosetta: Rosetta, shop: Database) -> None:
    result = rosetta("pipeline", "add", "a b", "--source", "shop", "--destination", "dw", "--table", "t")
    assert_one_line(result, "pipeline_name_is_letters_digits_underscores")


def test_an_option_that_is_missing_is_a_wrong_use(rosetta: Rosetta) -> None:
    result = rosetta("pipeline", "add", "p")
    assert (2, "") == (result.code, result.out)
    assert "--source" in result.err


@pytest.mark.parametrize(("command", "status"), [("start", "START"), ("pause", "PAUSE"), ("refresh", "REFRESH")])
def test_a_command_sets_the_status(
    rosetta: Rosetta, shop: Database, config_database: Database, command: str, status: str
) -> None:
    config_database.run("UPDATE pipelines SET status = 'START'")
    assert (0, f"shop: {status}\n", "") == rosetta(command, "shop")
    assert [(status,)] == config_database.rows("SELECT status FROM pipelines")


def test_pipelines_are_listed_for_people(rosetta: Rosetta, shop: Database, config_database: Database) -> None:
    config_database.run(
        "UPDATE pipeline_metadata SET status = 'FAILED', reported_health = 'ERROR', wal_size = 3 * 1048576,"
        " lag_seconds = 1.25, rows_copied = 1234567, last_success_time = now() - interval '90 seconds',"
        " last_error = 'Something is wrong.'"
    )
    result = rosetta("pipelines")
    assert (0, "") == (result.code, result.err)
    shown = ("shop", "PAUSE", "FAILED", "ERROR", "3 MiB", "1,234,567", "Something is wrong.")
    for part in shown:
        assert part in result.out
    assert "1.25 s" not in result.out, "the lag of a run that has ended is old"
    assert re.search(r"\b9\d s ago", result.out)


def test_pipelines_are_listed_for_scripts(rosetta: Rosetta, shop: Database, config_database: Database) -> None:
    config_database.run("UPDATE pipeline_metadata SET last_success_time = '2024-02-29 12:00+00'")
    result = rosetta("pipelines", "--json")
    assert (0, "") == (result.code, result.err)
    (listed,) = json.loads(result.out)
    expected: dict[str, Any] = {
        "name": "shop", "source": "shop", "destinations": ["dw"], "table_count": 1, "status": "PAUSE",
        "run_status": "STOPPED", "health": "HEALTHY", "wal_size": None,
        "last_success_time": "2024-02-29T12:00:00+00:00",
    }  # fmt: skip
    assert expected == {key: listed[key] for key in expected}


def test_without_pipelines_scripts_get_an_empty_list(rosetta: Rosetta) -> None:
    result = rosetta("pipelines", "--json")
    assert (0, []) == (result.code, json.loads(result.out))


@pytest.mark.parametrize("error", ["Table public.odd[name] is away.", "Table public.odd[/name] is away."])
def test_an_error_with_brackets_is_listed_as_it_is(
    rosetta: Rosetta, shop: Database, config_database: Database, error: str
) -> None:
    config_database.run(f"UPDATE pipeline_metadata SET last_error = '{error}'")
    assert error in rosetta("pipelines").out


def test_a_source_that_is_ready_is_reported_and_nothing_is_changed(rosetta: Rosetta, shop: Database) -> None:
    assert (0, "shop is ready.\n", "") == rosetta("check", "shop")
    result = rosetta("check", "shop", "--json")
    assert (0, []) == (result.code, json.loads(result.out))
    assert [(0,)] == shop.rows("SELECT count(*) FROM pg_publication")
    assert [(0,)] == shop.rows("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")


def test_a_source_that_is_not_ready_is_explained_by_line_and_exits_with_1(
    rosetta: Rosetta, shop: Database, config_database: Database
) -> None:
    shop.run("CREATE TABLE keyless (a integer)")
    config_database.run(
        "INSERT INTO pipeline_tables (pipeline_id, table_name) SELECT id, unnest(ARRAY['ghost', 'keyless']) FROM pipelines"
    )
    people, script = rosetta("check", "shop"), rosetta("check", "shop", "--json")
    assert (1, "", 1, "") == (people.code, people.err, script.code, script.err)
    first, second = people.out.splitlines()
    assert first.startswith("ERROR: Table public.ghost does not exist at the source. ")
    assert second.startswith("WARNING: Table public.keyless has no replica identity")
    assert [("tables", "ERROR"), ("replica_identity", "WARNING")] == [
        (finding["check"], finding["severity"]) for finding in json.loads(script.out)
    ]


def test_warnings_alone_are_no_failure(rosetta: Rosetta, shop: Database) -> None:
    shop.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    result = rosetta("check", "shop")
    assert 0 == result.code
    assert result.out.startswith("WARNING: ")


def test_with_debug_a_failure_is_raised_with_its_trace(rosetta: Rosetta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUG", "true")
    with pytest.raises(PipelineNotFound):
        rosetta("pause", "ghost")


def test_a_source_that_is_away_is_one_line(rosetta: Rosetta, shop: Database, config_database: Database) -> None:
    config_database.run("UPDATE sources SET pg_port = 1, pg_password = 'again'")
    assert_one_line(rosetta("check", "shop"), "cannot be reached")


def test_a_resync_forgets_the_slot_and_says_what_comes_next(
    rosetta: Rosetta, shop: Database, store: Store, config_database: Database
) -> None:
    slot = shop.connection.database
    config_database.run(f"UPDATE pipelines SET replication_name = '{slot}'")
    shop.run(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    with store.lease(store.state("shop").id):
        assert_one_line(
            rosetta("resync", "shop"), "Pipeline shop is running", "rosetta pause shop", "rosetta table resync shop"
        )
    count = f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    assert [(1,)] == shop.rows(count)
    assert (0, "1 tables of shop are copied again when it starts: rosetta start shop\n", "") == rosetta("resync", "shop")
    assert [(0,)] == shop.rows(count)


def test_migrate_reports_what_it_applied_to_an_empty_database(rosetta: Rosetta) -> None:
    names = [migration.name for migration in read_migrations() if not migration.is_seed]
    assert (0, "".join(f"applied {name}\n" for name in names), "") == rosetta("migrate")


def test_migrate_applies_what_is_missing_and_seeds_when_asked(rosetta: Rosetta, config_database: Database) -> None:
    assert 0 == rosetta("migrate").code
    assert [(0,)] == config_database.rows("SELECT count(*) FROM pipelines")
    assert (0, "The configuration database is up to date.\n", "") == rosetta("migrate")
    assert (0, "applied 002_seed_data.sql\n", "") == rosetta("migrate", "--seed")
    assert [("shop",)] == config_database.rows("SELECT name FROM pipelines")
    assert (0, "The configuration database is up to date.\n", "") == rosetta("migrate", "--seed")


def test_a_changed_migration_is_one_line(rosetta: Rosetta, config_database: Database, tmp_path: Path) -> None:
    rosetta("migrate")
    config_database.run("UPDATE rosetta_migrations SET checksum = 'other' WHERE name LIKE '001%'")
    assert_one_line(whole_program(config_database.url, tmp_path, "migrate"), "001_create_table.sql was changed")


@pytest.mark.parametrize(("name", "value", "part"), [("SECRET_KEY", "short", "shorter"), ("DEBUG", "perhaps", "DEBUG")])
def test_a_wrong_environment_is_one_line(
    rosetta: Rosetta, monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    monkeypatch.setenv(name, value)
    assert_one_line(rosetta("source", "add", "s", "--host", "h", "--database", "d", "--username", "u"), part)


def test_without_a_configuration_database_the_line_says_how_to_name_one(
    rosetta: Rosetta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONFIG_DATABASE_URL")
    assert_one_line(rosetta("pipelines"), "Set CONFIG_DATABASE_URL")


class TestSnowflake:
    WHERE = ("--account", "myorg-dw", "--user", "rosetta", "--database", "ANALYTICS")

    @pytest.fixture(autouse=True)
    def passphrase(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("ROSETTA_PASSPHRASE", "a passphrase")
        return "a passphrase"

    def test_a_key_is_made_for_its_owner_alone_and_passes_the_check(self, rosetta: Rosetta) -> None:
        made = rosetta("keys", "generate", "the.p8", "--user", "loader")
        assert 0 == made.code
        assert made.out.startswith("wrote the.p8\nbits         2048\nfingerprint  SHA256:")
        assert 'ALTER USER "LOADER" SET RSA_PUBLIC_KEY=\'MII' in made.out
        assert 0o600 == Path("the.p8").stat().st_mode & 0o777
        assert made.out.split("\n", 1)[1] == rosetta("keys", "check", "the.p8", "--user", "loader").out
        assert "PRIVATE" not in made.out

    def test_a_file_is_never_overwritten(self, rosetta: Rosetta) -> None:
        Path("rsa_key.p8").write_text("mine")
        result = rosetta("keys", "generate")
        assert (1, "rosetta: rsa_key.p8 exists already. Name another file, or move it away.\n") == (result.code, result.err)
        assert "mine" == Path("rsa_key.p8").read_text()

    def test_a_key_that_will_not_do_is_one_line(self, rosetta: Rosetta, monkeypatch: pytest.MonkeyPatch) -> None:
        rosetta("keys", "generate")
        monkeypatch.setenv("ROSETTA_PASSPHRASE", "another one")
        result = rosetta("keys", "check")
        assert (1, 1) == (result.code, len(result.err.splitlines()))
        assert "the passphrase is wrong, or the file is damaged" in result.err
        assert "No such file" in rosetta("keys", "check", "nowhere.p8").err

    def test_a_destination_keeps_its_key_encrypted(
        self, rosetta: Rosetta, store: Store, config_database: Database, passphrase: str
    ) -> None:
        rosetta("keys", "generate")
        result = rosetta("destination", "add-snowflake", "dw", *self.WHERE, "--key", "rsa_key.p8", "--deletes", "soft")
        assert (0, "added destination dw\n", "") == result
        stored = str(config_database.rows("SELECT config FROM destinations"))
        assert passphrase not in stored
        assert "PRIVATE KEY" not in stored
        row = store.destination("dw")
        assert ("SNOWFLAKE", "soft", Path("rsa_key.p8").read_text()) == (
            row.type, row.config["deletes"], row.config["private_key"],
        )  # fmt: skip
        make_destination(row, _pipeline_of(row))

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ([], "exactly one of private_key"),
            (["--key", "nowhere.p8"], "No such file"),
            (["--key-path", "nowhere.p8"], "No such file"),
            (["--key-env", "THE_KEY", "--flush-seconds", "-1"], "flush_seconds"),
        ],
    )
    def test_a_destination_that_cannot_work_is_not_added(
        self, rosetta: Rosetta, store: Store, options: list[str], problem: str
    ) -> None:
        result = rosetta("destination", "add-snowflake", "dw", *self.WHERE, *options)
        assert 1 == result.code
        assert problem in result.err
        with pytest.raises(PipelineNotFound):
            store.destination("dw")


def _pipeline_of(row: DestinationConfig) -> PipelineConfig:
    source = {"name": "s", "connection": {"host": "h", "database": "d", "username": "u"}}
    return PipelineConfig(
        id=1, name="p", engine=Engine.PGOUTPUT, source=SourceConfig.model_validate(source), destinations=(row,), tables=()
    )
