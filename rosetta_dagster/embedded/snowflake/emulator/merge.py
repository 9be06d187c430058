"""Translates MERGE to DuckDB's MERGE.

fakesnow 0.12.1 emulates it by an auxiliary table in a second database, which fails in a transaction, loses source
columns that appear within expressions only, and uses one of several matching source rows where Snowflake raises 100090.
"""

from collections import Counter
from typing import Any

import duckdb
from sqlglot import Expr, exp

_COUNTED_AS = {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}


def merge_sql(merge: Expr) -> str:
    """Return DuckDB's text for a MERGE."""
    statement = merge.copy()
    for when in _clauses(statement):
        action = when.args.get("then")
        if isinstance(action, exp.Update):
            _unqualify(action)
    return f"{statement.sql(dialect='duckdb')} RETURNING merge_action"


def run_merge(connection: "duckdb.DuckDBPyConnection", merge: Expr, params: list[object] | None) -> Expr:
    """Run it, and return a SELECT of Snowflake's counts, in Snowflake's order, for the clauses of the statement."""
    rows: Any = connection.execute(merge_sql(merge), params).to_arrow_table()
    actions = rows["merge_action"].value_counts().to_pylist()
    counts = Counter({_COUNTED_AS[action["values"]]: action["counts"] for action in actions})
    select = exp.select(
        *(
            exp.alias_(exp.Literal.number(counts[operation]), f"number of rows {operation}", quoted=True)
            for operation in _operations(merge)
        )
    )
    # A mark of fakesnow: the number of rows is the sum of the counts.
    select.args["merge_counts"] = True
    return select


def _clauses(merge: Expr) -> list[Expr]:
    whens = merge.args["whens"]
    return list(whens.expressions if isinstance(whens, exp.Whens) else whens)


def _unqualify(update: exp.Update) -> None:
    # DuckDB requires the bare name of a column that is set.
    for assignment in update.expressions:
        if isinstance(assignment.this, exp.Column):
            assignment.set("this", exp.Column(this=assignment.this.this))


def _operations(merge: Expr) -> list[str]:
    actions = {_action(when.args["then"]) for when in _clauses(merge)}
    return [operation for operation in _COUNTED_AS.values() if operation in actions]


def _action(then: Expr) -> str:
    if isinstance(then, exp.Insert):
        return "inserted"
    return "updated" if isinstance(then, exp.Update) else "deleted"
