"""Decides how to connect to the configuration database, and what its errors mean."""

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from rosetta_dagster.cdc.config.authentication import auth_parameter
from rosetta_dagster.cdc.errors import ConfigurationError, StoreUnavailable
from rosetta_dagster.cdc.postgres.errors import Translation

TRANSLATION = Translation(who="the configuration database", unavailable=StoreUnavailable, rejected=ConfigurationError)

#: Seconds that a failover of the configuration database is waited for by each call that connects. A run goes on meanwhile;
#: people wait for a command as long.
PROMOTION_PATIENCE = 10.0


def conninfo(database_url: SecretStr) -> str:
    """Return the connection string. `ConfigurationError` when the URL is wrong; no part of it is in the message."""
    url = database_url.get_secret_value()
    if _has_unescaped_secret(url):
        raise ConfigurationError(
            "CONFIG_DATABASE_URL is not a connection URL: the user name or the password has a character that divides it.",
            "Write such a character as its code: @ as %40, / as %2F, : as %3A, ? as %3F, # as %23, % as %25.",
        )
    try:
        given = conninfo_to_dict(url)
    except (psycopg.ProgrammingError, ValueError):
        raise _unreadable() from None
    if not all(port.isdecimal() for port in str(given.get("port") or 0).split(",") if port):
        raise _unreadable()
    required = {} if "require_auth" in given else auth_parameter(None, has_password=bool(given.get("password")))
    return make_conninfo(url, application_name="rosetta", connect_timeout=5, tcp_user_timeout=15_000, **required)


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "CONFIG_DATABASE_URL is not a connection URL.",
        "Write it as postgresql://user:password@host:5432/database, special characters of the password as their codes.",
    )


def _has_unescaped_secret(url: str) -> bool:
    """Whether libpq would read a part of the password as the host, the port or the database, and show it in an error."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.startswith("postgres"):
        return False
    authority, _, path = rest.partition("/")
    return authority.count("@") > 1 or "@" in path.partition("?")[0]
