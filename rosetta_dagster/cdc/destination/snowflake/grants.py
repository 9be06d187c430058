"""Writes the statements that give the role of a Snowflake destination what it needs, and nothing more."""

from collections.abc import Sequence
from typing import Any

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, TableConfig
from rosetta_dagster.cdc.grants import Grants


def grants(row: DestinationConfig, tables: Sequence[TableConfig]) -> Grants:  # noqa: ARG001 - the role creates every schema
    """Return the statements for the role and the user that the row names."""
    database, role = _name(row.config.get("database")), _name(row.config.get("role") or "ROSETTA")
    user, warehouse = _name(row.config.get("user")), row.config.get("warehouse")
    statements = [
        f"CREATE ROLE IF NOT EXISTS {role}",
        f"GRANT ROLE {role} TO USER {user}",
        f"GRANT USAGE, CREATE SCHEMA ON DATABASE {database} TO ROLE {role}",
    ]
    if warehouse:
        statements.append(f"GRANT USAGE ON WAREHOUSE {_name(warehouse)} TO ROLE {role}")
    return Grants(
        place=f"destination {row.name} at Snowflake, as SECURITYADMIN or the owner of the database",
        notes=(
            "In a schema that exists already the role needs USAGE and CREATE TABLE as well.",
            "rosetta keys generate makes the user's key, and prints the statement that registers it.",
        ),
        statements=tuple(statements),
    )


def _name(name: Any) -> str:
    text = str(name or "")
    return text if text.isidentifier() and text.isascii() else '"' + text.replace('"', '""') + '"'
