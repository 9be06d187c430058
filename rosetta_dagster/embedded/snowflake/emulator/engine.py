"""Runs one statement of a session: decides whether the emulator, DuckDB or fakesnow executes it."""

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.dialect import parse_one
from fakesnow.rowtype import describe_as_rowtype
from fakesnow.statement_type import statement_type_id
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

from rosetta_dagster.embedded.snowflake.emulator import bindings as bound
from rosetta_dagster.embedded.snowflake.emulator.account_defaults import collate, fold_identifiers
from rosetta_dagster.embedded.snowflake.emulator.catalog import describe_table, is_table_description
from rosetta_dagster.embedded.snowflake.emulator.comments import comment_on_column, escape_comment, is_of_a_column
from rosetta_dagster.embedded.snowflake.emulator.doubts import counts_now, is_conditional, read_tables, without_condition
from rosetta_dagster.embedded.snowflake.emulator.errors import MISSING, no_warehouse, translated, unsupported
from rosetta_dagster.embedded.snowflake.emulator.loads import verify_files
from rosetta_dagster.embedded.snowflake.emulator.merge import run_merge
from rosetta_dagster.embedded.snowflake.emulator.refusals import (
    creates_schema,
    may_not_create_schema,
    verify_column_names,
)
from rosetta_dagster.embedded.snowflake.emulator.repairs import repaired
from rosetta_dagster.embedded.snowflake.emulator.results import SUCCESS, Result, success, texts
from rosetta_dagster.embedded.snowflake.emulator.session import Session
from rosetta_dagster.embedded.snowflake.emulator.session_statements import answered
from rosetta_dagster.embedded.snowflake.emulator.stage_files import upload

_DDL = (exp.Create, exp.Alter, exp.Drop, exp.TruncateTable, exp.Comment)
_DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Copy)
_LOCKING = (exp.Update, exp.Delete, exp.Merge)
#: Held while an object is created, altered or dropped: of two sessions that create it together, DuckDB refuses one.
_CATALOG = threading.Lock()
_START = re.compile(r"\s*START\s+TRANSACTION\s*;?\s*$", re.IGNORECASE)


def run(session: Session, text: str, bindings: Mapping[str, Any], host: str) -> Result:
    """Return the result of a statement. `host` is the client's name of this server.

    Raises:
        SnowflakeError: the error that Snowflake would raise, or 009999 for what the emulator cannot do.

    """
    with session.statement():
        try:
            return answered(session, text) or _run(session, text, bindings, host)
        except Exception as error:
            session.transaction.fail()
            raise translated(error) from error


def describe(session: Session, text: str) -> Result:
    """Describe a statement's result without its rows: clients ask for it before they send many rows of bindings.

    Raises:
        SnowflakeError: 009999 for a statement that only running it could describe.

    """
    with session.statement():
        try:
            described = session.connection.cursor()._describe_only(text)
        except Exception as error:
            raise translated(error) from error
    if described is None:
        raise unsupported("a description of this statement")
    statement = parse_one(text)
    return Result(
        rows=None,
        rowtype=describe_as_rowtype(described),
        type_id=statement_type_id(statement),
        binding_count=len(list(statement.find_all(exp.Placeholder))),
    )


def _run(session: Session, text: str, bindings: Mapping[str, Any], host: str) -> Result:
    statement = parse_one("BEGIN" if _START.match(text) else text)
    if isinstance(statement, exp.Transaction | exp.Commit | exp.Rollback):
        return _end_or_begin(session, statement)
    if session.is_on("QUOTED_IDENTIFIERS_IGNORE_CASE"):
        statement = fold_identifiers(statement)
    verify_column_names(statement)
    database = session.connection.database
    if creates_schema(statement) and (session.role, database) in session.account.without_create_schema:
        raise may_not_create_schema(database)
    statement = collate(statement, session.parameter("DEFAULT_DDL_COLLATION"))
    statement = repaired(statement, _context(session))
    if is_table_description(statement):
        return describe_table(session, statement)
    type_id = statement_type_id(statement)
    cursor = session.connection.cursor()
    params = None if bound.is_batch(bindings) else bound.single(bindings) or None
    params = _prepare(session, cursor, statement, params)
    cursor.check_db_and_schema(statement)
    if isinstance(statement, exp.Copy):
        verify_files(session, statement)
    if bound.is_batch(bindings):
        return _run_batch(cursor, statement, bound.batch(bindings), type_id)
    with _CATALOG if isinstance(statement, _DDL) else nullcontext():
        _execute(cursor, statement, params)
    if isinstance(statement, exp.Put):
        return _upload(cursor, statement, host)
    rowtype = describe_as_rowtype(cursor._describe_last_sql())
    rows: Any = cursor._arrow_table
    return Result(rows=rows, rowtype=rowtype, type_id=type_id, used_warehouse=_needs_warehouse(statement))


def _end_or_begin(session: Session, statement: Expr) -> Result:
    transaction = session.transaction
    if isinstance(statement, exp.Transaction):
        transaction.begin()
    elif isinstance(statement, exp.Commit):
        transaction.commit(aborts_on_error=session.is_on("TRANSACTION_ABORT_ON_ERROR"))
    else:
        transaction.rollback()
    return success()


def _prepare(session: Session, cursor: FakeSnowflakeCursor, statement: Expr, params: list[Any] | None) -> list[Any] | None:
    """Provide the warehouse, transaction and lock that the statement needs. Return its bindings."""
    if _needs_warehouse(statement) and not session.account.warehouses.get(session.warehouse or ""):
        raise no_warehouse()
    if isinstance(statement, _DDL):
        # It commits the open transaction, and runs outside of one.
        session.transaction.commit(aborts_on_error=True)
    elif isinstance(statement, _DML) and not session.autocommits:
        session.transaction.begin()
    if session.is_on("EMULATOR_STALE_READS"):
        read = {_table(session, table) for table in read_tables(statement)}
        session.account.commits.verify_visible(session.id, session.opened_at, read)
    if isinstance(statement, _LOCKING):
        params = _lock(session, cursor, statement, params)
    if isinstance(statement, _DML):
        session.written.add(_table(session, statement.find(exp.Table)))
    return params


def _lock(session: Session, cursor: FakeSnowflakeCursor, statement: Expr, params: list[Any] | None) -> list[Any] | None:
    """Wait for the statement's table. Return the statement's bindings."""
    table = _table(session, statement.this)
    is_stale = session.is_on("EMULATOR_STALE_UPDATES") and is_conditional(statement)
    count = counts_now(cursor, statement, table, params or []) if is_stale else 0
    has_waited = session.account.locks.acquire(session, table, session.lock_timeout, session.is_cancelled)
    return without_condition(statement, params) if has_waited and count else params


def _needs_warehouse(statement: Expr) -> bool:
    return isinstance(statement, _DML) or (isinstance(statement, exp.Select) and statement.args.get("from_") is not None)


def _table(session: Session, table: Any) -> str:
    catalog, schema = session.connection.database, session.connection.schema
    return ".".join(str(part).upper() for part in (table.catalog or catalog, table.db or schema, table.name))


def _execute(cursor: FakeSnowflakeCursor, statement: Expr, params: list[Any] | None) -> None:
    if isinstance(statement, exp.TruncateTable) and statement.args.get("exists"):
        _truncate_if_exists(cursor, statement)
        return
    if is_of_a_column(statement):
        comment_on_column(cursor, statement)
        return
    escape_comment(statement)
    # fakesnow executes a MERGE in several parts; here it is one statement.
    parts = [statement] if isinstance(statement, exp.Merge) else cursor._transform_explode(statement)
    for part in parts:
        transformed = cursor._transform(part, params)
        given = params if transformed.find(exp.Placeholder) else None
        if isinstance(transformed, exp.Merge):
            transformed, given = run_merge(cursor._duck_conn, transformed, given), None
        cursor._execute(transformed, given)


def _truncate_if_exists(cursor: FakeSnowflakeCursor, statement: Expr) -> None:
    # DuckDB has no IF EXISTS here.
    statement.args["exists"] = False
    try:
        _execute(cursor, statement, None)
    except ProgrammingError as error:
        if translated(error).code != MISSING:
            raise
        cursor._execute(parse_one(f"SELECT '{SUCCESS}' AS status"))


def _run_batch(cursor: FakeSnowflakeCursor, statement: Expr, rows: Sequence[list[Any]], type_id: int) -> Result:
    """Run a statement for rows of bindings.

    Repaired: fakesnow 0.12.1 translates the statement for each row. Here it is translated once, and DuckDB gets all rows.
    """
    if not isinstance(statement, exp.Insert):
        raise unsupported("rows of bindings for anything but INSERT")
    sql = cursor._transform(statement, list(rows[0])).sql(dialect="duckdb")
    cursor._duck_conn.executemany(sql, rows)
    return replace(texts(["number of rows inserted"], [[str(len(rows))]]), type_id=type_id)


def _upload(cursor: FakeSnowflakeCursor, put: Expr, host: str) -> Result:
    located: Any = cursor._last_transformed
    how = upload(put, located.args["put_stage_data"], located.args["put_stage_name"], host)
    return replace(success(), upload=how)


def _context(session: Session) -> dict[str, str | None]:
    return {
        "CURRENT_ROLE": session.role,
        "CURRENT_WAREHOUSE": session.warehouse,
        "CURRENT_USER": session.user,
        "CURRENT_ACCOUNT": session.account.name,
        "CURRENT_SESSION": str(session.id),
    }
