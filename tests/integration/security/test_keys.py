"""The key of secrets: strong, the same as before, and replaceable while everything runs; no secret is written in clear."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, SecretUnreadable
from rosetta_dagster.cdc.store import rotation
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredSource, put_destination, put_source
from rosetta_dagster.cdc.store.keys import is_weak
from rosetta_dagster.cdc.store.rotation import rotate
from rosetta_dagster.cdc.store.sealed_rows import SealedRow
from rosetta_dagster.cdc.store.secrets import SecretBox
from rosetta_dagster.cli.main import app
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import SECRET_KEY, Database

NEW_KEY = "the successor of the key of tests"
PASSWORD = "open sesame in clear"


@pytest.fixture
def opened(config_database: Database, store: Store) -> Iterator[Callable[..., Store]]:
    stores: list[Store] = []

    def make(*keys: str) -> Store:
        stores.append(Store(SecretStr(config_database.url), *map(SecretStr, keys)))
        return stores[-1]

    yield make
    for each in stores:
        each.close()


def put(store: Store, *names: str) -> None:
    place = {"host": "h", "database": "d", "username": "u", "password": PASSWORD}
    for name in names:
        put_source(store, DeclaredSource(name=name, connection=PostgresConnection.model_validate(place)))
        put_destination(store, DeclaredDestination(name=name, type="POSTGRES", config=place))


def secrets_of(store: Store, name: str) -> set[str]:
    password = store.source(name).connection.password
    assert password is not None
    return {password.get_secret_value(), store.destination(name).config["password"]}


@pytest.mark.parametrize("key", ["a" * 16, "abcabcabcabcabcabc", "0123456789abcdef", "change-me" * 2, "a b a b a b a b a c"])
def test_a_key_that_can_be_guessed_is_refused(opened: Callable[..., Store], key: str) -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY is weak") as caught:
        put(opened(key), "shop")
    assert key not in str(caught.value)


@pytest.mark.parametrize("key", ["7f3a9c1e5b2d8f60", "4829105736182940", "correct horse battery"])
def test_a_random_key_is_strong_enough(key: str) -> None:
    assert not is_weak(key)


def test_another_key_is_refused_before_it_writes(opened: Callable[..., Store], config_database: Database) -> None:
    put(opened(SECRET_KEY), "shop")
    with pytest.raises(SecretUnreadable, match="SECRET_KEY is not the one") as caught:
        put(opened(NEW_KEY), "other")
    assert NEW_KEY not in str(caught.value)
    assert [("shop",)] * 2 == config_database.rows("SELECT name FROM sources UNION ALL SELECT name FROM destinations")


def test_a_key_is_replaced_while_processes_know_both(opened: Callable[..., Store], config_database: Database) -> None:
    put(opened(SECRET_KEY), "shop", "store")
    both = opened(NEW_KEY, SECRET_KEY)
    assert {PASSWORD} == secrets_of(both, "shop")
    done = rotate(both)
    assert (4, (), 1) == (done.count, done.unreadable, done.retired)
    assert {PASSWORD} == secrets_of(opened(NEW_KEY), "shop") | secrets_of(opened(NEW_KEY), "store")
    assert (0, 0) == ((again := rotate(opened(NEW_KEY))).count, again.retired)
    with pytest.raises(SecretUnreadable, match="SECRET_KEY is not the one"):
        opened(SECRET_KEY).source("shop")
    assert [(1,)] == config_database.rows("SELECT count(*) FROM secret_keys")


def test_a_rotation_that_breaks_off_is_continued(
    opened: Callable[..., Store], config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(opened(SECRET_KEY), "shop", "store")
    seal = rotation._sealed
    rows: list[SealedRow] = []

    def breaking_off(box: SecretBox, row: SealedRow) -> tuple[dict[str, str], list[str]]:
        rows.append(row)
        if len(rows) == 3:
            raise KeyboardInterrupt
        return seal(box, row)

    monkeypatch.setattr(rotation, "_sealed", breaking_off)
    with pytest.raises(KeyboardInterrupt):
        rotate(opened(NEW_KEY, SECRET_KEY))
    monkeypatch.undo()
    assert {PASSWORD} == secrets_of(opened(NEW_KEY, SECRET_KEY), "shop")
    assert {PASSWORD} == secrets_of(opened(NEW_KEY, SECRET_KEY), "store")
    assert 2 == rotate(opened(NEW_KEY, SECRET_KEY)).count
    assert {PASSWORD} == secrets_of(opened(NEW_KEY), "store")


def test_the_command_rotates_and_names_what_it_cannot_read(
    opened: Callable[..., Store], config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(opened(SECRET_KEY), "shop")
    config_database.run("UPDATE sources SET pg_host = 'evil.example.com'")
    for name, value in (
        ("CONFIG_DATABASE_URL", config_database.url),
        ("SECRET_KEY", NEW_KEY),
        ("SECRET_KEY_OLD", SECRET_KEY),
    ):
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["secrets", "rotate"])
    assert 1 == result.exit_code
    assert "1 secrets encrypted again, 0 keys retired" in result.output
    assert "Enter the password again: it was given for host h" in result.output
    config_database.run("UPDATE sources SET pg_host = 'h'")
    result = CliRunner().invoke(app, ["secrets", "rotate"])
    assert (0, True) == (result.exit_code, "1 secrets encrypted again, 1 keys retired" in result.output)


def test_no_secret_is_ever_written_in_clear(opened: Callable[..., Store]) -> None:
    """The heap and the WAL of the server, which keep what was inserted and replaced."""
    with EmbeddedPostgres() as server, Store(SecretStr(server.url("postgres")), SecretStr(SECRET_KEY)) as own:
        own.migrate()
        put(own, "shop")
        with own.connected() as connection:
            connection.execute("CHECKPOINT")
            ((directory,),) = connection.execute("SHOW data_directory").fetchall()
        found = subprocess.run(["grep", "-rlF", PASSWORD, str(Path(directory))], capture_output=True, text=True, check=False)
        assert "" == found.stdout
        known = subprocess.run(
            ["grep", "-rlF", "enc:v2:", str(Path(directory))], capture_output=True, text=True, check=False
        )
        assert known.stdout
