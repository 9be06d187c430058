"""A PostgreSQL server from a wheel: on a TCP port of the loopback, with logical replication, gone when its owner is gone."""

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
from rosetta_dagster.embedded.process import GuardedProcess

USER: Final = "postgres"

NEWEST: Final = 18

#: How long a server may take to start, in seconds. It replays its log first when it was killed.
START_TIMEOUT = 60.0

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # Access over the loopback with a password only; a socket's path may also be longer than the system allows.
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "120",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_min_messages": "warning",
    # The data is thrown away with the server, and the server survives a crash of anything but the machine.
    "fsync": "off",
}


class EmbeddedPostgres:
    """One server with a database directory of its own, which is removed when it stops for good.

    Owns the server's process. PostgreSQL refuses to run as root, so as root it runs as
    the user `nobody`, from a copy of the programs when that user cannot reach the originals.
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
        """Start the server; over the same data when it was stopped or killed with `keep_data`."""
        if self._home is None:
            self._make_home()
            self._run("initdb", "-D", str(self._data), "-U", USER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256",
                      "--no-sync", f"--pwfile={self._directory / 'password'}")  # fmt: skip
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [
            str(self._program("postgres")),
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

    def stop(self, *, keep_data: bool = False) -> None:
        """End the sessions and the server. The data goes too, unless the server is to be started again."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._home is not None and not keep_data:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def kill(self) -> None:
        """End the server as a crash would; the data stays."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def restart(self) -> None:
        self.stop(keep_data=True)
        self.start()

    def url(self, database: str = "postgres") -> str:
        """A connection URL, password included."""
        return f"postgresql://{USER}:{quote(self._password)}@127.0.0.1:{self.port}/{quote(database)}"

    @property
    def password(self) -> str:
        return self._password

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database and return its URL."""
        clause = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), clause))
        return self.url(name)

    @property
    def _directory(self) -> Path:
        assert self._home is not None, "start comes first"
        return self._home

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _program(self, name: str) -> Path:
        assert self._binaries is not None, "start comes first"
        return self._binaries / name

    def _make_home(self) -> None:
        """Make the server's directory, with a copy of the programs in it where the server's user needs one."""
        must_copy = self._owner is not None and not can_be_run_by_all(self._install)
        self._home = home = directory_for_server(for_all=self._owner is not None, executable=must_copy)
        self._binaries = copy_for_all(self._install, home / "programs") if must_copy else self._install / "bin"
        (home / "password").write_text(self._password)
        (home / "password").chmod(0o600)
        if self._owner is not None:
            for path in (home, home / "password"):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._program(program), *arguments], cwd=self._home, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, **identity(str(self._owner.pw_uid) if self._owner else ""),
        )  # fmt: skip
        if done.returncode:
            raise EmbeddedPostgresError(f"{program} failed: {done.stderr.strip()[-2000:]}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or self._server is None or not self._server.is_running:
                    raise EmbeddedPostgresError(f"The embedded PostgreSQL did not start: {self._log_end()}") from error
                time.sleep(0.05)
            else:
                return

    def _log_end(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:].strip()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
