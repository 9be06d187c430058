"""Faults of the emulated Snowflake that a test asks for, and its life as a process."""

import importlib.metadata
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rosetta_dagster.embedded.postgres import free_port
from rosetta_dagster.embedded.snowflake import Fault, FaultKind, KeyPair, SnowflakeServer, SnowflakeServerError
from tests.support.snowflake_account import (
    COPY_OPTIONS,
    OWNER,
    USER,
    SnowflakeAccount,
    error_of,
    is_alive,
    rows,
    write_parquet,
)
from tests.support.waiting import eventually


class TestFaults:
    @pytest.fixture
    def table(self, snowflake: SnowflakeAccount) -> SnowflakeAccount:
        snowflake.run("CREATE TABLE t (a INT)")
        return snowflake

    def test_an_expired_session_is_renewed_and_keeps_its_transaction(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            connection.cursor().execute("BEGIN")
            connection.cursor().execute("INSERT INTO t VALUES (1)")
            table.server.inject(Fault(kind=FaultKind.SESSION_EXPIRED))
            connection.cursor().execute("COMMIT")
            assert [] == table.server.pending_faults()
        assert [(1,)] == table.rows("SELECT count(*) FROM t")

    @pytest.mark.filterwarnings("ignore:`ReauthenticationRequest`")
    def test_a_session_that_is_gone_takes_its_transaction_along(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            connection.cursor().execute("BEGIN")
            connection.cursor().execute("INSERT INTO t VALUES (1)")
            table.server.inject(Fault(kind=FaultKind.SESSION_GONE, matching="^commit$"))
            for _ in range(2):
                assert 390114 == error_of(connection, "COMMIT").errno
        assert [(0,)] == table.rows("SELECT count(*) FROM t")

    @pytest.mark.parametrize(("kind", "number"), [(FaultKind.WAREHOUSE_SUSPENDED, 606), (FaultKind.LOCKED, 625)])
    def test_a_statement_that_is_refused_was_not_run(self, table: SnowflakeAccount, kind: FaultKind, number: int) -> None:
        with table.connect() as connection:
            table.server.inject(Fault(kind=kind, matching="insert into t", count=2))
            for _ in range(2):
                assert [(1,)] == rows(connection, "SELECT 1")
                error = error_of(connection, "INSERT INTO t VALUES (1)")
                assert (number, "57P03" if number == 606 else "57014") == (error.errno, error.sqlstate)
            connection.cursor().execute("INSERT INTO t VALUES (1)")
        assert [(1,)] == table.rows("SELECT count(*) FROM t")

    def test_a_suspended_warehouse_is_resumed(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            connection.cursor().execute("CREATE WAREHOUSE other")
            connection.cursor().execute("USE WAREHOUSE other")
            connection.cursor().execute("ALTER WAREHOUSE other SUSPEND")
            assert 606 == error_of(connection, "SELECT * FROM t").errno
            connection.cursor().execute("ALTER WAREHOUSE other RESUME IF SUSPENDED")
            assert [] == rows(connection, "SELECT * FROM t")

    def test_an_unavailable_service_is_asked_again(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            table.server.inject(Fault(kind=FaultKind.UNAVAILABLE, count=2))
            assert [(1,)] == rows(connection, "SELECT 1")
            assert [] == table.server.pending_faults()

    def test_an_answer_is_lost_and_the_commit_is_not(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            connection.cursor().execute("BEGIN")
            connection.cursor().execute("INSERT INTO t VALUES (1)")
            table.server.inject(Fault(kind=FaultKind.ANSWER_LOST, matching="^commit$"))
            error_of(connection, "COMMIT")
            assert [(1,)] == rows(connection, "SELECT count(*) FROM t")
        assert [(1,)] == table.rows("SELECT count(*) FROM t")

    def test_a_request_that_is_repeated_is_run_once(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            table.server.inject(Fault(kind=FaultKind.ANSWER_DELAYED, matching="^insert"))
            assert [(1,)] == rows(connection, "INSERT INTO t VALUES (1)")
            assert [] == table.server.pending_faults()
        assert [(1,)] == table.rows("SELECT count(*) FROM t")

    def test_a_statement_stalls_until_its_timeout(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            table.server.inject(Fault(kind=FaultKind.STALL, seconds=0.5))
            started = time.monotonic()
            assert [(1,)] == rows(connection, "SELECT 1")
            assert 0.5 < time.monotonic() - started < 20
            connection.cursor().execute("ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = 1")
            table.server.inject(Fault(kind=FaultKind.STALL, seconds=60))
            started = time.monotonic()
            assert 630 == error_of(connection, "INSERT INTO t VALUES (1)").errno
            assert time.monotonic() - started < 30
        assert [(0,)] == table.rows("SELECT count(*) FROM t")

    def test_a_statement_that_stalls_holds_up_no_other_session(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection, table.connect() as other:
            table.server.inject(Fault(kind=FaultKind.STALL, seconds=4, matching="select 'slow'"))
            slow = threading.Thread(target=rows, args=(connection, "SELECT 'slow'"))
            slow.start()
            eventually(lambda: not table.server.pending_faults())
            assert [(1,)] == rows(other, "SELECT 1")
            assert slow.is_alive()
            slow.join()

    def test_a_stall_ends_when_the_statement_is_cancelled(self, table: SnowflakeAccount) -> None:
        with table.connect(query_timeout=1) as connection:
            table.server.inject(Fault(kind=FaultKind.STALL, seconds=60))
            started = time.monotonic()
            error_of(connection, "INSERT INTO t VALUES (1)")
            assert time.monotonic() - started < 30

    def test_a_fault_has_sense(self) -> None:
        with pytest.raises(ValueError, match="once or more"):
            Fault(kind=FaultKind.LOCKED, count=0)

    def test_the_control_is_for_those_who_know_its_token(self, table: SnowflakeAccount) -> None:
        server = SnowflakeServer(users={}, port=table.server.port)
        with pytest.raises(SnowflakeServerError, match="token is missing or wrong"):
            server.clear_faults()


class TestLife:
    def test_fakesnow_is_the_version_that_the_emulator_repairs(self) -> None:
        assert "0.12.1" == importlib.metadata.version("fakesnow")

    def test_data_outlives_a_stop_and_a_crash_and_an_open_transaction_does_not(self, tmp_path: Path) -> None:
        pair, port = KeyPair.generate(), free_port()
        write_parquet(tmp_path / "f.parquet", {"A": [1, 2]})
        directory = tmp_path / "it's data"
        with SnowflakeServer(users={USER: [pair.public_key]}, directory=directory, port=port) as server:
            account = SnowflakeAccount(server=server, key_pair=pair)
            account.run(
                "CREATE SCHEMA kept", "CREATE TABLE kept.t (A NUMBER(38,0), v VARCHAR(3))", "CREATE STAGE kept.files",
                f"PUT 'file://{tmp_path}/f.parquet' @kept.files/x/ AUTO_COMPRESS=FALSE",
            )  # fmt: skip
            server.restart()
            account.run(f"COPY INTO kept.t FROM @kept.files/x/ {COPY_OPTIONS}", "CREATE DATABASE other")
            with account.connect() as connection:
                connection.cursor().execute("BEGIN")
                connection.cursor().execute("DELETE FROM kept.t")
                server.kill()
                server.start()
            assert [(2,)] == account.rows("SELECT count(*) FROM kept.t")
            loaded = account.rows(f"COPY INTO kept.t FROM @kept.files/x/ {COPY_OPTIONS}")
            assert "LOAD_SKIPPED" == loaded[0][1]
            lengths = "SELECT character_maximum_length FROM information_schema.columns WHERE column_name = 'V'"
            assert [(3,)] == account.rows(lengths)
            assert {"ANALYTICS", "OTHER"} == {row[1] for row in account.rows("SHOW DATABASES")}
            home = server._home
        assert home is not None
        assert not home.exists()
        assert directory.exists()

    def test_a_stop_is_quick_and_leaves_nothing_even_with_a_session_and_a_stall(self) -> None:
        pair = KeyPair.generate()
        server = SnowflakeServer(users={USER: [pair.public_key]})
        server.start()
        account, home, pid = SnowflakeAccount(server=server, key_pair=pair), server._home, server.pid
        assert home is not None
        assert pid is not None
        with account.connect() as connection:
            server.inject(Fault(kind=FaultKind.STALL, seconds=60))
            stalled = threading.Thread(target=error_of, args=(connection, "SELECT 1"))
            stalled.start()
            eventually(lambda: not server.pending_faults())
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 30
            assert not is_alive(pid)
            assert not home.exists()
            stalled.join(30)
        server.stop()
        with pytest.raises(SnowflakeServerError, match="does not answer"):
            server.clear_faults()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_the_emulator_is_gone_after_its_owner_was_killed(self, number: signal.Signals) -> None:
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen([sys.executable, "-c", OWNER], stdin=pipe, stdout=pipe, stderr=null, text=True) as owner:
            assert owner.stdout is not None
            pid, home = owner.stdout.readline().split()
            assert is_alive(int(pid))
            owner.send_signal(number)
            eventually(lambda: not is_alive(int(pid)))
        eventually(lambda: not Path(home).exists())

    def test_a_port_that_is_taken_is_said_and_nothing_is_left(self, snowflake_server: SnowflakeAccount) -> None:
        server = SnowflakeServer(users={}, port=snowflake_server.server.port)
        with pytest.raises(SnowflakeServerError, match="did not start"):
            server.start()
        assert server.pid is None
        assert server._home is None

    def test_it_shows_its_port_and_no_secret(self, snowflake_server: SnowflakeAccount) -> None:
        server = snowflake_server.server
        assert f"SnowflakeServer(port={server.port})" == repr(server)
        home = server._home
        assert home is not None
        assert 0o600 == (home / "setup.json").stat().st_mode & 0o777
