"""Secrets and values are planted in a whole deployment, and looked for in all that it writes, shows and starts."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from psycopg import sql

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.settings import EMBEDDED_FILE
from tests.support.database import Database
from tests.support.deployment import Deployment

#: Passwords of roles, and one that is of nobody.
SOURCE, DESTINATION, WRONG = (f"planted-password-of-{name}" for name in ("source", "destination", "nobody"))

#: In a row that is replicated, and in one that the destination refuses.
REPLICATED, REFUSED = "planted-value-replicated", "planted-value-refused"

_RUNS = """
{ runsOrError(limit: 50) { ... on Runs { results {
  runId runConfigYaml tags { key value } stepStats { stepKey }
  eventConnection { events {
    ... on MessageEvent { message stepKey }
    ... on ExecutionStepFailureEvent { error { message stack causes { message stack } } failureMetadata { description } }
    ... on RunFailureEvent { error { message stack } }
    ... on EngineEvent { error { message stack } metadataEntries { label description ... on TextMetadataEntry { text } } }
    ... on MaterializationEvent { metadataEntries { label description ... on TextMetadataEntry { text } } }
    ... on LogMessageEvent { message }
  } }
} } } }
"""

_DEFINITIONS = """
{ repositoriesOrError { ... on RepositoryConnection { nodes {
  name
  allTopLevelResourceDetails { name description configuredValues { key value } configFields { name defaultValueAsJson } }
  sensors { name sensorState { ticks(limit: 20) { status error { message stack } } } }
  assetNodes { id description metadataEntries { label description ... on TextMetadataEntry { text } } }
} } } }
"""


def files_of(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def of_files(directory: Path) -> str:
    return "\n".join(path.read_bytes().decode(errors="replace") for path in files_of(directory))


def of_rows(database: Database) -> str:
    """Every row of every table. Dagster keeps its snapshots of code compressed."""
    tables = database.rows(
        "SELECT relname::text, array(SELECT attname::text FROM pg_attribute WHERE attrelid = class.oid AND attnum > 0"
        " AND atttypid = 'bytea'::regtype) FROM pg_class AS class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    found: list[str] = []
    with database.connect() as connection:
        for table, packed in tables:
            name = sql.Identifier(table)
            texts = connection.execute(sql.SQL("SELECT {0}::text FROM {0}").format(name))
            found += [text for (text,) in texts]
            for column in packed:
                values = connection.execute(sql.SQL("SELECT {} FROM {}").format(sql.Identifier(column), name))
                found += [_unpacked(value) for (value,) in values if value is not None]
    return "\n".join(found)


def _unpacked(value: bytes) -> str:
    try:
        return zlib.decompress(value).decode(errors="replace")
    except zlib.error:
        return value.decode(errors="replace")


def of_arguments() -> str:
    """What everybody on the machine can see of every process."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            found += process.cmdline()
        except psutil.Error:
            continue
    return "\n".join(found)


def is_private(path: Path) -> bool:
    """Whether nobody but the owner can read it, by its own mode or by that of a directory above."""
    return any(each.stat().st_mode & 0o077 == 0 for each in (path, *path.parents))


@pytest.fixture(scope="module")
def planted(deployment: Deployment) -> Iterator[Deployment]:
    """A pipeline that streams and one whose password is wrong; rows that are replicated, and one that is refused."""
    source, destination = deployment.database("vault_source"), deployment.database("vault_destination")
    source.run(
        f"CREATE ROLE vault_reader SUPERUSER LOGIN PASSWORD '{SOURCE}'",
        f"CREATE ROLE vault_writer SUPERUSER LOGIN PASSWORD '{DESTINATION}'",
        "CREATE TABLE vault_items (id int PRIMARY KEY, name text)",
        "CREATE TABLE vault_notes (id int PRIMARY KEY, name text)",
        f"INSERT INTO vault_items VALUES (1, '{REPLICATED}')",
    )
    destination.run(f"CREATE TABLE vault_notes (id int PRIMARY KEY, name text CHECK (name <> '{REFUSED}'))")
    deployment.add_pipeline("vault", source, destination, "vault_items", "vault_notes", status=Status.PAUSE)
    deployment.add_pipeline("robbed", source, destination, "vault_items", status=Status.PAUSE)
    with deployment.store.connected() as connection:
        connection.execute(
            "UPDATE sources SET pg_username = 'vault_reader', pg_password = %s WHERE name = 'vault_source'", [SOURCE]
        )
        connection.execute("UPDATE sources SET pg_password = %s WHERE name = 'robbed_source'", [WRONG])
        connection.execute(
            "UPDATE destinations SET config = config || jsonb_build_object('username', 'vault_writer', 'password', %s::text)"
            " WHERE name = 'vault_destination'",
            [DESTINATION],
        )
    for name in ("vault", "robbed"):
        deployment.store.set_status(name, Status.START)
    deployment.wait_until_streaming("vault", 120)
    source.run(f"UPDATE vault_items SET id = 2, name = '{REPLICATED} again'")
    source.run(f"INSERT INTO vault_notes VALUES (1, '{REFUSED}')")
    deployment.wait_until_equal(source, destination, "vault_items")
    deployment.environment.wait_for("The refusal", lambda: bool(deployment.state("vault").table_errors), 120)
    deployment.environment.wait_for("The failure", lambda: deployment.state("robbed").run_status == "FAILED", 120)
    yield deployment
    for name in ("vault", "robbed"):
        deployment.store.set_status(name, Status.PAUSE)
    deployment.wait_until_stopped("vault")


def test_no_planted_secret_and_no_value_is_found_anywhere(planted: Deployment) -> None:
    environment = planted.environment
    arguments = of_arguments()
    places = {
        "logs and files": of_files(environment.home),
        "Dagster's database": of_rows(Database(url=environment.postgres.url("dagster"))),
        "the configuration database": of_rows(Database(url=environment.postgres.url("config"))),
        "GraphQL, runs": str(planted.graphql._query(_RUNS, {})),
        "GraphQL, definitions": str(planted.graphql._query(_DEFINITIONS, {})),
        "arguments of processes": arguments,
    }
    secrets = (SOURCE, DESTINATION, WRONG, environment.secret_key, environment.postgres.password)
    found = [
        f"{text[:22]}… in {place}"
        for place, told in places.items()
        for text in (*secrets, REPLICATED, REFUSED)
        if text in told
    ]
    assert [] == found
    # That the places were searched at all: what is no secret is in each.
    for place, told in places.items():
        assert "rosetta" in told, place
    assert "vault" in places["GraphQL, runs"]
    assert "vault" in places["GraphQL, definitions"]
    assert "vault" in places["Dagster's database"]


def test_what_holds_a_secret_can_be_read_by_its_owner_only(planted: Deployment) -> None:
    environment = planted.environment
    secrets = [text.encode() for text in (SOURCE, DESTINATION, environment.secret_key, environment.postgres.password)]
    assert environment.postgres._home is not None
    holders = [
        path
        for directory in (environment.home, environment.postgres._home, EMBEDDED_FILE.parent)
        for path in files_of(directory)
        if any(secret in path.read_bytes() for secret in secrets)
    ]
    assert EMBEDDED_FILE in holders
    assert [] == [path for path in holders if not is_private(path)]
    # The environment of a process, which holds the key, belongs to its owner as well.
    assert environment._dagster is not None
    assert 0 == Path(f"/proc/{environment._dagster.pid}/environ").stat().st_mode & 0o077
    assert os.geteuid() == Path(f"/proc/{environment._dagster.pid}/environ").stat().st_uid
