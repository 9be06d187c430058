"""Decides which statements Snowflake refuses that DuckDB accepts: reserved column names, and schemas without a privilege."""

from sqlglot import Expr, exp

from rosetta_dagster.embedded.snowflake.emulator.errors import SnowflakeError

#: No column may have these names, quoted or not, since ANSI reserves them. In lower case and quoted they are allowed.
_RESERVED_COLUMNS = frozenset(
    {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_USER", "LOCALTIME", "LOCALTIMESTAMP"}
)


def verify_column_names(statement: Expr) -> None:
    """Refuse new columns with a reserved name.

    Raises:
        SnowflakeError: 002318.

    """
    if not isinstance(statement, exp.Create | exp.Alter):
        return
    names = [column.this for column in statement.find_all(exp.ColumnDef)]
    names += [rename.args["to"].find(exp.Identifier) for rename in statement.find_all(exp.RenameColumn)]
    for name in names:
        if (name.name if name.args.get("quoted") else name.name.upper()) in _RESERVED_COLUMNS:
            raise SnowflakeError(
                2318, f"SQL compilation error:\nInvalid column name '{name.name}'. It is reserved.", "42601"
            )


def creates_schema(statement: Expr) -> bool:
    return isinstance(statement, exp.Create) and statement.args.get("kind") == "SCHEMA"


def may_not_create_schema(database: str | None) -> SnowflakeError:
    """CREATE SCHEMA needs the privilege on the database, with IF NOT EXISTS also where the schema exists."""
    return SnowflakeError(
        3001, f"SQL access control error:\nInsufficient privileges to operate on database '{database}'", "42501"
    )
