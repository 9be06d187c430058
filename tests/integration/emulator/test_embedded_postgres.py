"""The embedded server: reachable while its owner lives, gone when the owner is gone, however that one ended."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest

from rosetta_dagster.embedded import binaries
from rosetta_dagster.embedded.binaries import EmbeddedPostgresError, copy_for_all, installed
from rosetta_dagster.embedded.guard import identity
from rosetta_dagster.embedded.postgres import NEWEST, USER, EmbeddedPostgres, free_port
from rosetta_dagster.embedded.process import GuardedProcess
from tests.support.waiting import eventually

#: Children inherit which signals are ignored; tests that a shell runs in the background have SIGINT ignored.
OWNER = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_DFL)
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres()
server.start()
print(server._server.pid, server.url(), server._home, flush=True)
sys.stdin.read()
"""

#: Starts another process, says who they are, and waits.
FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=open(sys.argv[1], "w"), flush=True)
child.wait()
"""


def is_alive(pid: int | None) -> bool:
    assert pid is not None
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def pid_of(server: EmbeddedPostgres) -> int:
    assert server._server is not None
    assert server._server.pid is not None
    return server._server.pid


def home_of(server: EmbeddedPostgres) -> Path:
    assert server._home is not None
    return server._home


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for temporary files that is this test's own, with a space in its path, and that every user can read."""
    with tempfile.TemporaryDirectory(prefix="with a space ") as name:
        Path(name).chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_is_gone_after_its_owner_was_killed(number: signal.Signals) -> None:
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=pipe, stdout=pipe, stderr=null, text=True) as owner:
        assert owner.stdout is not None
        pid, url, home = owner.stdout.readline().split()
        server = psutil.Process(int(pid))
        helpers = server.children(recursive=True)
        with psycopg.connect(url, autocommit=True) as connection:
            assert (1,) == connection.execute("SELECT 1").fetchone()
            owner.send_signal(number)
            # Also while a session is open.
            eventually(lambda: not is_alive(server.pid))
    eventually(lambda: not any(is_alive(helper.pid) for helper in helpers))
    eventually(lambda: not Path(home).exists())
    assert len(helpers) > 3
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5)


def test_it_works_in_a_path_with_a_space_and_leaves_nothing_there(roomy: Path) -> None:
    with EmbeddedPostgres() as server:
        home = home_of(server)
        assert home.is_relative_to(roomy)
        with psycopg.connect(server.url()) as connection:
            assert (1,) == connection.execute("SELECT 1").fetchone()
        assert 0o600 == stat.S_IMODE((home / "password").stat().st_mode)
        pid = pid_of(server)
    assert not home.exists()
    assert not is_alive(pid)
    assert [] == list(roomy.glob("rosetta-postgres-*"))


@pytest.fixture
def private_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The wheel's files as a strict umask leaves them, in a directory that only its owner can enter."""
    original, site = installed(NEWEST), tmp_path / "private home" / "site-packages"
    copy_for_all(original, site)
    for path in (site.parent, *site.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    private = site / original.parent.name / original.name
    monkeypatch.setattr("rosetta_dagster.embedded.postgres.installed", lambda _: private)
    before = os.umask(0o077)
    yield private
    os.umask(before)


def test_it_starts_from_a_wheel_in_a_private_home(private_install: Path) -> None:
    with EmbeddedPostgres() as server, psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
        assert row is not None
        assert Path(row[0]).is_relative_to(private_install if os.geteuid() else home_of(server))


def test_it_starts_where_the_temporary_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with EmbeddedPostgres() as server, psycopg.connect(server.url()) as connection:
        assert (1,) == connection.execute("SELECT 1").fetchone()
    assert [] == list((tmp_path / "tmp").iterdir())


def test_a_machine_without_a_fit_directory_gets_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_free_bytes", lambda _: 1000)
    with pytest.raises(EmbeddedPostgresError, match=r"less than 256 MiB free.*Set TMPDIR to"):
        EmbeddedPostgres().start()


def test_the_data_outlives_a_crash_and_a_restart_and_not_the_end() -> None:
    with EmbeddedPostgres() as server:
        url, home = server.create_database("shop"), home_of(server)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        pids = [pid_of(server)]
        server.kill()
        assert not is_alive(pids[0])
        server.start()
        with psycopg.connect(url, autocommit=True) as connection:
            assert (1,) == connection.execute("SELECT a FROM t").fetchone()
            connection.execute("INSERT INTO t VALUES (2)")
        pids.append(pid_of(server))
        server.restart()
        pids.append(pid_of(server))
        assert 3 == len(set(pids))
        with psycopg.connect(url) as connection:
            assert (3,) == connection.execute("SELECT sum(a) FROM t").fetchone()
        server.stop(keep_data=True)
        assert home.exists()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=5)
        server.start()
    assert not home.exists()


def test_a_server_that_was_stopped_can_be_stopped_and_started_again() -> None:
    server = EmbeddedPostgres()
    server.stop()
    server.start()
    server.create_database("shop")
    server.stop()
    server.stop()
    server.kill()
    server.start()
    with psycopg.connect(server.url()) as connection:
        assert (0,) == connection.execute("SELECT count(*) FROM pg_database WHERE datname = 'shop'").fetchone()
    server.stop()


def test_settings_are_added_to_the_servers_own(postgres_server: EmbeddedPostgres) -> None:
    def show(server: EmbeddedPostgres, name: str) -> object:
        with psycopg.connect(server.url()) as connection:
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        assert row is not None
        return row[0]

    assert "logical" == show(postgres_server, "wal_level")
    assert "UTC" == show(postgres_server, "TimeZone")
    with EmbeddedPostgres(port=(port := free_port()), settings={"wal_level": "replica", "work_mem": "3MB"}) as server:
        assert ["replica", "3MB", str(port)] == [show(server, name) for name in ("wal_level", "work_mem", "port")]
        assert "127.0.0.1" == show(server, "listen_addresses")
        assert port == server.port


def test_a_password_is_needed_and_not_shown(postgres_server: EmbeddedPostgres) -> None:
    assert f"EmbeddedPostgres(port={postgres_server.port})" == repr(postgres_server) == str(postgres_server)
    assert quote(postgres_server.password) in postgres_server.url()
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=postgres_server.port, user=USER, password=password)


def test_a_database_is_made_from_a_template_and_its_name_may_be_odd(postgres_server: EmbeddedPostgres) -> None:
    names = ["The first/one?", "second #2%"]
    with psycopg.connect(postgres_server.create_database(names[0]), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int)")
    with psycopg.connect(postgres_server.create_database(names[1], template=names[0])) as connection:
        assert (names[1], 0) == connection.execute("SELECT current_database()::text, count(*)::int FROM t").fetchone()
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        for name in names:
            connection.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(name)))


def test_a_server_that_cannot_start_says_why(postgres_server: EmbeddedPostgres) -> None:
    started = time.monotonic()
    server = EmbeddedPostgres(port=postgres_server.port)
    with pytest.raises(EmbeddedPostgresError, match="did not start") as caught:
        server.start()
    assert "could not bind" in str(caught.value)
    server.stop()
    assert time.monotonic() - started < 30


def test_a_server_that_cannot_start_leaves_nothing(roomy: Path) -> None:
    server = EmbeddedPostgres(settings={"no_such_setting": "1"})
    try:
        with pytest.raises(EmbeddedPostgresError), server:
            pass
        left = list(roomy.glob("rosetta-postgres-*"))
    finally:
        server.stop()
    assert [] == left


def test_a_free_port_is_free() -> None:
    port = free_port()
    assert 1024 < port < 65536
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=port, user=USER, connect_timeout=2)


def test_the_end_of_a_process_takes_along_what_it_started(tmp_path: Path) -> None:
    said = tmp_path / "child"
    process = GuardedProcess([sys.executable, "-c", FAMILY, str(said)], log=tmp_path / "log")
    eventually(lambda: said.exists() and said.read_text().endswith("\n"))
    child = int(said.read_text())
    assert process.is_running
    assert is_alive(process.pid)
    assert is_alive(child)
    process.stop()
    assert not is_alive(process.pid)
    eventually(lambda: not is_alive(child))


def test_what_a_process_says_is_in_its_log_and_its_environment_is_as_given(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import os, sys; sys.stderr.write(os.environ['GREETING'] + str('HOME' in os.environ))"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", "/")
        process = GuardedProcess(command, log=log, environment={"GREETING": "hello"})
    eventually(lambda: not process.is_running)
    process.stop()
    assert "helloFalse" == log.read_text()


def test_what_a_process_prints_is_in_its_log_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = GuardedProcess([sys.executable, "-c", "print('hello')"], log=log)
    eventually(lambda: not process.is_running)
    process.stop()
    assert "hello\n" == log.read_text()


def test_a_process_is_started_as_the_user_that_is_given() -> None:
    assert {} == identity("")
    assert {"user": 7, "group": 7, "extra_groups": []} == identity("7")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_command_that_did_not_start_is_not_mistaken_for_the_callers_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    process = GuardedProcess([str(tmp_path / "no such program")], log=tmp_path / "log")
    eventually(lambda: not process.is_running)
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    process.kill()
    assert [] == killed


def test_a_server_that_crashed_by_itself_can_be_killed_and_started_again() -> None:
    server = EmbeddedPostgres()
    server.start()
    try:
        process = server._server
        assert process is not None
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: not process.is_running)
        server.kill()
        server.start()
    finally:
        server.stop()
