"""A database of Snowflake as a destination's tests use it: the row that leads there, and a session to look into it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session, connect
from rosetta_dagster.cdc.destination.snowflake.keys import key_of
from rosetta_dagster.embedded.snowflake import SnowflakeServer
from tests.snowflake_account import USER, WAREHOUSE, SnowflakeAccount


@dataclass(frozen=True, kw_only=True)
class SnowflakeDatabase:
    """A database that one test has to itself."""

    #: As `destinations.config` has it.
    config: dict[str, Any]
    #: The emulator; None when the account is a real one.
    server: SnowflakeServer | None = None

    @cached_property
    def session(self) -> Session:
        config = SnowflakeDestinationConfig.model_validate(self.config)
        return connect(config, key_of(config), who="the test", tag="test")

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.session.execute(statement, parameters)


def database_of(account: SnowflakeAccount) -> SnowflakeDatabase:
    """The account's database as a destination."""
    config = {
        **account.server.address,
        "user": USER,
        "warehouse": WAREHOUSE,
        "database": account.database,
        "private_key": account.key_pair.private_key,
        "private_key_passphrase": account.key_pair.passphrase,
    }
    return SnowflakeDatabase(config=config, server=account.server)
