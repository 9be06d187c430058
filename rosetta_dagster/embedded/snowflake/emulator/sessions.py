"""The sessions of an account: opens one for each login, and finds them by token."""

from collections.abc import Mapping
from typing import Any

from rosetta_dagster.embedded.snowflake.emulator.account import Account
from rosetta_dagster.embedded.snowflake.emulator.authentication import LoginRefused
from rosetta_dagster.embedded.snowflake.emulator.errors import SnowflakeError
from rosetta_dagster.embedded.snowflake.emulator.session import Session
from rosetta_dagster.embedded.snowflake.emulator.session_statements import identifier

_KEY_PAIR = "SNOWFLAKE_JWT"
_TOKENS = frozenset({"PROGRAMMATIC_ACCESS_TOKEN", "OAUTH", "WORKLOAD_IDENTITY"})
_REFUSED = "08001"


class Sessions:
    """All sessions of an account. Owns them until `close`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._by_token: dict[str, Session] = {}
        self._by_master_token: dict[str, Session] = {}
        self._expired: set[str] = set()

    def log_in(self, data: Mapping[str, Any], defaults: Mapping[str, str]) -> Session:
        """Open a session. `defaults` come from the login's address: databaseName, schemaName, warehouse, roleName.

        Raises:
            SnowflakeError: 390144, 390100, 390189 or 390201.

        """
        user = self._verify(data)
        parameters = {name.upper(): _text(value) for name, value in (data.get("SESSION_PARAMETERS") or {}).items()}
        named = {name: identifier(value) for name, value in defaults.items() if value}
        role = self._role(named)
        connection = self._account.storage.connect(named.get("databaseName"), named.get("schemaName", "PUBLIC"))
        session = Session(self._account, connection, user=user, role=role, parameters=parameters)
        if named.get("warehouse") in self._account.warehouses:
            session.warehouse = named["warehouse"]
        if session.is_on("CLIENT_VALIDATE_DEFAULT_PARAMETERS"):
            _check_defaults(session, named)
        self._by_token[session.token] = self._by_master_token[session.master_token] = session
        return session

    def of_token(self, token: str) -> Session:
        """Return the session of a token.

        Raises:
            SnowflakeError: 390112 for an expired token, 390114 for an unknown one.

        """
        if token in self._expired:
            raise SnowflakeError(390112, "Your session has expired. Please login again.", _REFUSED)
        return _found(self._by_token, token)

    def renewed(self, master_token: str) -> Session:
        """Return the session of a master token, with a new token.

        Raises:
            SnowflakeError: 390114 for an unknown master token.

        """
        session = _found(self._by_master_token, master_token)
        self.expire(session)
        session.renew()
        self._by_token[session.token] = session
        return session

    def expire(self, session: Session) -> None:
        """Invalidate the session's token; its master token stays valid."""
        self._expired.add(session.token)
        self._by_token.pop(session.token, None)

    def end(self, session: Session) -> None:
        """Invalidate both tokens and roll back the open transaction."""
        self._by_token.pop(session.token, None)
        if self._by_master_token.pop(session.master_token, None):
            session.close()

    def abort_transactions(self) -> int:
        """Roll back every open transaction. Return their number."""
        open_ones = [session for session in self._by_master_token.values() if session.transaction.is_open]
        for session in open_ones:
            session.abandon()
        return len(open_ones)

    def close(self) -> None:
        """End all sessions and their statements."""
        for session in list(self._by_master_token.values()):
            session.cancel()
            self.end(session)

    def _verify(self, data: Mapping[str, Any]) -> str:
        if data.get("AUTHENTICATOR") in _TOKENS:
            return self._account.credentials.verify(data)
        if data.get("AUTHENTICATOR") != _KEY_PAIR:
            raise SnowflakeError(390100, "Incorrect username or password was specified.", _REFUSED)
        authentication = self._account.authentication
        try:
            return authentication.verify(data.get("LOGIN_NAME") or "", data.get("TOKEN") or "")
        except LoginRefused as reason:
            identifier_ = authentication.refuse(reason)
            raise SnowflakeError(390144, f"JWT token is invalid. [{identifier_}]", _REFUSED) from reason

    def _role(self, named: Mapping[str, str]) -> str:
        role = named.get("roleName", "PUBLIC")
        if role not in self._account.roles:
            raise SnowflakeError(
                390189,
                f"Role '{role}' specified in the connect string does not exist or not authorized. Contact your local "
                "system administrator, or attempt to login with another role, e.g. PUBLIC.",
                _REFUSED,
            )
        return role


def _found(sessions: Mapping[str, Session], token: str) -> Session:
    if token not in sessions:
        raise SnowflakeError(390114, "Authentication token has expired. The user must authenticate again.", _REFUSED)
    return sessions[token]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_defaults(session: Session, named: Mapping[str, str]) -> None:
    has = {
        "databaseName": session.connection.database_set,
        "schemaName": session.connection.schema_set,
        "warehouse": session.warehouse is not None,
    }
    for what, is_there in has.items():
        if what in named and not is_there:
            session.close()
            raise SnowflakeError(390201, "The requested object does not exist or not authorized.", _REFUSED)
