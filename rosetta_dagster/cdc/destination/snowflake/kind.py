"""Declares Snowflake as a kind of destination."""

from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.grants import grants

SNOWFLAKE = DestinationKind(
    type="SNOWFLAKE",
    title="Snowflake",
    resource="SnowflakeDestination",
    description="A Snowflake database that changes are applied to.",
    settings=SnowflakeDestinationConfig,
    is_reconciled=True,
    place=lambda config: "{}@{}/{}".format(*(config.get(name, "?") for name in ("user", "account", "database"))),
    grants=grants,
    factory="rosetta_dagster.cdc.destination.snowflake.factory",
    extra="snowflake",
)
