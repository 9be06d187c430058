"""A database of Snowflake as a destination's tests use it: the row that leads there, and a session to look into it."""

import os
import uuid
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session, connect
from rosetta_dagster.cdc.destination.snowflake.login import log_in_of
from rosetta_dagster.embedded.snowflake import SnowflakeServer
from tests.support.snowflake_account import USER, WAREHOUSE, SnowflakeAccount


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
        return connect(config, log_in_of(config), who="the test", tag="test")

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


def live_config() -> dict[str, Any] | None:
    """`destinations.config` of the real account that the environment names; None when it names none."""
    environment = {
        "account": "SNOWFLAKE_ACCOUNT",
        "user": "SNOWFLAKE_USER",
        "database": "SNOWFLAKE_DATABASE",
        "warehouse": "SNOWFLAKE_WAREHOUSE",
        "role": "SNOWFLAKE_ROLE",
        "host": "SNOWFLAKE_HOST",
        "port": "SNOWFLAKE_PORT",
        "protocol": "SNOWFLAKE_PROTOCOL",
        "private_key_path": "SNOWFLAKE_PRIVATE_KEY_PATH",
        "private_key_passphrase": "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE",
    }
    config = {field: os.environ[name] for field, name in environment.items() if os.environ.get(name)}
    return config if {"account", "user", "database", "private_key_path"} <= config.keys() else None


def fresh_database(config: dict[str, Any]) -> SnowflakeDatabase:
    """A database of the real account, until `drop_database`; the role has to be able to make it."""
    name = f"ROSETTA_TEST_{uuid.uuid4().hex[:12].upper()}"
    account = SnowflakeDatabase(config=config)
    account.rows(f"CREATE TRANSIENT DATABASE {name}")
    account.session.close()
    return replace(account, config={**config, "database": name})


def drop_database(database: SnowflakeDatabase) -> None:
    database.rows(f"DROP DATABASE {database.config['database']}")
    database.session.close()
