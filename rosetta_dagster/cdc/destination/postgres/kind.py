"""Declares PostgreSQL as a kind of destination."""

from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.postgres.config import PostgresDestinationConfig
from rosetta_dagster.cdc.destination.postgres.grants import grants

POSTGRES = DestinationKind(
    type="POSTGRES",
    title="PostgreSQL",
    resource="PostgresDestination",
    description="A PostgreSQL database that changes are applied to.",
    settings=PostgresDestinationConfig,
    is_reconciled=True,
    place=lambda config: "{}@{}:{}/{}".format(
        config.get("username", "?"), config.get("host", "?"), config.get("port", 5432), config.get("database", "?")
    ),
    grants=grants,
    factory="rosetta_dagster.cdc.destination.postgres.factory",
)
