"""Statements that give a role what it needs at one place, as a script that an administrator reads and runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The statements for one place."""

    #: The place, and as whom they are to be run.
    place: str
    notes: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return it as a script: notes are comments."""
        return [*(f"-- {line}" for line in (self.place, *self.notes)), *(f"{each};" for each in self.statements)]


def namespaces(tables: Iterable[TableId]) -> Sequence[str]:
    """Return the namespaces of these tables, each once."""
    return sorted({table.namespace for table in tables})


def with_names(statement: str, *names: str | TableId) -> str:
    """Return a statement of PostgreSQL with names, quoted where they have to be.

    >>> with_names("GRANT SELECT ON {} TO {}", TableId("public", "Orders"), "reader")
    'GRANT SELECT ON "public"."Orders" TO "reader"'
    """
    return statement.format(*(_quoted(name) for name in names))


def _quoted(name: str | TableId) -> str:
    parts = name if isinstance(name, TableId) else (name,)
    return sql.Identifier(*parts).as_string(None)
