"""Writes the statements that give the role of a PostgreSQL destination what it needs, and nothing more."""

from collections.abc import Sequence
from typing import Final

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, TableConfig
from rosetta_dagster.cdc.grants import Grants, namespaces, with_names

#: Rosetta's own schema at a destination.
_STATE: Final = "rosetta"


def grants(row: DestinationConfig, tables: Sequence[TableConfig]) -> Grants:
    """Return the statements for the role that the row names."""
    user, database = str(row.config.get("username", "")), str(row.config.get("database", ""))
    targets = [table.target(row.config.get("schema")) for table in tables]
    statements = [with_names("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}", database, user)]
    for name in [_STATE, *namespaces(targets)]:
        statements += [
            with_names("CREATE SCHEMA IF NOT EXISTS {}", name),
            with_names("GRANT USAGE, CREATE ON SCHEMA {} TO {}", name, user),
        ]
    return Grants(
        place=f"destination {row.name}, database {database}, as its owner",
        notes=("Tables that Rosetta creates belong to its role. One that exists already has to belong to it.",),
        statements=tuple(statements),
    )
