"""Decides who may log in without a key: by a programmatic access token, by OAuth, or by workload identity."""

import base64
import secrets
from collections.abc import Mapping
from typing import Any

from rosetta_dagster.embedded.snowflake.emulator.errors import SnowflakeError

_REFUSED = "08001"


class Credentials:
    """The tokens of an account, and the clients of its identity provider."""

    def __init__(self, tokens: Mapping[str, str], clients: Mapping[str, tuple[str, str]]) -> None:
        self._tokens = dict(tokens)
        self._clients = dict(clients)
        self._issued: dict[str, str] = {}

    def issue(self, authorization: str) -> str | None:
        """Return an access token for a client that names itself by HTTP Basic; None for a wrong one."""
        try:
            name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        except ValueError:
            return None
        expected = self._clients.get(name)
        if expected is None or not secrets.compare_digest(expected[0], secret):
            return None
        token = secrets.token_urlsafe(32)
        self._issued[token] = expected[1]
        return token

    def verify(self, data: Mapping[str, Any]) -> str:
        """Return the user of a login with a token.

        Raises:
            SnowflakeError: 394400 for a programmatic access token, 390303 for one of OAuth, 394510 for an identity.

        """
        method, token = str(data.get("AUTHENTICATOR")), str(data.get("TOKEN") or "")
        login_name = str(data.get("LOGIN_NAME") or "").upper()
        user = (self._issued if method == "OAUTH" else self._tokens).get(token)
        # A workload names no user: Snowflake finds it by the identity.
        if user is None or (login_name and user.upper() != login_name):
            raise _refusal(method)
        return user.upper()


def _refusal(method: str) -> SnowflakeError:
    if method == "PROGRAMMATIC_ACCESS_TOKEN":
        return SnowflakeError(394400, "Programmatic access token is invalid.", _REFUSED)
    if method == "OAUTH":
        return SnowflakeError(390303, "Invalid OAuth access token.", _REFUSED)
    return SnowflakeError(394510, "No user matches the workload identity.", _REFUSED)
