"""`rosetta export`, `plan` and `apply`: what is exported makes the same rows elsewhere, and no secret leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceSettings, TableOptions
from rosetta_dagster.cdc.config.surfaces import column_of
from tests.support.command_line import PASSWORD, Rosetta, assert_one_line
from tests.support.database import Database

#: Everything that an operator writes, but for ids, secrets and what Rosetta keeps.
ROWS = (
    "SELECT to_jsonb(sources) - '{id,created_at,updated_at,pg_password}'::text[] FROM sources ORDER BY name",
    "SELECT to_jsonb(destinations) - '{id,created_at,updated_at}'::text[] #- '{config,password}' FROM destinations",
    "SELECT to_jsonb(pipelines) - '{id,source_id,created_at,updated_at}'::text[] FROM pipelines ORDER BY name",
    """SELECT to_jsonb(t) - '{id,pipeline_id,created_at,updated_at}'::text[] FROM pipeline_tables AS t
       WHERE by_pattern IS NULL ORDER BY table_name""",
    "SELECT to_jsonb(t) - '{id,pipeline_id,created_at,updated_at}'::text[] FROM pipeline_patterns AS t",
)

#: Other values than the defaults, in every option that there is.
EVERY_OPTION = (
    """UPDATE sources SET pg_sslmode = 'require', pg_require_auth = 'scram-sha-256', publication_name = 'pub',
       replication_name = 'slot', pg_password = 'hunter2hunter2', pg_sslrootcert = '/roots.pem', pg_sslcert = '/own.pem',
       pg_sslkey = '/own.key', pg_channel_binding = 'require'""",
    """UPDATE destinations SET config = config
       || '{"schema": "archive", "sslmode": "require", "password": "hunter2hunter2"}'""",
    """UPDATE pipelines SET engine = 'PGOUTPUT', on_schema_change = 'STOP_TABLE', on_gap = 'STOP_TABLE',
       on_partition_drop = 'KEEP', types = 'TEXT', publication_name = 'own_pub', replication_name = 'own_slot',
       thresholds = '{"wal_warning_bytes": 7}', exclude_tables = '{shop.tmp_*}', max_tables = 7, on_slot_limit = 'PAUSE',
       mask_salt_env = 'ROSETTA_SECRET_OTHER_SALT'""",
    """INSERT INTO pipeline_patterns (pipeline_id, table_schema, table_name, target_schema, target_name, options)
       SELECT id, 'shop', '*', 'there', 'of_{table}', '{"where": "id > 7", "exclude": ["secret"]}' FROM pipelines""",
    """INSERT INTO pipeline_tables (pipeline_id, table_schema, table_name, by_pattern)
       SELECT id, 'shop', 'found', 'written by a run' FROM pipelines""",
    """UPDATE pipeline_tables SET comments = false, target_schema = 'there', target_name = 'bought',
       columns = '{id,"Odd, name"}', row_filter = 'id > 7', copy_where = 'id > 8', mask = '{"id": "hash"}'""",
    """INSERT INTO pipeline_tables (pipeline_id, table_schema, table_name, exclude, initial)
       SELECT id, 'odd.place', 'Or ders', '{secret}', 'NONE' FROM pipelines""",
)


@pytest.fixture
def document(rosetta: Rosetta, shop: Database, config_database: Database, tmp_path: Path) -> Path:
    """Every option, exported."""
    config_database.run(*EVERY_OPTION)
    result = rosetta("export")
    assert (0, "") == (result.code, result.err)
    assert PASSWORD not in result.out
    (tmp_path / "rosetta.yaml").write_text(result.out)
    return tmp_path / "rosetta.yaml"


def rows_of(database: Database) -> list[Any]:
    return [database.rows(query) for query in ROWS]


def changed(document: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = yaml.safe_load(document.read_text())
    change(content)
    document.write_text(yaml.safe_dump(content))


def test_every_option_is_exported_with_another_value_than_its_default(document: Path, config_database: Database) -> None:
    """A further option has to join `EVERY_OPTION`."""
    for table, model in (("sources", SourceSettings), ("pipelines", PipelineOptions), ("pipeline_tables", TableOptions)):
        rows = [row for (row,) in config_database.rows(f"SELECT to_jsonb({table}) FROM {table}")]
        for name, field in model.model_fields.items():
            if name not in ("host", "port", "database", "username"):
                default = list(field.default) if isinstance(field.default, tuple) else field.default
                assert any(row[column_of(name, field)] != default for row in rows), name


def test_what_is_exported_makes_the_same_rows_in_an_empty_database(
    rosetta: Rosetta, document: Path, config_database: Database, new_database: Callable[[str], Database],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    elsewhere = new_database("config")
    monkeypatch.setenv("CONFIG_DATABASE_URL", elsewhere.url)
    assert_one_line(rosetta("apply", str(document)), "ROSETTA_SECRET_SOURCE_SHOP_PASSWORD is not set")
    monkeypatch.setenv("ROSETTA_SECRET_SOURCE_SHOP_PASSWORD", PASSWORD)
    monkeypatch.setenv("ROSETTA_SECRET_DESTINATION_DW_PASSWORD", PASSWORD)
    assert "add pipeline shop" in rosetta("plan", str(document)).out
    assert [[], [], [], [], []] == rows_of(elsewhere), "a plan changes nothing"
    applied = rosetta("apply", str(document))
    assert (0, "") == (applied.code, applied.err)
    assert ["add source shop", "add destination dw", "add pipeline shop"] == [
        line for line in applied.out.splitlines() if line.startswith("add")
    ]
    assert rows_of(config_database) == rows_of(elsewhere)
    assert document.read_text() == rosetta("export").out
    assert "Nothing was changed" in rosetta("apply", str(document)).out


def test_a_secret_stays_unless_its_variable_is_set_or_the_row_leads_elsewhere(
    rosetta: Rosetta, document: Path, config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nothing to change" in rosetta("plan", str(document)).out
    monkeypatch.setenv("ROSETTA_SECRET_SOURCE_SHOP_PASSWORD", "another, just as long")
    planned = rosetta("plan", str(document))
    assert "change source shop\n    password: another one\n" == planned.out
    monkeypatch.delenv("ROSETTA_SECRET_SOURCE_SHOP_PASSWORD")
    changed(document, lambda content: content["sources"]["shop"].update(host="elsewhere.example.com"))
    assert_one_line(rosetta("apply", str(document)), "ROSETTA_SECRET_SOURCE_SHOP_PASSWORD is not set")
    assert [("127.0.0.1",)] == config_database.rows("SELECT pg_host FROM sources")


def test_what_the_file_does_not_name_stays_and_so_does_the_status(
    rosetta: Rosetta, document: Path, config_database: Database
) -> None:
    config_database.run("UPDATE pipelines SET status = 'START'")
    before = rows_of(config_database)
    changed(document, lambda content: [content["sources"].clear(), content["destinations"].clear()])
    assert "Nothing was changed" in rosetta("apply", str(document)).out
    assert before == rows_of(config_database)
    changed(document, lambda content: content["pipelines"]["shop"].pop("on_gap"))
    assert "change pipeline shop\n    on_gap: STOP_TABLE -> COPY\n" == rosetta("apply", str(document)).out
    assert [("START", "COPY")] == config_database.rows("SELECT status, on_gap FROM pipelines")


def test_a_pipeline_that_code_declares_is_changed_there_only(
    rosetta: Rosetta, document: Path, config_database: Database
) -> None:
    config_database.run("UPDATE pipelines SET managed_by = 'CODE', declared_in = 'prod'")
    before = rows_of(config_database)
    changed(document, lambda content: content["sources"]["shop"].update(sslmode="prefer"))
    changed(document, lambda content: content["pipelines"]["shop"].update(engine="DEBEZIUM", managed_by="CODE"))
    assert_one_line(rosetta("apply", str(document)), "Pipeline shop is declared in code, in the code location prod.")
    assert before == rows_of(config_database)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "The file holds no mapping"),
        ("a: [", "is not YAML in line 1"),
        ("pipeline: {}", "did you mean pipelines"),
        ("sources: {shop: {host: h, database: d, username: u, ssl_mode: x}}", "did you mean sslmode"),
        ("sources: {shop: {host: h, database: d, username: u, secrets: [password]}}", "no mapping of names to variables"),
        ("destinations: {dw: {type: POSTGRESS}}", "Did you mean POSTGRES?"),
        ("pipelines: {shop: {source: shop, destinations: [dw], engine: FOO}}", "engine: "),
        (
            "pipelines: {shop: {source: s, destinations: [d], tables: [{table: a}, {table: public.a}]}}",
            "names a table twice",
        ),
        ("sources: {shop: {host: h, database: d, username: u, secrets: {password: SECRET_KEY}}}", "one of Rosetta's"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(rosetta: Rosetta, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file.yaml").write_text(text)
    for command in ("plan", "apply"):
        assert_one_line(rosetta(command, str(tmp_path / "file.yaml")), message)
    assert_one_line(rosetta("apply", "missing.yaml"), "missing.yaml cannot be read")
