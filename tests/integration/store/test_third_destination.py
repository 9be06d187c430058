"""A kind of destination that one line registers appears in the rows, the command line, the jobs, YAML and Python."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from psycopg import errors

from rosetta_dagster.cdc.destination.registry import kind_of, register, unregister
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredDestination, put_destination
from rosetta_dagster.cdc.store.plan import declare, plan
from rosetta_dagster.cli.add import destination_commands
from rosetta_dagster.orchestration import Pipeline, PostgresSource, RosettaPipelineComponent
from rosetta_dagster.orchestration.administration import administration_jobs
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.component import DestinationEntry
from rosetta_dagster.orchestration.declarations import declarations
from rosetta_dagster.orchestration.resources import resource_class
from rosetta_dagster.settings import Settings
from rosetta_dagster.testing import MEMORY
from tests.support.database import Database

TOKEN = "a planted token"

YAML = """
name: shop
source: {name: db, host: 127.0.0.1, database: shop, username: rosetta, password_env: ROSETTA_SECRET_TOKEN}
destinations:
  - {name: mem, type: MEMORY, database: numbers, token_env: ROSETTA_SECRET_TOKEN, namespace: kept}
tables: [orders]
"""


@pytest.fixture(autouse=True)
def memory(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROSETTA_SECRET_TOKEN", TOKEN)
    register(MEMORY)
    yield
    unregister(MEMORY)


def test_the_rows_take_its_type_once_rosetta_has_started_and_encrypt_its_secret(
    store: Store, config_database: Database
) -> None:
    config = json.dumps({"database": "d", "token": TOKEN})
    insert = f"INSERT INTO destinations (name, type, config) VALUES ('mem', 'MEMORY', '{config}')"
    with pytest.raises(errors.CheckViolation, match=r"there is no such type.*\n.*POSTGRES, SNOWFLAKE"):
        config_database.run(insert)
    store.migrate()
    config_database.run(insert)
    assert TOKEN == store.destination("mem").config["token"]
    assert TOKEN not in str(config_database.rows("SELECT config FROM destinations"))
    with pytest.raises(errors.CheckViolation, match="MEMORY, POSTGRES, SNOWFLAKE"):
        config_database.run("UPDATE destinations SET type = 'MYSQL'")
    with pytest.raises(ConfigurationError, match="Did you mean MEMORY"):
        put_destination(store, DeclaredDestination(name="other", type="MEMRY", config={}))


def test_the_command_line_has_a_command_with_its_settings(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.migrate()
    monkeypatch.setenv("ROSETTA_TOKEN", TOKEN)
    with pytest.raises(SystemExit) as ended:
        destination_commands()(["add-memory", "mem", "--database", "numbers", "--schema", "kept"])
    assert 0 == ended.value.code
    assert "added destination mem\n" == capsys.readouterr().out
    row = store.destination("mem")
    assert ("MEMORY", {"database": "numbers", "schema": "kept", "token": TOKEN}) == (row.type, row.config)


def test_the_job_that_creates_destinations_takes_it(store: Store) -> None:
    store.migrate()
    (job,) = [job for job in administration_jobs({}) if job.name == "rosetta__create_destination"]
    config = {"name": "mem", "memory": {"database": "numbers", "token_env": "ROSETTA_SECRET_TOKEN"}}
    result = job.execute_in_process({"ops": {"create_destination": {"config": config}}})
    assert result.success
    assert {"database": "numbers", "token": TOKEN} == store.destination("mem").config


def test_a_component_and_python_declare_it_and_its_resource_is_built(store: Store, settings: Settings) -> None:
    store.migrate()
    component = RosettaPipelineComponent.resolve_from_yaml(YAML)
    declare(store, declarations([component.pipeline]))
    row = store.destination("mem")
    assert ("MEMORY", {"database": "numbers", "schema": "kept", "token": TOKEN}) == (row.type, row.config)
    made: Any = resource_class(kind_of("MEMORY", "mem"))
    resource = made(name="mem", database="numbers", token=dg.EnvVar("ROSETTA_SECRET_TOKEN"), namespace="kept")
    source = PostgresSource(
        name="db", host="127.0.0.1", database="shop", username="rosetta", password_env="ROSETTA_SECRET_TOKEN"
    )
    assert [] == plan(
        store, declarations([Pipeline(name="shop", source=source, destinations=[resource], tables=["orders"])])
    )
    built: Any = build(store.shapes(), settings).resources
    assert ("MemoryDestination", "numbers") == (type(built["destination_mem"]).__name__, built["destination_mem"].database)
    assert TOKEN not in repr(built["destination_mem"])


def test_the_schema_that_editors_use_offers_it() -> None:
    offered = DestinationEntry.__get_pydantic_json_schema__(None, None)["anyOf"]  # type: ignore[arg-type]
    assert ["PostgresDestination", "SnowflakeDestination", "MemoryDestination"] == [each["title"] for each in offered]


def test_a_process_that_does_not_know_it_still_loads_its_definitions(store: Store, settings: Settings) -> None:
    store.migrate()
    declare(store, declarations([RosettaPipelineComponent.resolve_from_yaml(YAML).pipeline]))
    unregister(MEMORY)
    assert "destination_mem" not in (build(store.shapes(), settings).resources or {})
    with pytest.raises(ConfigurationError, match="is of type MEMORY, which this version"):
        kind_of("MEMORY", "mem")
