"""Decides how the user of a destination logs in: what the connector is given, and what to do when Snowflake refuses it."""

import os
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from rosetta_dagster.cdc.destination.snowflake.config import LogInMethod, SnowflakeConnection
from rosetta_dagster.cdc.destination.snowflake.keys import KeyPair, key_of
from rosetta_dagster.cdc.errors import ConfigurationError

_REMEDIES = {
    LogInMethod.TOKEN: (
        "Set a token that is valid: ALTER USER … ADD PROGRAMMATIC ACCESS TOKEN shows it once. The user needs a network "
        "policy, and ROLE_RESTRICTION of the token has to allow the role."
    ),
    LogInMethod.OAUTH: (
        "Compare oauth_token_url, oauth_client_id and the secret with the identity provider, and the issuer, the audience "
        "and the user's attribute with the security integration of TYPE = EXTERNAL_OAUTH."
    ),
    LogInMethod.WORKLOAD_IDENTITY: (
        "Create the user with TYPE = SERVICE and WORKLOAD_IDENTITY = (TYPE = …) of the identity that this machine has."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIn:
    """What the connector is given to log in with."""

    arguments: dict[str, Any] = field(repr=False)
    #: What everybody may see of it.
    shown: str
    #: Of the key; empty for another method.
    fingerprint: str = ""
    #: What to do when Snowflake refuses it; empty for a key pair, whose codes have their own.
    remedy: str = ""


def log_in_of(connection: SnowflakeConnection) -> LogIn:
    """Return how to log in. Raise `KeyRefused` or `ConfigurationError` when a secret cannot be used."""
    method = connection.login
    if method is LogInMethod.KEY_PAIR:
        return with_key(key_of(connection))
    return LogIn(arguments=_ARGUMENTS[method](connection), shown=method.value.replace("_", " "), remedy=_REMEDIES[method])


def with_key(key: KeyPair) -> LogIn:
    arguments = {"authenticator": "SNOWFLAKE_JWT", "private_key": key.private}
    return LogIn(arguments=arguments, shown=f"key {key.fingerprint}", fingerprint=key.fingerprint)


def _token(connection: SnowflakeConnection) -> dict[str, Any]:
    return {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": _secret(connection.token, connection.token_env)}


def _oauth(connection: SnowflakeConnection) -> dict[str, Any]:
    scope = {} if connection.oauth_scope is None else {"oauth_scope": connection.oauth_scope}
    return {
        "authenticator": "OAUTH_CLIENT_CREDENTIALS",
        "oauth_token_request_url": connection.oauth_token_url,
        "oauth_client_id": connection.oauth_client_id,
        "oauth_client_secret": _secret(connection.oauth_client_secret, connection.oauth_client_secret_env),
        **scope,
    }


def _workload_identity(connection: SnowflakeConnection) -> dict[str, Any]:
    arguments = {"authenticator": "WORKLOAD_IDENTITY", "workload_identity_provider": connection.workload_identity_provider}
    if connection.workload_identity_provider == "OIDC":
        arguments["token"] = _secret(connection.token, connection.token_env)
    return arguments


def _secret(text: SecretStr | None, variable: str | None) -> str:
    if text is not None:
        # A file may end with a newline.
        return text.get_secret_value().strip()
    assert variable is not None, "the settings have one of the two"
    value = os.environ.get(variable)
    if not value:
        raise ConfigurationError(f"The environment variable {variable} is not set.", "Set it for every process of Rosetta.")
    return value.strip()


_ARGUMENTS = {
    LogInMethod.TOKEN: _token,
    LogInMethod.OAUTH: _oauth,
    LogInMethod.WORKLOAD_IDENTITY: _workload_identity,
}
