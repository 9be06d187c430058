"""Decides by which kinds of authentication a server may ask who connects."""

import os
from typing import Final

from psycopg import pq

#: The kinds of authentication that `require_auth` names.
_KIND: Final = "password|md5|gss|sspi|scram-sha-256|none"

#: A list of them, as libpq reads it.
KINDS: Final = f"^!?({_KIND})(,!?({_KIND}))*$"

#: The version of libpq from which on it knows `require_auth`.
_REQUIRE_AUTH_VERSION: Final = 160_000


def default_require_auth(*, has_password: bool) -> str:
    """Return the kinds of authentication by which no server is sent a password in clear.

    With a password the server has to prove that it knows it, too. Without one nothing secret is sent; a password of
    `PGPASSWORD` or a password file is sent by SCRAM only.
    """
    return "scram-sha-256" if has_password else "scram-sha-256,gss,sspi,none"


def required_auth(require_auth: str | None, *, has_password: bool) -> str:
    """Return what `require_auth` is: given, else `PGREQUIREAUTH` for the whole deployment, else by the default."""
    return require_auth or os.environ.get("PGREQUIREAUTH") or default_require_auth(has_password=has_password)


def allows_clear(require_auth: str) -> bool:
    """Return whether the server may ask for the password itself. Kinds that begin with `!` are those that it may not."""
    kinds = require_auth.split(",")
    return "!password" not in kinds if require_auth.startswith("!") else "password" in kinds


def auth_parameter(require_auth: str | None, *, has_password: bool) -> dict[str, str]:
    """Return the parameter of a connection string; none for a libpq that does not know it."""
    if pq.version() < _REQUIRE_AUTH_VERSION:
        return {}
    return {"require_auth": required_auth(require_auth, has_password=has_password)}
