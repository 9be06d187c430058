"""PgBouncer itself before a database, where it is installed."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from rosetta_dagster.embedded.postgres import free_port
from tests.support.database import Database

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pgbouncer(database: Database, *, mode: str, ignored: str = "") -> Iterator[Database]:
    """The same database, reached through a PgBouncer of its own."""
    assert PROGRAM is not None, "the test is skipped without it"
    place, port = database.connection, free_port()
    assert place.password is not None
    password = place.password.get_secret_value()
    # Its user cannot reach below pytest's directory.
    home = Path(tempfile.mkdtemp(prefix="rosetta-pgbouncer-"))
    (home / "users").write_text(f'"{place.username}" "{password}"\n')
    (home / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={place.port} user={place.username} password={password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
        f"auth_file = {home}/users\npool_mode = {mode}\ndefault_pool_size = 5\nignore_startup_parameters = {ignored}\n"
    )
    is_root = os.geteuid() == 0
    if is_root:
        for path in (home, home / "users", home / "ini"):
            shutil.chown(path, "nobody")
    command = [PROGRAM, *(["-u", "nobody"] if is_root else []), str(home / "ini")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reached = replace(database, url=make_conninfo(database.url, port=port))
    try:
        _wait_until_open(reached)
        yield reached
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home)


def _wait_until_open(database: Database) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), database.connect():
            return
        time.sleep(0.1)
    raise AssertionError("PgBouncer did not open its port")
