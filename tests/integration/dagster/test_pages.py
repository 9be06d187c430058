"""What the pages show is executed: Python, YAML, SQL by its title, and the commands of the guides."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import psycopg
import pytest
import yaml
from typer.testing import CliRunner

from docs import generate
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cli.main import app
from rosetta_dagster.orchestration import PostgresDestination, RosettaPipelineComponent, SnowflakeDestination
from rosetta_dagster.settings import Settings
from tests.support.database import Database

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Where a block of SQL is executed. Snowflake's need an account.
_CONFIGURATION, _SOURCE, _DESTINATION = "Configuration database", "Source", "Destination"
_TITLES = {_CONFIGURATION, _SOURCE, _DESTINATION, "Snowflake"}

#: Roles of managed servers, and the tables that the guides name.
_MANAGED_SERVER = """
CREATE ROLE rds_replication;
CREATE TABLE customers (id bigint PRIMARY KEY);
CREATE TABLE orders (id bigint PRIMARY KEY, item text, quantity integer);
CREATE TABLE events (at timestamptz);
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    title: str
    text: str


def blocks(language: str, title: str | None = None) -> list[Block]:
    pattern = re.compile(rf"^```{language}(?: title=\"(.*?)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = [
        Block(page.relative_to(ROOT).as_posix(), language, heading, text)
        for page in PAGES
        for heading, text in pattern.findall(page.read_text())
    ]
    return [block for block in found if title is None or block.title == title]


def pages_with(found: list[Block]) -> list[str]:
    return sorted({block.page for block in found})


def test_every_block_of_sql_says_where_it_is_run() -> None:
    assert [] == [block.page for block in blocks("sql") if block.title not in _TITLES]


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.page)
def test_python_is_definitions_that_load(
    block: Block, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "one")
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "two")
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block.text, block.page, "exec"), names)
    # One of them shows a resource alone.
    loaded = names.get("defs") or dg.Definitions()
    dg.Definitions.validate_loadable(loaded if isinstance(loaded, dg.Definitions) else loaded.load_fn())
    assert [] == store.shapes(), "loading only reads"


def test_every_block_of_yaml_can_be_read() -> None:
    assert all(isinstance(yaml.safe_load(block.text), dict) for block in blocks("yaml"))


def test_yaml_with_attributes_is_a_pipeline() -> None:
    (block,) = [each for each in blocks("yaml") if "attributes:" in each.text]
    _, _, attributes = block.text.partition("attributes:\n")
    pipeline = RosettaPipelineComponent.resolve_from_yaml(attributes).pipeline
    assert [PostgresDestination, SnowflakeDestination] == [type(destination) for destination in pipeline.destinations]


def counts_of(connection: "psycopg.Connection[Any]", statements: str) -> Iterator[tuple[str, int]]:
    """Run statements; the kind and the row count of each."""
    cursor = connection.execute(statements)
    yield cursor.statusmessage or "", cursor.rowcount
    while cursor.nextset():
        yield cursor.statusmessage or "", cursor.rowcount


@pytest.mark.parametrize("page", pages_with(blocks("sql", _CONFIGURATION)))
def test_sql_of_the_configuration_database_does_what_it_says(page: str, config_database: Database, store: Store) -> None:
    store.migrate(seed=True)
    with config_database.connect() as connection:
        for block in blocks("sql", _CONFIGURATION):
            if block.page == page:
                for kind, count in counts_of(connection, block.text):
                    assert kind.startswith("SELECT") or count, f"{kind} reaches no row: {block.text}"


@pytest.mark.parametrize("page", pages_with(blocks("sql", _SOURCE) + blocks("sql", _DESTINATION)))
def test_sql_of_sources_and_destinations_runs(page: str, source: Database) -> None:
    with source.connect() as connection, connection.transaction(force_rollback=True):
        if page != "docs/tutorial.md":
            connection.execute(_MANAGED_SERVER)
        for block in blocks("sql"):
            if block.page == page and block.title in (_SOURCE, _DESTINATION):
                statement = block.text.replace("DATABASE warehouse", f"DATABASE {source.connection.database}")
                connection.execute(statement)


def commands_of(page: str) -> list[list[str]]:
    return [
        shlex.split(line)
        for block in blocks("sh")
        if block.page == page
        for line in block.text.splitlines()
        if line.startswith("rosetta ")
    ]


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("page", ["docs/guides/define.md", "docs/guides/resync.md", "docs/guides/snowflake.md"])
def test_commands_of_the_guides_succeed(
    page: str,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    new_database: Callable[[str], Database],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROSETTA_PASSWORD", "a password")
    monkeypatch.setenv("ROSETTA_PASSPHRASE", "a passphrase")
    if "resync" in page:
        add_shop(store, new_database("source"), new_database("destination"))
    commands = commands_of(page)
    assert commands
    for command in commands:
        arguments, _, file = (" ".join(map(shlex.quote, command[1:]))).partition(" '>' ")
        result = CliRunner().invoke(app, shlex.split(arguments))
        assert 0 == result.exit_code, (command, result.output, result.exception)
        if file:
            (tmp_path / file).write_text(result.stdout)


def add_shop(store: Store, source: Database, destination: Database) -> None:
    """The pipeline of the sample data, with databases that exist."""
    store.migrate(seed=True)
    with store.connected() as connection:
        place = source.connection
        connection.execute(
            "UPDATE sources SET pg_host = %s, pg_port = %s, pg_database = %s, pg_password = %s",
            [place.host, place.port, place.database, destination.config["password"]],
        )
        connection.execute("UPDATE destinations SET config = %s", [psycopg.types.json.Jsonb(destination.config)])


def test_the_reference_of_sql_is_what_the_migrations_make(config_database: Database, store: Store) -> None:
    with config_database.connect() as connection:
        assert generate.sql_page(connection) == (ROOT / "docs" / "reference" / "sql.md").read_text(), "run: make docs"
