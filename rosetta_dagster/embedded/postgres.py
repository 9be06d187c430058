"""A PostgreSQL server from a wheel, with logical replication, on a TCP port of the loopback. It ends with its owner."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from rosetta_dagster.embedded.binaries import (
    EmbeddedPostgresError,
    can_be_run_by_all,
    copy_for_all,
    directory_for_server,
    installed,
)
from rosetta_dagster.embedded.guard import identity
from rosetta_dagster.embedded.libpq_environment import drop_libpq_variables
from rosetta_dagster.embedded.process import GuardedProcess

USER: Final = "postgres"

NEWEST: Final = 18

#: Seconds that a server may take to start. After a crash it replays its log first.
START_TIMEOUT = 60.0

#: The first versions that let CREATE DATABASE choose how it copies, and a session how expensive a login is.
_HAS_STRATEGY, _HAS_ITERATIONS = 15_00_00, 16_00_00

#: The line of `postmaster.pid` that holds the server's status.
_STATUS_LINE = 8

#: What libpq reports while the server is starting. Any other failure to connect is final.
_STARTING = ("Connection refused", "starting up", "not yet accepting connections", "timeout expired", "recovery mode")

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # Clients connect over the loopback, with a password. A socket's path could exceed the system's limit.
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "120",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_min_messages": "warning",
    # The data is deleted with the server, so it need not survive a crash of the machine.
    "fsync": "off",
}


class EmbeddedPostgres:
    """One server with a database directory of its own. Owns both, from `start` until `stop`.

    PostgreSQL refuses to run as root. As root it therefore runs as the user `nobody`, from a copy of the programs where
    that user cannot reach the originals. `start` removes libpq's variables from the environment of this process.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        version: int = NEWEST,
        install: Path | None = None,
    ) -> None:
        """Run one of the wheel's versions, or the installation in a directory that holds `bin/postgres`."""
        self.port = port or free_port()
        self._install = install or installed(version)
        self._settings = {**_SETTINGS, **(settings or {})}
        self._password = secrets.token_urlsafe(24)
        self._owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._home: Path | None = None
        self._binaries: Path | None = None
        self._server: GuardedProcess | None = None

    def __enter__(self) -> Self:
        with ExitStack() as unless_started:
            unless_started.callback(self.stop)
            self.start()
            unless_started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"EmbeddedPostgres(port={self.port})"

    def start(self) -> None:
        """Start the server, over its old data after `kill` or `stop(keep_data=True)`."""
        drop_libpq_variables()
        is_new = self._home is None
        if is_new:
            self._make_home()
            self._initialize()
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [
            str(self.program("postgres")),
            "-D",
            str(self._data),
            "-p",
            str(self.port),
            *options,
        ]
        # SIGINT is PostgreSQL's fast shutdown: sessions are ended, data is written.
        self._server = GuardedProcess(
            command,
            log=self._directory / "log",
            stop_signal=signal.SIGINT,
            user=self._owner.pw_uid if self._owner else None,
            throwaway=self._directory,
        )
        self._wait_until_ready()
        if is_new:
            self._make_logins_cheap()

    def stop(self, *, keep_data: bool = False) -> None:
        """End the sessions and the server. Delete the data, unless `keep_data` is set for another start."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._home is not None and not keep_data:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def kill(self) -> None:
        """End the server as a crash would. The data stays."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def restart(self) -> None:
        self.stop(keep_data=True)
        self.start()

    def url(self, database: str = "postgres") -> str:
        """Return a connection URL, password included."""
        return f"postgresql://{USER}:{quote(self._password)}@127.0.0.1:{self.port}/{quote(database)}"

    @property
    def password(self) -> str:
        return self._password

    def program(self, name: str) -> Path:
        """Return one of the server's programs, which can be run while the server does."""
        assert self._binaries is not None, "start comes first"
        return self._binaries / name

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database and return its URL."""
        clause = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if connection.info.server_version >= _HAS_STRATEGY:
                # Copying the files takes a third of the CPU time of copying the pages through the log.
                clause += sql.SQL(" STRATEGY file_copy")
            connection.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), clause))
        return self.url(name)

    @property
    def _directory(self) -> Path:
        assert self._home is not None, "start comes first"
        return self._home

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _make_home(self) -> None:
        """Create the server's directory, with a copy of the programs in it where the server's user needs one."""
        must_copy = self._owner is not None and not can_be_run_by_all(self._install)
        self._home = home = directory_for_server(for_all=self._owner is not None, executable=must_copy)
        self._binaries = copy_for_all(self._install, home / "programs") if must_copy else self._install / "bin"
        (home / "password").write_text(self._password)
        (home / "password").chmod(0o600)
        if self._owner is not None:
            for path in (home, home / "password"):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _initialize(self) -> None:
        """Create the database directory."""
        self._run("initdb", "-D", str(self._data), "-U", USER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256",
                  "--no-sync", f"--pwfile={self._directory / 'password'}")  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.program(program), *arguments], cwd=self._home, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, **identity(str(self._owner.pw_uid) if self._owner else ""),
        )  # fmt: skip
        if done.returncode:
            raise EmbeddedPostgresError(f"{program} failed: {done.stderr.strip()[-2000:]}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while (refusal := self._refusal()) is not None:
            if self._server is None or not self._server.is_running:
                raise EmbeddedPostgresError(f"The embedded PostgreSQL did not start: {self._log_end()}")
            is_final = self._is_ready() and not any(text in refusal for text in _STARTING)
            if is_final or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"The embedded PostgreSQL runs, but a connection fails: {refusal}")
            time.sleep(0.05)

    def _make_logins_cheap(self) -> None:
        """Store the password with one iteration of its hash. The default of 4,096 protects passwords that can be guessed.

        Dagster connects dozens of times a second, and each login computes the hash twice.
        """
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if connection.info.server_version >= _HAS_ITERATIONS:
                connection.execute("SET scram_iterations = 1")
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(USER), self._password))

    def _is_ready(self) -> bool:
        """Return whether the server accepts connections, by its lock file. Another server may have taken its port."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= _STATUS_LINE and lines[_STATUS_LINE - 1].strip() == "ready"

    def _refusal(self) -> str | None:
        """Return why the server cannot be connected to; None when it can."""
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            return str(error).strip()
        return None

    def _log_end(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:].strip()


def is_port_taken(port: int) -> bool:
    """Return whether something listens on this TCP port of the loopback, or may not be bound to by this user."""
    with socket.socket() as probe:
        # As servers do: connections that have just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def free_port() -> int:
    """Return a TCP port of the loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
