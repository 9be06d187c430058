"""Runs COMMENT: fakesnow 0.12.1 forgets to escape the text of a table's comment, and knows none of columns."""

from fakesnow.cursor import FakeSnowflakeCursor
from sqlglot import Expr, exp, parse_one

from rosetta_dagster.embedded.snowflake.emulator.results import SUCCESS


def is_of_a_column(statement: Expr) -> bool:
    return isinstance(statement, exp.Comment) and statement.args.get("kind") == "COLUMN"


def comment_on_column(cursor: FakeSnowflakeCursor, statement: Expr) -> None:
    """Let DuckDB keep the comment, which its catalog shows as INFORMATION_SCHEMA.COLUMNS.COMMENT."""
    column = statement.this
    catalog, schema = cursor._conn.database, column.args.get("db") or exp.to_identifier(cursor._conn.schema, quoted=True)
    parts = [exp.to_identifier(catalog, quoted=True), schema, column.args["table"], column.this]
    place = ".".join(part.sql(dialect="duckdb") for part in parts)
    text = statement.expression.this.replace("'", "''")
    cursor._duck_conn.execute(f"COMMENT ON COLUMN {place} IS '{text}'")
    cursor._execute(parse_one(f"SELECT '{SUCCESS}' AS status"))


def escape_comment(statement: Expr) -> None:
    """Double the quotes of a table's comment, since fakesnow puts it into a text as it is."""
    if isinstance(statement, exp.Comment):
        statement.expression.set("this", statement.expression.this.replace("'", "''"))
