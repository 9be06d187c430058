"""Starts, controls and stops the emulator's process. Imports none of the emulator's dependencies."""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rosetta_dagster.embedded.postgres import free_port
from rosetta_dagster.embedded.process import GuardedProcess
from rosetta_dagster.embedded.snowflake.fault import Fault
from rosetta_dagster.embedded.snowflake.key_pair import load_public_key
from rosetta_dagster.embedded.snowflake.setup import ROLES, AccountSetup

#: Seconds that the emulator may take to start.
START_TIMEOUT = 60.0

_HOST = "127.0.0.1"
_EMULATOR = "rosetta_dagster.embedded.snowflake.emulator"


class SnowflakeServerError(RuntimeError):
    """The emulator did not start, or refused a control request; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement that a client sent to the emulator."""

    text: str
    user: str
    query_tag: str
    #: Snowflake's error code, of six digits; empty when the statement succeeded.
    error_code: str
    #: Whether Snowflake would have run it on a warehouse.
    used_warehouse: bool


class SnowflakeServer:
    """A Snowflake account on a port of the loopback, over HTTP, for the unmodified connector.

    Owns the emulator's process and a temporary directory for its log. The account's data is in `directory`, which is
    created if missing and outlives the server. Without a directory, the data is in memory and ends with the process.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, Sequence[str]],
        account: str = "rosetta-emulator",
        databases: Sequence[str] = ("ANALYTICS",),
        warehouses: Sequence[str] = ("COMPUTE_WH",),
        roles: Sequence[str] = ROLES,
        directory: Path | None = None,
        port: int | None = None,
        detached_timeout: float = 300.0,
        tokens: Mapping[str, str] | None = None,
        oauth_clients: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """Define the account's contents. Nothing runs yet.

        `users` maps a name to its one or two public keys. A transaction that has been idle for `detached_timeout` seconds
        is ended by another one that waits for its locks. `tokens` map a token to its user, `oauth_clients` a client to its
        secret and user; `oauth_url` issues their tokens.
        """
        self.port = port or free_port()
        self.account = account
        self._users: dict[str, Sequence[str]] = {}
        self._databases, self._warehouses, self._roles = databases, warehouses, roles
        self._directory, self._detached_timeout = directory, detached_timeout
        self._control_token = secrets.token_urlsafe(24)
        self._tokens, self._oauth_clients = tokens or {}, oauth_clients or {}
        self._home: Path | None = None
        self._process: GuardedProcess | None = None
        for user, keys in users.items():
            self._register(user, keys)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"SnowflakeServer(port={self.port})"

    @property
    def address(self) -> dict[str, Any]:
        """The connector's arguments that locate the account."""
        return {"account": self.account, "host": _HOST, "port": self.port, "protocol": "http"}

    @property
    def oauth_url(self) -> str:
        """Where clients of OAuth get their tokens."""
        return f"http://{_HOST}:{self.port}/oauth/token"

    @property
    def pid(self) -> int | None:
        """The emulator's process; None when it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the emulator over its directory's contents, and wait until it answers.

        Raises:
            SnowflakeServerError: with the end of its log. Its process and files are gone then.

        """
        if find_spec("fakesnow") is None:
            raise SnowflakeServerError("The Snowflake emulator is not installed: pip install 'rosetta-dagster[embedded]'.")
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="rosetta-snowflake-"))
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
        setup = self._home / "setup.json"
        setup.touch(mode=0o600)
        setup.write_text(self._setup().to_json())
        command = [sys.executable, "-m", _EMULATOR, str(setup)]
        environment = {**os.environ, "TMPDIR": str(self._home)}
        self._process = GuardedProcess(command, log=self._home / "log", environment=environment, throwaway=self._home)
        with ExitStack() as unless_ready:
            unless_ready.callback(self.stop)
            self._wait_until_ready()
            unless_ready.pop_all()

    def stop(self) -> None:
        """End the emulator. Its directory stays."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def kill(self) -> None:
        """End the emulator as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def inject(self, *faults: Fault) -> None:
        """Queue these faults after those that are pending."""
        self._control("POST", "faults", [fault.to_json() for fault in faults])

    def clear_faults(self) -> None:
        """Discard the pending faults. A statement that stalls continues to."""
        self._control("DELETE", "faults")

    def pending_faults(self) -> list[Fault]:
        """Return the faults that have not affected all their requests yet."""
        return [Fault.from_json(content) for content in self._control("GET", "faults")]

    def abort_transactions(self) -> int:
        """Roll back every open transaction, as Snowflake does with abandoned ones. Return their number."""
        return int(self._control("POST", "abort"))

    def statements(self, matching: str = "") -> list[Statement]:
        """Return the latest statements that this regular expression matches, oldest first."""
        return [Statement(**content) for content in self._control("POST", "statements", matching)]

    def forget_statements(self) -> None:
        """Discard the recorded statements."""
        self._control("DELETE", "statements")

    def login_failure(self, message: str) -> str:
        """Return why a login was refused: the detail code for the identifier in brackets in the error's message."""
        return str(self._control("POST", "login-failure", message))

    def set_public_keys(self, user: str, *keys: str) -> None:
        """Replace a user's keys, as ALTER USER would; here also by none. Open sessions stay open."""
        self._register(user, keys)
        self._control("POST", "keys", {user: keys})

    def _register(self, user: str, keys: Sequence[str]) -> None:
        if len(keys) > 2:
            raise ValueError(f"{user} has {len(keys)} public keys; Snowflake keeps two.")
        for key in keys:
            load_public_key(key)
        self._users[user] = list(keys)

    def _setup(self) -> AccountSetup:
        return AccountSetup(
            account=self.account,
            users=self._users,
            tokens=dict(self._tokens),
            oauth_clients=dict(self._oauth_clients),
            databases=list(self._databases),
            warehouses=list(self._warehouses),
            roles=list(self._roles),
            port=self.port,
            directory=None if self._directory is None else str(self._directory.resolve()),
            detached_timeout=self._detached_timeout,
            control_token=self._control_token,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if self._process is None or not self._process.is_running or time.monotonic() > deadline:
                raise SnowflakeServerError(f"The Snowflake emulator did not start: {self._log_end()}")
            try:
                self._control("GET", "faults")
            except SnowflakeServerError:
                time.sleep(0.02)
            else:
                return

    def _log_end(self) -> str:
        assert self._home is not None, "start comes first"
        return (self._home / "log").read_text(errors="replace")[-2000:].strip()

    def _control(self, method: str, what: str, content: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://{_HOST}:{self.port}/_emulator/{what}",
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": f"Bearer {self._control_token}"},
            method=method,
        )
        try:
            with _DIRECT.open(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise SnowflakeServerError(f"{what}: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise SnowflakeServerError(f"The Snowflake emulator does not answer on port {self.port}.") from error


# Connections to the loopback bypass a proxy of the environment.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
