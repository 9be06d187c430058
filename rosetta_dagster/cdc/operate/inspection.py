"""Reads the columns and row counts of a pipeline's tables at its destinations, and opens sessions at Snowflake."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, checked
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table at one destination."""

    destination: str
    table: TableSchema
    #: Estimated for a large table.
    row_count: int


def inspect(config: PipelineConfig, tables: frozenset[TableId]) -> list[TableFacts]:
    """Return the facts of these tables at each destination. Tables that the pipeline no longer has are left out."""
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        schemas = read_schemas(connection, sorted(tables & {table.id for table in config.tables}))
    return [
        TableFacts(destination=row.name, table=schemas[table], row_count=count)
        for row in config.destinations
        for table, count in make_destination(row, config).row_counts(sorted(schemas)).items()
    ]


class SnowflakeSession(Protocol):
    """A session at Snowflake."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows. A `?` stands for a parameter if there are any."""


def verify_snowflake(name: str, config: dict[str, Any]) -> None:
    """Raise `ConfigurationError` when the config of a Snowflake destination is incomplete or has an unknown field."""
    _snowflake_config(name, config)


def describe_snowflake(name: str, config: dict[str, Any]) -> str:
    """Return user, account and the key's fingerprint. `ConfigurationError` when the config or the key is not valid."""
    from rosetta_dagster.cdc.destination.snowflake.keys import key_of  # noqa: PLC0415

    checked_config = _snowflake_config(name, config)
    return f"{checked_config.describe()}, key {key_of(checked_config).fingerprint}"


@contextmanager
def snowflake_session(name: str, config: dict[str, Any]) -> Iterator[SnowflakeSession]:
    """Open a session of a Snowflake destination in autocommit mode. It is closed with the block."""
    from rosetta_dagster.cdc.destination.snowflake.connection import connect as log_in  # noqa: PLC0415
    from rosetta_dagster.cdc.destination.snowflake.keys import key_of  # noqa: PLC0415

    checked_config = _snowflake_config(name, config)
    with log_in(checked_config, key_of(checked_config), who=f"destination {name}", tag="rosetta") as session:
        yield session


def _snowflake_config(name: str, config: dict[str, Any]) -> Any:
    # The driver is loaded only where it is used.
    from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig  # noqa: PLC0415

    return checked(SnowflakeDestinationConfig, config, f"The config of destination {name}")
