"""Rosetta's settings, from environment variables or a file `.env`: its configuration database, keys and intervals."""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rosetta_dagster.cdc.config import variables
from rosetta_dagster.cdc.destination.snowflake.config import EMULATOR
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.database import Store

#: Where a running demo writes how it is reached. Only its user can read it; the demo deletes it at its end.
EMBEDDED_FILE: Final = Path(".rosetta") / "embedded.json"


def _http_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("http://", "https://")):
        raise ValueError("should be a URL that begins with http:// or https://")
    return url


class Settings(BaseSettings):
    """The environment of every process of Rosetta."""

    # An empty variable counts as unset.
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    #: The configuration database, as postgresql://user:password@host:5432/database.
    config_database_url: SecretStr | None = None
    #: The text from which the key is derived that encrypts the secrets of the configuration database.
    secret_key: SecretStr | None = None
    #: The SECRET_KEY that is being replaced, until `rosetta secrets rotate` has ended.
    secret_key_old: SecretStr | None = None
    #: Variables, separated by commas, that rows and runs may name as secrets beside those that begin with ROSETTA_SECRET_.
    rosetta_secret_variables: str = ""
    #: Seconds between two evaluations of the pipelines' WAL and health checks.
    wal_monitor_interval_seconds: int = Field(default=300, ge=10)
    #: Seconds between two evaluations of a pipeline's checks of columns and row counts.
    table_check_interval_seconds: int = Field(default=3600, ge=10)
    #: Seconds between two ticks of the control sensor.
    poll_interval_seconds: int = Field(default=10, ge=1)
    #: Seconds between two materializations of a table that changes. Each adds a row to Dagster's event log.
    materialize_interval_seconds: int = Field(default=60, ge=1)
    #: Seconds after which a table that has not changed is materialized again, as of now; None: never. For `on_cron` and
    #: freshness policies, which wait for an event of each table.
    confirm_interval_seconds: int | None = Field(default=None, ge=60)
    #: A YAML file that lists the receivers of alerts.
    rosetta_alerts: Path | None = None
    #: A webhook in Slack's format that every alert is posted to. A secret, since knowing the URL is enough to post.
    rosetta_alert_webhook: Annotated[SecretStr, AfterValidator(_http_url)] | None = None
    #: Show the stack trace of a failure at the command line.
    debug: bool = False


def read_settings() -> Settings:
    """Return the settings, those of the running demo if no configuration database is named.

    `ConfigurationError` when a variable is wrong.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"{str(p['loc'][0]).upper()}: {p['msg'].lower()}" for p in error.errors(include_input=False))
        raise ConfigurationError(f"The environment is not valid: {wrong}.", "Correct the variable.") from None
    if settings.rosetta_secret_variables:
        # It is read where a variable is named, and may stand in the file.
        os.environ.setdefault(variables.LIST, settings.rosetta_secret_variables)
    return settings if settings.config_database_url is not None else _with_embedded(settings)


def open_store(settings: Settings | None = None, *, seed: bool = False) -> Store:
    """Open the configuration database and migrate it. `ConfigurationError` when none is named."""
    store = configured_store(settings)
    with ExitStack() as unless_migrated:
        unless_migrated.callback(store.close)
        store.migrate(seed=seed)
        unless_migrated.pop_all()
    return store


def configured_store(settings: Settings | None = None) -> Store:
    """Open the configuration database as it is. `ConfigurationError` when none is named."""
    if settings is None or settings.config_database_url is None:
        # A database may have been named since the settings were read, by a file or a demo.
        settings = read_settings()
    if settings.config_database_url is None:
        raise ConfigurationError(
            "No configuration database is named.",
            "Set CONFIG_DATABASE_URL to postgresql://user:password@host:5432/database, or start the demo.",
        )
    return Store(settings.config_database_url, settings.secret_key, settings.secret_key_old)


def _with_embedded(settings: Settings) -> Settings:
    """Return the settings with the configuration database of a demo that runs in this directory."""
    demo = running_demo()
    if demo is not None:
        # Its Snowflake is an emulator on this machine.
        os.environ.setdefault(EMULATOR, "true")
    return settings.model_copy(update=demo or {})


def running_demo() -> dict[str, SecretStr] | None:
    """Return the database and the key of the demo that runs in this directory; None when there is none."""
    found = _announcement()
    return found and {name: SecretStr(found[name]) for name in ("config_database_url", "secret_key")}


def use_demo_of_dagster() -> None:
    """Let this process read the records of the demo's Dagster, if one runs in this directory and DAGSTER_HOME is not set."""
    found = _announcement()
    if found is not None and "DAGSTER_HOME" not in os.environ:
        os.environ.update(found.get("dagster_environment", {}))


def _announcement() -> dict[str, Any] | None:
    """Return what the demo of this directory wrote; None when there is none, or when it has ended."""
    try:
        found: dict[str, Any] = json.loads(EMBEDDED_FILE.read_text())
        os.kill(int(found["pid"]), 0)
        return found if {"config_database_url", "secret_key"} <= found.keys() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
