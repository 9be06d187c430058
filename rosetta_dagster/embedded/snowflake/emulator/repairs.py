"""Repairs statements before fakesnow gets them. Pure functions from one expression to another."""

from collections.abc import Mapping

import duckdb
from sqlglot import Expr, exp

from rosetta_dagster.embedded.snowflake.emulator.functions import with_snowflakes_functions

_RESERVED = frozenset(
    row[0]
    for row in duckdb.connect()
    .execute("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'")
    .fetchall()
)

_UNENFORCED = (exp.PrimaryKey, exp.ForeignKey, exp.Constraint)
_UNENFORCED_COLUMN = (exp.PrimaryKeyColumnConstraint, exp.UniqueColumnConstraint, exp.Reference)

_CONTEXT_FUNCTIONS: Mapping[type[Expr], str] = {
    exp.CurrentRole: "CURRENT_ROLE",
    exp.CurrentWarehouse: "CURRENT_WAREHOUSE",
    exp.CurrentUser: "CURRENT_USER",
    exp.CurrentAccount: "CURRENT_ACCOUNT",
    exp.CurrentSession: "CURRENT_SESSION",
}


def repaired(expression: Expr, context: Mapping[str, str | None]) -> Expr:
    """Return the repaired statement. `context` has the values of the session's functions."""
    expression = _drop_constraints(_quote_reserved(_refuse_null_characters(expression)))
    expression = with_snowflakes_functions(expression)
    return _answer_context(_keep_false_of_force(expression), context)


def _refuse_null_characters(expression: Expr) -> Expr:
    r"""Let PARSE_JSON refuse a document with `\u0000`, which DuckDB parses."""
    for parse in list(expression.find_all(exp.ParseJSON)):
        text = parse.this
        if text.find(exp.Placeholder) is None and not isinstance(text, exp.Literal):
            has_null = exp.Contains(this=text.copy(), expression=exp.Literal.string("\\u0000"))
            parse.set("this", exp.case().when(has_null, exp.Literal.string("{")).else_(text.copy()))
    return expression


def _quote_reserved(expression: Expr) -> Expr:
    """Quote names. fakesnow 0.12.1 passes them unquoted, and DuckDB reserves more words than Snowflake."""
    for name in expression.find_all(exp.Identifier):
        if not name.quoted and name.name.lower() in _RESERVED:
            name.set("this", name.name.upper())
            name.args["quoted"] = True
    return expression


def _drop_constraints(expression: Expr) -> Expr:
    """Remove PRIMARY KEY, UNIQUE and FOREIGN KEY. With fakesnow 0.12.1 DuckDB enforces them; Snowflake does not."""
    if not (isinstance(expression, exp.Create) and expression.args.get("kind") == "TABLE"):
        return expression
    for column in list(expression.find_all(exp.ColumnConstraint)):
        if isinstance(column.args.get("kind"), _UNENFORCED_COLUMN):
            column.pop()
    for node in list(expression.find_all(*_UNENFORCED, exp.UniqueColumnConstraint)):
        node.pop()
    return expression


def _keep_false_of_force(expression: Expr) -> Expr:
    """Remove FORCE and PURGE of a COPY when they are false. fakesnow 0.12.1 reads them as true whatever their value."""
    if isinstance(expression, exp.Copy):
        kept = [parameter for parameter in expression.args.get("params") or () if not _is_false(parameter)]
        expression.set("params", kept)
    return expression


def _is_false(parameter: Expr) -> bool:
    value = parameter.args.get("expression")
    return parameter.name.upper() in {"FORCE", "PURGE"} and isinstance(value, exp.Boolean) and not value.this


def _answer_context(expression: Expr, context: Mapping[str, str | None]) -> Expr:
    """Replace the functions of role, warehouse and user by the session's values, which fakesnow 0.12.1 does not have."""
    for node in list(expression.find_all(*_CONTEXT_FUNCTIONS)):
        name = _CONTEXT_FUNCTIONS[type(node)]
        value = context[name]
        literal = exp.null() if value is None else exp.Literal.string(value)
        is_column = isinstance(node.parent, exp.Select) and node.arg_key == "expressions"
        node.replace(exp.alias_(literal, f"{name}()", quoted=True) if is_column else literal)
    return expression
