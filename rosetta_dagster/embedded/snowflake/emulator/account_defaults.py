"""Applies parameters that an account may set, and that change what a statement means: identifiers and collations."""

from sqlglot import Expr, exp

#: DuckDB's name for Snowflake's collations that ignore case.
_IGNORES_CASE = "NOCASE"


def fold_identifiers(statement: Expr) -> Expr:
    """Write quoted names in upper case, as QUOTED_IDENTIFIERS_IGNORE_CASE = TRUE does."""
    for name in statement.find_all(exp.Identifier):
        if name.args.get("quoted"):
            name.set("this", name.name.upper())
    return statement


def collate(statement: Expr, default: str) -> Expr:
    """Give new text columns without COLLATE the default, DEFAULT_DDL_COLLATION, and write DuckDB's collations."""
    if not isinstance(statement, exp.Create | exp.Alter):
        return statement
    for column in statement.find_all(exp.ColumnDef):
        given = [each for each in column.constraints if isinstance(each.kind, exp.CollateColumnConstraint)]
        spec = given[0].kind.this.name if given else default
        for constraint in given:
            constraint.pop()
        if "ci" in spec.split("-") and column.kind is not None and column.kind.is_type(*exp.DataType.TEXT_TYPES):
            column.append("constraints", _collation())
    return statement


def _collation() -> Expr:
    return exp.ColumnConstraint(kind=exp.CollateColumnConstraint(this=exp.var(_IGNORES_CASE)))
