"""Where Rosetta finds its configuration database."""

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import ConfigurationError, MigrationRefused, StoreUnavailable
from rosetta_dagster.settings import EMBEDDED_FILE, Settings, open_store, read_settings
from tests.support.database import SECRET_KEY, Database

VARIABLES = (
    "CONFIG_DATABASE_URL", "SECRET_KEY", "WAL_MONITOR_INTERVAL_SECONDS", "POLL_INTERVAL_SECONDS", "DEBUG",
)  # fmt: skip
#: A process that cannot exist: the highest id that Linux gives is one less.
NOBODY = 2**22


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def leave_demo(**changes: Any) -> None:
    EMBEDDED_FILE.parent.mkdir()
    found = {"pid": os.getpid(), "config_database_url": "postgresql://demo", "secret_key": "key of the demo", **changes}
    EMBEDDED_FILE.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def test_with_nothing_set_the_defaults_hold() -> None:
    settings = read_settings()
    assert (None, None, 300, 10, False) == (
        settings.config_database_url,
        settings.secret_key,
        settings.wal_monitor_interval_seconds,
        settings.poll_interval_seconds,
        settings.debug,
    )


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("postgresql://h/d", SECRET_KEY, "60", "2", "true"), strict=True):
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.config_database_url == SecretStr("postgresql://h/d")
    assert settings.secret_key == SecretStr(SECRET_KEY)
    assert (60, 2, True) == (settings.wal_monitor_interval_seconds, settings.poll_interval_seconds, settings.debug)


def test_a_file_holds_settings_too_and_a_variable_is_stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"POLL_INTERVAL_SECONDS=3\nSECRET_KEY={SECRET_KEY}\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("POLL_INTERVAL_SECONDS", "4")
    settings = read_settings()
    assert 4 == settings.poll_interval_seconds
    assert settings.secret_key == SecretStr(SECRET_KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAL_MONITOR_INTERVAL_SECONDS", "9"),
        ("WAL_MONITOR_INTERVAL_SECONDS", "often"),
        ("POLL_INTERVAL_SECONDS", "0"),
        ("POLL_INTERVAL_SECONDS", "1.5"),
        ("DEBUG", "perhaps"),
    ],
)
def test_a_wrong_variable_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"{name}: .*Correct the variable") as caught:
        read_settings()
    assert SECRET_KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_representation_shows_the_url_or_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_DATABASE_URL", "postgresql://u:hunter2hunter2@h/d")
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    settings = read_settings()
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunter2" not in text
        assert SECRET_KEY not in text


def test_a_running_demo_is_found() -> None:
    leave_demo()
    settings = read_settings()
    assert settings.config_database_url == SecretStr("postgresql://demo")
    assert settings.secret_key == SecretStr("key of the demo")


def test_a_named_database_is_stronger_than_a_running_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_demo()
    monkeypatch.setenv("CONFIG_DATABASE_URL", "postgresql://named")
    settings = read_settings()
    assert settings.config_database_url == SecretStr("postgresql://named")
    assert settings.secret_key is None


@pytest.mark.parametrize("pid", [NOBODY, "no number", None])
def test_what_a_dead_demo_left_is_not_used(pid: object) -> None:
    leave_demo(pid=pid)
    assert read_settings().config_database_url is None


def test_a_file_that_is_half_written_is_not_used() -> None:
    leave_demo()
    EMBEDDED_FILE.write_text(EMBEDDED_FILE.read_text()[:-5])
    assert read_settings().config_database_url is None


def test_a_file_with_a_missing_field_is_not_used() -> None:
    leave_demo(secret_key=None)
    assert read_settings().config_database_url is None


def test_without_a_database_the_remedy_says_how_to_name_one() -> None:
    with pytest.raises(ConfigurationError, match=r"No configuration database is named.*Set CONFIG_DATABASE_URL"):
        open_store()


def test_an_empty_variable_names_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_DATABASE_URL", "")
    with pytest.raises(ConfigurationError, match="No configuration database is named"):
        open_store()


def test_the_store_that_is_opened_is_migrated_and_seeded_when_asked(config_database: Database) -> None:
    settings = Settings(config_database_url=SecretStr(config_database.url), secret_key=SecretStr(SECRET_KEY))
    with open_store(settings) as store:
        assert [] == store.states()
    with open_store(settings, seed=True) as store:
        assert ["shop"] == [state.name for state in store.states()]


def test_the_store_is_of_the_database_in_the_environment(monkeypatch: pytest.MonkeyPatch, config_database: Database) -> None:
    monkeypatch.setenv("CONFIG_DATABASE_URL", config_database.url.replace("postgresql://", "postgres://"))
    with open_store() as store:
        assert [] == store.states()
    assert [(True,)] == config_database.rows("SELECT count(*) > 0 FROM rosetta_migrations")


def test_a_database_that_is_away_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_DATABASE_URL", "postgresql://u:hunter2hunter2@127.0.0.1:1/d")
    with pytest.raises(StoreUnavailable, match="The configuration database cannot be reached") as caught:
        open_store()
    assert "hunter2" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_store_that_cannot_be_migrated_leaves_no_connection(config_database: Database) -> None:
    settings = Settings(config_database_url=SecretStr(config_database.url))
    open_store(settings).close()
    config_database.run("UPDATE rosetta_migrations SET checksum = 'other'")
    with pytest.raises(MigrationRefused) as caught:
        open_store(settings)
    left = config_database.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rosetta'"
    )
    del caught
    gc.collect()
    assert [(0,)] == left
