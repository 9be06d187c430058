"""The settings of a PostgreSQL destination."""

from pydantic import Field

from rosetta_dagster.cdc.config.pipeline import PostgresConnection


class PostgresDestinationConfig(PostgresConnection):
    """`destinations.config` of the type POSTGRES."""

    namespace: str | None = Field(
        default=None, alias="schema", min_length=1, description="Schema of all tables; none: as at the source."
    )
