"""The emulated Snowflake account, through the unmodified connector."""

import threading
import time
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector as sf
from cryptography.hazmat.primitives.asymmetric import ec

from rosetta_dagster.embedded.snowflake import KeyPair, SnowflakeServer
from tests.support.snowflake_account import COPY_OPTIONS, USER, SnowflakeAccount, error_of, private_key, rows, write_parquet


class TestLogin:
    def test_a_key_pair_logs_in_and_the_session_is_what_was_asked_for(self, snowflake: SnowflakeAccount) -> None:
        with snowflake.connect(role="sysadmin", session_parameters={"QUERY_TAG": "rosetta"}) as connection:
            said = rows(connection, "SELECT current_user(), current_role(), current_warehouse(), current_account()")
            assert [(USER, "SYSADMIN", "COMPUTE_WH", "ROSETTA-EMULATOR")] == said
            assert (snowflake.database, "PUBLIC") == (connection.database, connection.schema)
            assert ("QUERY_TAG", "rosetta") == rows(connection, "SHOW PARAMETERS LIKE 'query_tag' IN SESSION")[0][:2]

    @pytest.mark.parametrize(
        ("arguments", "number", "reason"),
        [
            ({"user": "nobody"}, 390144, "JWT_TOKEN_INVALID_USER_IN_ISSUER"),
            ({"account": "somewhere-else"}, 390144, "JWT_TOKEN_ACCOUNT_MISMATCH"),
            ({"authenticator": "snowflake", "password": "secret", "private_key": None}, 390100, ""),
            ({"role": "nope"}, 390189, ""),
            ({"database": "nope", "validate_default_parameters": True}, 390201, ""),
            ({"warehouse": "nope", "validate_default_parameters": True}, 390201, ""),
        ],
    )
    def test_a_bad_login_is_refused_at_once(
        self, snowflake: SnowflakeAccount, arguments: dict[str, Any], number: int, reason: str
    ) -> None:
        started = time.monotonic()
        with pytest.raises(sf.DatabaseError) as caught, snowflake.connect(**arguments):
            pass
        assert number == caught.value.errno
        assert reason == snowflake.server.login_failure(str(caught.value))
        assert time.monotonic() - started < 20

    def test_a_key_that_is_not_registered_is_refused(self, snowflake: SnowflakeAccount) -> None:
        with pytest.raises(sf.DatabaseError) as caught, snowflake.connect(private_key=private_key(KeyPair.generate())):
            pass
        assert 390144 == caught.value.errno
        reason = snowflake.server.login_failure(str(caught.value))
        assert "JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH" == reason

    def test_a_key_of_another_kind_is_refused(self, snowflake: SnowflakeAccount) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(sf.Error), snowflake.connect(private_key=key):
            pass

    def test_keys_are_rotated_by_a_second_one_while_sessions_go_on(self, snowflake: SnowflakeAccount) -> None:
        first, second = snowflake.key_pair, KeyPair.generate()
        with snowflake.connect() as old:
            try:
                snowflake.server.set_public_keys(USER, first.public_key, second.public_key)
                for pair in (first, second):
                    with snowflake.connect(private_key=private_key(pair)) as connection:
                        assert [(1,)] == rows(connection, "SELECT 1")
                shown = {name: value for name, value, *_ in rows(old, f"DESC USER {USER}")}
                assert shown["RSA_PUBLIC_KEY_FP"].startswith("SHA256:")
                assert shown["RSA_PUBLIC_KEY_2_FP"].startswith("SHA256:")
                snowflake.server.set_public_keys(USER, second.public_key)
                with pytest.raises(sf.DatabaseError, match="390144"), snowflake.connect():
                    pass
                assert [(2,)] == rows(old, "SELECT 2")
            finally:
                snowflake.server.set_public_keys(USER, first.public_key)

    def test_three_keys_or_a_weak_one_are_no_setup(self) -> None:
        key = KeyPair.generate().public_key
        with pytest.raises(ValueError, match="keeps two"):
            SnowflakeServer(users={USER: [key, key, key]})
        with pytest.raises(ValueError, match=r"ould not|nvalid|padding"):
            SnowflakeServer(users={USER: ["abc"]})

    def test_without_a_warehouse_no_rows_are_read(self, snowflake: SnowflakeAccount) -> None:
        snowflake.run("CREATE TABLE t (a INT)")
        with snowflake.connect(warehouse="nope") as connection:
            assert 606 == error_of(connection, "SELECT * FROM t").errno
            assert [(1,)] == rows(connection, "SELECT 1")
            connection.cursor().execute("USE WAREHOUSE compute_wh")
            assert [] == rows(connection, "SELECT * FROM t")

    @pytest.mark.parametrize(("arguments", "number"), [({"database": "nope"}, 90105), ({"schema": "nope"}, 90106)])
    def test_without_a_database_or_schema_names_need_one(
        self, snowflake: SnowflakeAccount, arguments: dict[str, str], number: int
    ) -> None:
        with snowflake.connect(**arguments) as connection:
            assert number == error_of(connection, "SELECT * FROM t").errno


class TestStatements:
    @pytest.mark.parametrize(
        ("statement", "number", "state"),
        [
            ("SELECT * FROM nope", 2003, "42S02"),
            ("SELECT * FROM nope.public.t", 2003, "02000"),
            ("SELECT nope FROM t", 904, "42000"),
            ("SELEC 1", 1003, "42000"),
            ("CREATE TABLE t (a INT)", 2002, "42710"),
            ("USE ROLE nope", 2043, "02000"),
            ("USE WAREHOUSE nope", 2043, "02000"),
            ("USE DATABASE nope", 2043, "02000"),
            ("USE SCHEMA nope", 2043, "02000"),
            ("INSERT INTO t VALUES (NULL)", 100072, "22000"),
            ("INSERT INTO t VALUES ('x')", 100038, "22018"),
            ("INSERT INTO t VALUES (1000)", 100039, "22003"),
            ("LIST @nope", 2003, "02000"),
            ("CREATE DATABASE analytics", 2002, "42710"),
            ("DROP DATABASE nope", 2003, "02000"),
        ],
    )
    def test_errors_are_snowflakes_and_come_at_once(
        self, snowflake: SnowflakeAccount, statement: str, number: int, state: str
    ) -> None:
        snowflake.run("CREATE TABLE t (a NUMBER(3,0) NOT NULL)")
        with snowflake.connect() as connection:
            started = time.monotonic()
            error = error_of(connection, statement)
            assert (number, state) == (error.errno, error.sqlstate)
            assert time.monotonic() - started < 10

    def test_values_are_as_they_were_put(self, snowflake: SnowflakeAccount) -> None:
        columns = "n NUMBER(38,10), i NUMBER(38,0), f FLOAT, b BOOLEAN, v VARCHAR, d DATE, t TIME(6), at TIMESTAMP_NTZ(6)"
        values = (
            Decimal("1234567890123456789012345678.0123456789"), 10**37, 1.5, True, "é\n'", date(2999, 12, 31),
            time_of_day(23, 59, 59, 999999), datetime(2026, 11, 23, 23, 59, 59, 999999),  # noqa: DTZ001 - it has none
        )  # fmt: skip
        snowflake.run(f"CREATE TABLE t ({columns}, tz TIMESTAMP_TZ(6), x BINARY, j VARIANT)")
        with snowflake.connect(paramstyle="qmark") as connection:
            cursor = connection.cursor()
            cursor.execute(
                "INSERT INTO t SELECT ?, ?, ?, ?, ?, ?, ?, ?, '1960-01-01 00:00:00.5+00:00', ?, PARSE_JSON(?)",
                (*values, b"\x00\xff", '{"a": [1, null]}'),
            )
            cursor.execute("INSERT INTO t SELECT " + ", ".join(["NULL"] * 11))
            full, empty = rows(connection, "SELECT * FROM t ORDER BY n NULLS LAST")
        assert (*values, datetime(1960, 1, 1, 0, 0, 0, 500000, tzinfo=UTC), b"\x00\xff") == full[:10]
        assert '{"a":[1,null]}' == "".join(full[10].split())
        assert (None,) * 11 == empty

    def test_times_are_exact_at_the_ends_of_what_is_possible(self, snowflake: SnowflakeAccount) -> None:
        texts = ("9999-12-31 23:59:59.999999", "0001-01-01 00:00:00.000001", "1969-12-31 23:59:59.999999")
        read = snowflake.rows("SELECT " + ", ".join(f"'{text}'::TIMESTAMP_NTZ" for text in texts))
        assert texts == tuple(str(value) for value in read[0])

    def test_many_rows_of_bindings_are_one_statement(self, snowflake: SnowflakeAccount) -> None:
        snowflake.run("CREATE TABLE t (a INT, b VARCHAR)")
        with snowflake.connect(paramstyle="qmark") as connection:
            cursor = connection.cursor()
            cursor.executemany("INSERT INTO t VALUES (?, ?)", [(at, None if at % 2 else "x") for at in range(100)])
            assert 100 == cursor.rowcount
            assert [(100, 50)] == rows(connection, "SELECT count(*), count(b) FROM t")

    def test_rows_come_in_the_order_that_was_asked_for(self, snowflake: SnowflakeAccount) -> None:
        with snowflake.connect(paramstyle="qmark") as connection:
            cursor = connection.cursor()
            cursor.execute("CREATE TABLE few (a INT)")
            cursor.executemany("INSERT INTO few VALUES (?)", [(n,) for n in range(200)])
            cursor.execute("CREATE TABLE t (a INT, b VARCHAR)")
            cursor.execute("INSERT INTO t SELECT x.a + 200 * y.a, 'text ' || x.a FROM few AS x, few AS y")
            for _ in range(5):
                found = [a for a, _ in rows(connection, "SELECT a, b FROM t ORDER BY a")]
                assert list(range(40_000)) == found

    def test_constraints_are_declared_and_not_enforced(self, snowflake: SnowflakeAccount) -> None:
        snowflake.run(
            "CREATE TABLE t (a INT PRIMARY KEY, b INT UNIQUE, CONSTRAINT c UNIQUE (a, b))",
            "CREATE TABLE u (a INT REFERENCES t (a), PRIMARY KEY (a))",
            "INSERT INTO t VALUES (1, 1), (1, 1)",
            "INSERT INTO u VALUES (2), (2)",
        )
        assert [(2,)] == snowflake.rows("SELECT count(*) FROM t")

    def test_words_that_only_duckdb_reserves_are_names(self, snowflake: SnowflakeAccount) -> None:
        snowflake.run("CREATE TABLE t (at INT, limit_ INT, end_ INT)", "INSERT INTO t (at) VALUES (1)")
        assert [(1,)] == snowflake.rows("SELECT at FROM t")

    def test_what_a_destination_asks_of_the_catalog(self, snowflake: SnowflakeAccount) -> None:
        snowflake.run(
            "CREATE SCHEMA _ROSETTA",
            "CREATE TRANSIENT TABLE _ROSETTA.t (a NUMBER(5,0) NOT NULL, v VARCHAR(36), at TIMESTAMP_TZ(6)) "
            "DATA_RETENTION_TIME_IN_DAYS=0",
            "ALTER TABLE _ROSETTA.t ADD COLUMN IF NOT EXISTS j VARIANT",
            "CREATE STAGE IF NOT EXISTS _ROSETTA.files",
        )
        with snowflake.connect() as connection:
            columns = rows(
                connection,
                "SELECT column_name, data_type, is_nullable, numeric_precision, numeric_scale, character_maximum_length, "
                "datetime_precision FROM information_schema.columns WHERE table_schema = '_ROSETTA' AND table_name = 'T' "
                "ORDER BY ordinal_position",
            )
            assert [
                ("A", "NUMBER", "NO", 5, 0, None, None),
                ("V", "TEXT", "YES", None, None, 36, None),
                ("AT", "TIMESTAMP_TZ", "YES", None, None, None, None),
                ("J", "VARIANT", "YES", None, None, None, None),
            ] == columns
            assert ["T"] == [row[1] for row in rows(connection, "SHOW TABLES IN SCHEMA _ROSETTA")]
            assert ["FILES"] == [row[1] for row in rows(connection, "SHOW STAGES IN SCHEMA _ROSETTA")]
            assert "_ROSETTA" in [row[1] for row in rows(connection, "SHOW SCHEMAS")]
            assert ("COMPUTE_WH", "STARTED") == rows(connection, "SHOW WAREHOUSES LIKE 'compute%'")[0][:2]
            assert [
                ("A", "NUMBER(5,0)", "COLUMN", "N"),
                ("V", "VARCHAR(36)", "COLUMN", "Y"),
                ("AT", "TIMESTAMP_TZ(6)", "COLUMN", "Y"),
                ("J", "VARIANT", "COLUMN", "Y"),
            ] == [row[:4] for row in rows(connection, "DESCRIBE TABLE _ROSETTA.t")]
            assert 2003 == error_of(connection, "DESC TABLE _ROSETTA.nope").errno

    def test_an_account_sets_what_sessions_do_not(self, snowflake: SnowflakeAccount) -> None:
        try:
            snowflake.run(
                "ALTER ACCOUNT SET QUOTED_IDENTIFIERS_IGNORE_CASE = TRUE, DEFAULT_DDL_COLLATION = 'en-ci'",
                """CREATE TABLE "folded" ("a" VARCHAR, b VARCHAR COLLATE '')""",
                """INSERT INTO "folded" VALUES ('x', 'x')""",
            )
            assert [("A",), ("B",)] == [row[:1] for row in snowflake.rows("DESC TABLE folded")]
            assert [(1,)] == snowflake.rows("SELECT count(*) FROM folded WHERE a = 'X'")
            assert [(0,)] == snowflake.rows("SELECT count(*) FROM folded WHERE b = 'X'")
            with snowflake.connect(session_parameters={"QUOTED_IDENTIFIERS_IGNORE_CASE": False}) as connection:
                assert 2003 == error_of(connection, 'DESC TABLE "folded"').errno
        finally:
            snowflake.run("ALTER ACCOUNT UNSET QUOTED_IDENTIFIERS_IGNORE_CASE, DEFAULT_DDL_COLLATION")

    def test_session_parameters_tag_what_is_run(self, snowflake: SnowflakeAccount) -> None:
        with snowflake.connect(session_parameters={"QUERY_TAG": "first"}) as connection:
            rows(connection, "SELECT 'tagged', 1")
            connection.cursor().execute("ALTER SESSION SET QUERY_TAG = 'it''s second', LOCK_TIMEOUT = 5")
            rows(connection, "SELECT 'tagged', 2")
            connection.cursor().execute("ALTER SESSION UNSET QUERY_TAG")
            error_of(connection, "SELECT 'tagged', nope")
        seen = [(s.query_tag, s.error_code, s.user) for s in snowflake.server.statements("^select 'tagged'")]
        assert [("first", "", USER), ("it's second", "", USER), ("", "000904", USER)] == seen[-3:]


class TestTransactions:
    @pytest.fixture
    def table(self, snowflake: SnowflakeAccount) -> SnowflakeAccount:
        snowflake.run("CREATE TABLE t (a INT, v VARCHAR)", "INSERT INTO t VALUES (1, 'old')", "CREATE TABLE w (a INT)")
        return snowflake

    def test_several_statements_are_kept_or_lost_together(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection, table.connect() as other:
            for end, expected in (("ROLLBACK", [(1,)]), ("COMMIT", [(3,)])):
                for statement in ("BEGIN", "INSERT INTO t VALUES (2, 'x')", "INSERT INTO t VALUES (3, 'y')"):
                    connection.cursor().execute(statement)
                assert [(3,)] == rows(connection, "SELECT count(*) FROM t")
                assert [(1,)] == rows(other, "SELECT count(*) FROM t")
                connection.cursor().execute(end)
                assert expected == rows(other, "SELECT count(*) FROM t")

    def test_without_autocommit_a_change_waits_for_its_commit(self, table: SnowflakeAccount) -> None:
        with table.connect(autocommit=False) as connection:
            connection.cursor().execute("DELETE FROM t")
            connection.rollback()
            assert [(1,)] == rows(connection, "SELECT count(*) FROM t")
            connection.cursor().execute("DELETE FROM t")
            connection.commit()
        assert [(0,)] == table.rows("SELECT count(*) FROM t")

    def test_a_statement_of_the_schema_commits_what_is_open(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            for statement in ("START TRANSACTION", "DELETE FROM t", "CREATE TABLE u (a INT)", "ROLLBACK"):
                connection.cursor().execute(statement)
        assert [(0,)] == table.rows("SELECT count(*) FROM t")

    def test_an_end_without_a_beginning_does_nothing(self, table: SnowflakeAccount) -> None:
        table.run("COMMIT", "ROLLBACK", "BEGIN", "BEGIN", "COMMIT")

    def test_a_commit_after_an_error_does_not_pretend(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            for statement in ("BEGIN", "DELETE FROM t"):
                connection.cursor().execute(statement)
            error_of(connection, "INSERT INTO t VALUES ('x', 'y')")
            assert 9999 == error_of(connection, "COMMIT").errno
            assert [(1,)] == rows(connection, "SELECT count(*) FROM t")
            connection.cursor().execute("ALTER SESSION SET TRANSACTION_ABORT_ON_ERROR = TRUE")
            for statement in ("BEGIN", "DELETE FROM t"):
                connection.cursor().execute(statement)
            error_of(connection, "INSERT INTO t VALUES ('x', 'y')")
            connection.cursor().execute("COMMIT")
            assert [(1,)] == rows(connection, "SELECT count(*) FROM t")

    def test_a_second_writer_waits_for_the_tables_lock(self, table: SnowflakeAccount) -> None:
        with table.connect() as first, table.connect() as second:
            first.cursor().execute("BEGIN")
            first.cursor().execute("UPDATE t SET v = 'first'")
            waiting = threading.Thread(target=rows, args=(second, "UPDATE t SET v = v || ' second'"))
            waiting.start()
            time.sleep(0.3)
            assert waiting.is_alive()
            first.cursor().execute("COMMIT")
            waiting.join(10)
        assert [("first second",)] == table.rows("SELECT v FROM t")

    def test_a_wait_ends_with_the_lock_timeout(self, table: SnowflakeAccount) -> None:
        with table.connect() as first, table.connect(session_parameters={"LOCK_TIMEOUT": 1}) as second:
            first.cursor().execute("BEGIN")
            first.cursor().execute("DELETE FROM t")
            started = time.monotonic()
            error = error_of(second, "MERGE INTO t USING w ON t.a = w.a WHEN MATCHED THEN DELETE")
            assert (625, "57014") == (error.errno, error.sqlstate)
            assert 0.9 < time.monotonic() - started < 10
            second.cursor().execute("INSERT INTO t VALUES (7, 'needs no lock')")

    def test_an_abandoned_transaction_gives_way(self, table: SnowflakeAccount) -> None:
        with table.connect() as abandoned, table.connect() as other:
            abandoned.cursor().execute("BEGIN")
            abandoned.cursor().execute("DELETE FROM t")
            started = time.monotonic()
            other.cursor().execute("UPDATE t SET v = 'new'")
            assert 1.5 < time.monotonic() - started < 20
        assert [("new",)] == table.rows("SELECT v FROM t")

    def test_open_transactions_can_be_aborted(self, table: SnowflakeAccount) -> None:
        with table.connect() as connection:
            connection.cursor().execute("BEGIN")
            connection.cursor().execute("DELETE FROM t")
            assert 1 == table.server.abort_transactions()
            assert 0 == table.server.abort_transactions()
            assert [(1,)] == rows(connection, "SELECT count(*) FROM t")


class TestLoading:
    def put(self, connection: sf.SnowflakeConnection, file: Path, target: str, *, overwrite: bool = True) -> str:
        statement = f"PUT 'file://{file}' {target} AUTO_COMPRESS=FALSE OVERWRITE={str(overwrite).upper()} PARALLEL=4"
        return str(rows(connection, statement)[0][6])

    def test_a_file_is_put_copied_and_merged(self, snowflake: SnowflakeAccount, tmp_path: Path) -> None:
        write_parquet(tmp_path / "one.parquet", {"ID": [1, 2, 3], "V": ["a", "b", None], "J": ['{"k":1}', None, "[]"]})
        write_parquet(tmp_path / "two.parquet", {"ID": [2, 3, 4], "V": ["x", "d", "y"], "J": ['"j"', None, "null"]})
        with snowflake.connect() as connection:
            for statement in (
                "CREATE TABLE t (ID NUMBER(19,0) NOT NULL, V VARCHAR, J VARIANT)",
                "CREATE TRANSIENT TABLE s (ID NUMBER(19,0), V VARCHAR, J VARCHAR)",
                "CREATE STAGE files",
            ):
                connection.cursor().execute(statement)
            counts = []
            for name in ("one", "two"):
                assert "UPLOADED" == self.put(connection, tmp_path / f"{name}.parquet", f"@files/{name}/")
                connection.cursor().execute("TRUNCATE TABLE s")
                loaded = rows(
                    connection, f"COPY INTO s FROM @files/{name}/ {COPY_OPTIONS} FORCE=TRUE ON_ERROR=ABORT_STATEMENT"
                )
                assert [(f"files/{name}/{name}.parquet", "LOADED", 3, 3)] == [row[:4] for row in loaded]
                connection.cursor().execute("BEGIN")
                merged = connection.cursor().execute(
                    "MERGE INTO t USING (SELECT * FROM s QUALIFY ROW_NUMBER() OVER (PARTITION BY ID ORDER BY V) = 1) s "
                    "ON t.ID = s.ID WHEN MATCHED AND s.V = 'd' THEN DELETE "
                    "WHEN MATCHED THEN UPDATE SET t.V = s.V, t.J = PARSE_JSON(s.J) "
                    "WHEN NOT MATCHED AND s.V IS DISTINCT FROM 'd' "
                    "THEN INSERT (ID, V, J) VALUES (s.ID, s.V, PARSE_JSON(s.J))"
                )
                counts.append((merged.fetchall(), merged.rowcount))
                connection.cursor().execute("COMMIT")
            assert [([(3, 0, 0)], 3), ([(1, 1, 1)], 3)] == counts
            assert [(1, "a"), (2, "x"), (4, "y")] == rows(connection, "SELECT ID, V FROM t ORDER BY ID")
            assert [("one",), ("two",)] == [(row[0].split("/")[1],) for row in rows(connection, "LIST @files")]
            assert [("files/one/one.parquet", "removed")] == rows(connection, "REMOVE @files/one/")
            assert 1 == len(rows(connection, "LIST @files"))

    def test_a_file_is_loaded_once_unless_forced(self, snowflake: SnowflakeAccount, tmp_path: Path) -> None:
        write_parquet(tmp_path / "f.parquet", {"A": [1]})
        snowflake.run("CREATE TABLE t (A INT)", "CREATE STAGE files")
        with snowflake.connect() as connection:
            assert "UPLOADED" == self.put(connection, tmp_path / "f.parquet", "@files", overwrite=False)
            assert "SKIPPED" == self.put(connection, tmp_path / "f.parquet", "@files", overwrite=False)
            statuses = [
                rows(connection, f"COPY INTO t FROM @files FILES=('f.parquet') {COPY_OPTIONS} FORCE={force}")[0][1]
                for force in ("FALSE", "FALSE", "TRUE")
            ]
            assert ["LOADED", "LOAD_SKIPPED", "LOADED"] == statuses
            assert [(2,)] == rows(connection, "SELECT count(*) FROM t")

    def test_a_copy_is_rolled_back_with_its_history(self, snowflake: SnowflakeAccount, tmp_path: Path) -> None:
        write_parquet(tmp_path / "f.parquet", {"A": [1]})
        snowflake.run("CREATE TABLE t (A INT)", "CREATE STAGE files")
        with snowflake.connect() as connection:
            self.put(connection, tmp_path / "f.parquet", "@files")
            for end, expected in (("ROLLBACK", [(0,)]), ("COMMIT", [(1,)])):
                connection.cursor().execute("BEGIN")
                assert "LOADED" == rows(connection, f"COPY INTO t FROM @files {COPY_OPTIONS}")[0][1]
                connection.cursor().execute(end)
                assert expected == rows(connection, "SELECT count(*) FROM t")

    def test_a_row_that_matches_twice_is_an_error(self, snowflake: SnowflakeAccount) -> None:
        snowflake.run("CREATE TABLE t (a INT, v INT)", "INSERT INTO t VALUES (1, 0)")
        with snowflake.connect() as connection:
            source = "(SELECT 1 AS a, 1 AS v UNION ALL SELECT 1, 2)"
            merge = f"MERGE INTO t USING {source} s ON t.a = s.a WHEN MATCHED THEN UPDATE SET v = s.v"
            assert 100090 == error_of(connection, merge).errno

    def test_a_path_cannot_leave_its_stage(self, snowflake: SnowflakeAccount, tmp_path: Path) -> None:
        write_parquet(tmp_path / "f.parquet", {"A": [1]})
        snowflake.run("CREATE STAGE files")
        with snowflake.connect() as connection, pytest.raises(sf.Error):
            self.put(connection, tmp_path / "f.parquet", "@files/../../../../escaped/")
