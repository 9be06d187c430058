"""Plays what Snowflake's documentation leaves open, in the way that is worse for a client.

Two parameters of the emulator's own, for ALTER ACCOUNT or ALTER SESSION:

- EMULATOR_STALE_UPDATES: an UPDATE that waited for its table decides by the rows of before it waited.
- EMULATOR_STALE_READS: a session that is older than a commit of another session may not see that commit, which
  READ_CONSISTENCY_MODE = SESSION allows. Reading such a table is refused here, where Snowflake would return old rows.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from fakesnow.cursor import FakeSnowflakeCursor
from sqlglot import Expr, exp

from rosetta_dagster.embedded.snowflake.emulator.errors import unsupported


class CommitTimes:
    """When sessions were opened, and when which of them last committed rows of a table."""

    def __init__(self) -> None:
        self._clock: Iterator[int] = itertools.count(1)
        self._commits: dict[str, dict[int, int]] = {}

    def now(self) -> int:
        return next(self._clock)

    def committed(self, session: int, tables: set[str]) -> None:
        for table in tables:
            self._commits.setdefault(table, {})[session] = self.now()

    def verify_visible(self, session: int, opened_at: int, tables: set[str]) -> None:
        """Refuse to read a table that another session has written since this one was opened.

        Raises:
            SnowflakeError: 009999.

        """
        for table in sorted(tables):
            if any(at > opened_at for other, at in self._commits.get(table, {}).items() if other != session):
                raise unsupported(f"{table} has rows that this session may not see: another one has committed them")


def read_tables(statement: Expr) -> list[Expr]:
    """Return the tables that a statement reads: not those that it only adds rows to."""
    only_written = statement.find(exp.Table) if isinstance(statement, exp.Insert | exp.Copy) else None
    return [table for table in statement.find_all(exp.Table) if table is not only_written]


def is_conditional(statement: Expr) -> bool:
    """Return whether it is an UPDATE of one table with a condition."""
    return isinstance(statement, exp.Update) and bool(statement.args.get("where")) and not statement.args.get("from_")


def counts_now(cursor: FakeSnowflakeCursor, update: Expr, table: str, params: Sequence[Any]) -> int:
    """Return how many committed rows the condition of an UPDATE has now."""
    where = update.args["where"].copy()
    own = list(params)[len(params) - len(list(where.find_all(exp.Placeholder))) :]
    select = exp.select("COUNT(*)").from_(exp.to_table(table)).where(where.this)
    sql = cursor._transform(select, own or None).sql(dialect="duckdb")
    counts = cursor._duck_conn.cursor().execute(sql, own).fetchone()
    return int(counts[0]) if counts else 0


def without_condition(update: Expr, params: list[Any] | None) -> list[Any] | None:
    """Remove the condition. Return the bindings that are left."""
    count = len(list(update.args["where"].find_all(exp.Placeholder)))
    update.set("where", None)
    return params[: len(params) - count] if params and count else params
