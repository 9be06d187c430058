"""What the emulator makes of a statement before DuckDB runs it, of DuckDB's errors, and of the faults that wait."""

import duckdb
import pytest
import sqlglot
from snowflake.connector.errors import ProgrammingError

from rosetta_dagster.embedded.snowflake import Fault, FaultKind
from rosetta_dagster.embedded.snowflake.emulator.errors import SnowflakeError, translated
from rosetta_dagster.embedded.snowflake.emulator.faults import Faults
from rosetta_dagster.embedded.snowflake.emulator.merge import merge_sql
from rosetta_dagster.embedded.snowflake.emulator.repairs import repaired

CONTEXT = {
    "CURRENT_ROLE": "LOADER",
    "CURRENT_WAREHOUSE": None,
    "CURRENT_USER": "ROSETTA",
    "CURRENT_ACCOUNT": "ORG-ACCOUNT",
    "CURRENT_SESSION": "1",
}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT CURRENT_ROLE()", "SELECT 'LOADER' AS \"CURRENT_ROLE()\""),
        ("SELECT 1 WHERE CURRENT_WAREHOUSE() IS NULL", "SELECT 1 WHERE NULL IS NULL"),
        ("CREATE TABLE t (a INT PRIMARY KEY, b INT UNIQUE NOT NULL)", "CREATE TABLE t (a INT, b INT NOT NULL)"),
        ("CREATE TABLE t (a INT, CONSTRAINT c PRIMARY KEY (a))", "CREATE TABLE t (a INT)"),
        ("SELECT at, other FROM t", 'SELECT "AT", other FROM t'),
        ('SELECT "at" FROM t', 'SELECT "at" FROM t'),
        ("COPY INTO t FROM @s FORCE=FALSE PURGE=TRUE", "COPY INTO t FROM @s PURGE=TRUE"),
    ],
)
def test_a_statement_is_repaired(statement: str, expected: str) -> None:
    found = repaired(sqlglot.parse_one(statement, read="snowflake"), CONTEXT).sql(dialect="snowflake")
    assert expected.replace(" ", "") == found.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # As Snowflake's manual has them.
        ("MD5_NUMBER_LOWER64('Snowflake')", 9203306159527282910),
        ("MD5_NUMBER_UPPER64('Snowflake')", 17145559544104499780),
        ("TO_VARCHAR('01:02:03.4'::TIME(6), 'HH24:MI:SS.FF6')", "01:02:03.400000"),
        ("TO_VARCHAR(-0.5::NUMBER(1,1))", "-0.5"),
        ("TO_VARCHAR('.5')", ".5"),
    ],
)
def test_a_function_is_computed_as_snowflake_does(expression: str, expected: object) -> None:
    statement = repaired(sqlglot.parse_one(f"SELECT {expression}", read="snowflake"), CONTEXT)
    assert (expected,) == duckdb.connect().execute(statement.sql(dialect="duckdb")).fetchone()


def test_a_format_is_refused_where_the_type_is_not_shown() -> None:
    with pytest.raises(SnowflakeError, match="unless the value is cast"):
        repaired(sqlglot.parse_one("SELECT TO_VARCHAR(day, 'YYYY') FROM t", read="snowflake"), CONTEXT)


def test_a_merge_is_duckdbs_own() -> None:
    statement = "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED AND s.d THEN DELETE WHEN MATCHED THEN UPDATE SET t.v = s.v"
    expected = (
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED AND s.d THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET v = s.v RETURNING merge_action"
    )
    assert expected == merge_sql(sqlglot.parse_one(statement, read="snowflake"))


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [
        (duckdb.CatalogException('Table with name "T" does not exist!'), "002003", "42S02"),
        (duckdb.BinderException('Catalog "D" does not exist!'), "002003", "02000"),
        (duckdb.BinderException('Referenced column "A" not found in FROM clause!'), "000904", "42000"),
        (duckdb.CatalogException('Table with name "T" already exists!'), "002002", "42710"),
        (duckdb.TransactionException("Conflict on update!"), "000625", "57014"),
        (duckdb.ConstraintException("NOT NULL constraint failed: T.A"), "100072", "22000"),
        (duckdb.ConversionException("Could not convert string"), "100038", "22018"),
        (duckdb.ConversionException("value is out of range"), "100039", "22003"),
        (duckdb.InterruptException("INTERRUPT Error: Interrupted!"), "000604", "57014"),
        (duckdb.IOException("No space left on device"), "100000", "22000"),
        (ProgrammingError(msg="no such stage", errno=2003, sqlstate="02000"), "002003", "02000"),
        (NotImplementedError("a stream"), "009999", "0A000"),
    ],
)
def test_an_error_has_snowflakes_code(error: Exception, code: str, state: str) -> None:
    made = translated(error)
    assert (code, state) == (made.code, made.sqlstate)


def test_faults_meet_what_they_fit_as_often_as_they_say_in_their_order() -> None:
    faults = Faults()
    locked = Fault(kind=FaultKind.LOCKED, matching="^merge", count=2)
    stall, unavailable = Fault(kind=FaultKind.STALL, seconds=1), Fault(kind=FaultKind.UNAVAILABLE)
    faults.add([locked, unavailable, stall])
    assert unavailable == faults.of_request()
    assert faults.of_request() is None
    assert locked == faults.of_statement("MERGE INTO t")
    assert stall == faults.of_statement("SELECT 1")
    assert faults.of_statement("SELECT 1") is None
    assert faults.of_statement("merge") is not None
    assert [] == faults.pending


def test_a_fault_travels_as_json() -> None:
    fault = Fault(kind=FaultKind.STALL, matching="x", count=3, seconds=1.5)
    assert fault == Fault.from_json(fault.to_json())
