"""Where Rosetta finds its configuration database, and how often it looks: environment variables, or a file `.env`."""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.database import Store

#: Where a running demo leaves what it takes to reach it; readable by its user only, removed when the demo ends.
EMBEDDED_FILE: Final = Path(".rosetta") / "embedded.json"


def _http_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("http://", "https://")):
        raise ValueError("should be a URL of HTTP")
    return url


class Settings(BaseSettings):
    """The environment of every process of Rosetta."""

    # An empty variable is one that is not set.
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    #: The configuration database, as postgresql://user:password@host:5432/database.
    config_database_url: SecretStr | None = None
    #: The text that the secrets of the configuration database are encrypted under.
    secret_key: SecretStr | None = None
    #: Seconds between two looks at the WAL and the health of all pipelines.
    wal_monitor_interval_seconds: int = Field(default=300, ge=10)
    #: Seconds between two looks at the columns and row counts of a pipeline's tables.
    table_check_interval_seconds: int = Field(default=3600, ge=10)
    #: Seconds between two looks at the status of all pipelines.
    poll_interval_seconds: int = Field(default=10, ge=1)
    #: Seconds between two materializations of a table that changes. Each is a row in Dagster's event log.
    materialize_interval_seconds: int = Field(default=60, ge=1)
    #: Where alerts are posted; none: nobody is told. Whoever knows the URL can post there, so it is a secret.
    rosetta_alert_webhook: Annotated[SecretStr, AfterValidator(_http_url)] | None = None
    #: Whether the command line shows where a failure comes from.
    debug: bool = False


def read_settings() -> Settings:
    """The settings; of the running demo when no configuration database is named. `ConfigurationError` when one is wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"{str(p['loc'][0]).upper()}: {p['msg'].lower()}" for p in error.errors(include_input=False))
        raise ConfigurationError(f"The environment is not valid: {wrong}.", "Correct the variable.") from None
    return settings if settings.config_database_url is not None else _with_embedded(settings)


def open_store(settings: Settings | None = None, *, seed: bool = False) -> Store:
    """The configuration database, migrated. `ConfigurationError` when none is named."""
    store = configured_store(settings)
    with ExitStack() as unless_migrated:
        unless_migrated.callback(store.close)
        store.migrate(seed=seed)
        unless_migrated.pop_all()
    return store


def configured_store(settings: Settings | None = None) -> Store:
    """The configuration database as it is. `ConfigurationError` when none is named."""
    settings = settings or read_settings()
    if settings.config_database_url is None:
        raise ConfigurationError(
            "No configuration database is named.",
            "Set CONFIG_DATABASE_URL to postgresql://user:password@host:5432/database, or start the demo.",
        )
    return Store(settings.config_database_url, settings.secret_key)


def _with_embedded(settings: Settings) -> Settings:
    """The settings of a demo that runs from this directory."""
    try:
        found = json.loads(EMBEDDED_FILE.read_text())
        os.kill(int(found["pid"]), 0)
        url, secret_key = SecretStr(found["config_database_url"]), SecretStr(found["secret_key"])
    except (OSError, ValueError, KeyError):
        return settings
    return settings.model_copy(update={"config_database_url": url, "secret_key": secret_key})
