"""Declares PostgreSQL as a kind of destination."""

from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.postgres.config import PostgresDestinationConfig

POSTGRES = DestinationKind(
    type="POSTGRES",
    title="PostgreSQL",
    resource="PostgresDestination",
    description="A PostgreSQL database that changes are applied to.",
    settings=PostgresDestinationConfig,
    factory="rosetta_dagster.cdc.destination.postgres.factory",
)
