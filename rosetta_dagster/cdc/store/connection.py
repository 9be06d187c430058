"""Decides how to connect to the configuration database, and what its errors mean."""

import psycopg
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from rosetta_dagster.cdc.errors import ConfigurationError, StoreUnavailable
from rosetta_dagster.cdc.postgres.errors import Translation

TRANSLATION = Translation(who="the configuration database", unavailable=StoreUnavailable, rejected=ConfigurationError)


def conninfo(database_url: SecretStr) -> str:
    try:
        return make_conninfo(
            database_url.get_secret_value(), application_name="rosetta", connect_timeout=5, tcp_user_timeout=15_000
        )
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "CONFIG_DATABASE_URL is not a connection URL.", "Write it as postgresql://user:password@host:5432/database."
        ) from None
