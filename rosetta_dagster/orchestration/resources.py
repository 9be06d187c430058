"""Sources and destinations as Dagster resources: they open connections, and hold no secret."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import psycopg
from pydantic import Field, SecretStr

from rosetta_dagster.cdc.config import (
    DestinationConfig,
    PostgresConnection,
    PostgresDestinationConfig,
    SourceConfig,
    checked,
)
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.settings import open_store


def secret_of_environment(variable: str | None, owner: str) -> SecretStr | None:
    """The secret in this variable; None when none is named. `ConfigurationError` when the variable is not set."""
    if variable is None:
        return None
    if variable not in os.environ:
        raise ConfigurationError(
            f"The environment variable {variable} is not set, which holds the password of {owner}.",
            "Set it for every process of Rosetta.",
        )
    return SecretStr(os.environ[variable])


class _PostgresResource(dg.ConfigurableResource[Any]):
    """What a source and a PostgreSQL destination have in common.

    The password is named, not given: Dagster stores and shows what a resource is made of. `password_env="SHOP_PASSWORD"`
    and `password=dagster.EnvVar("SHOP_PASSWORD")` are the same. Without either, it is that of the row in the configuration
    database.
    """

    name: str = Field(description="Name of the row in the configuration database.")
    host: str = Field(description="Host of the server.")
    port: int = Field(default=5432, description="TCP port of the server.")
    database: str = Field(description="Database on the server.")
    username: str = Field(description="Role that connects.")
    sslmode: str = Field(default="prefer", description="TLS mode of libpq.")
    password_env: str | None = Field(
        default=None, description="Environment variable that holds the password; none: the row's own password."
    )

    password: str | None = Field(default=None, description="dagster.EnvVar of that variable, instead of its name.")

    def __init__(self, **fields: Any) -> None:
        if (password := fields.pop("password", None)) is not None:
            if not isinstance(password, dg.EnvVar):
                raise ConfigurationError(
                    "A password stands in the code, and Dagster would store and show it.",
                    'Put it into an environment variable and write password=dagster.EnvVar("ITS_NAME").',
                )
            fields["password_env"] = password.env_var_name
        super().__init__(**fields)

    @contextmanager
    def connect(self) -> Iterator["psycopg.Connection[Any]"]:
        """A connection in autocommit mode, closed with the block."""
        with psycopg.connect(self.connection().conninfo(application_name="rosetta"), autocommit=True) as connection:
            yield connection

    def connection(self) -> PostgresConnection:
        """Where to connect, password included."""
        values = self.fields()
        password = self.secret()
        return checked(PostgresConnection, {**values, "password": password}, f"Resource {self.name}")

    def fields(self) -> dict[str, Any]:
        """The connection without its password."""
        return {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "username": self.username,
            "sslmode": self.sslmode,
        }

    def secret(self) -> SecretStr | None:
        """The password from the environment, else from the row."""
        return secret_of_environment(self.password_env, self.name) or self.stored_password()

    def stored_password(self) -> SecretStr | None:
        raise AssertionError("a resource is of one of the two kinds below")

    def __repr__(self) -> str:
        # The default prints every field, with the values that environment variables resolve to.
        return f"{type(self).__name__}({self.name})"


class PostgresSource(_PostgresResource):
    """A PostgreSQL database that changes are captured from."""

    publication_name: str | None = Field(default=None, description="Publication to use; none: rosetta_<pipeline>.")
    replication_name: str | None = Field(default=None, description="Slot to use, by one pipeline; none: rosetta_<pipeline>.")

    def stored_password(self) -> SecretStr | None:
        with open_store() as store:
            found: SourceConfig = store.source(self.name)
        return found.connection.password


class PostgresDestination(_PostgresResource):
    """A PostgreSQL database that changes are applied to."""

    namespace: str | None = Field(default=None, description="Where all tables go; none: as at the source.")

    def stored_password(self) -> SecretStr | None:
        with open_store() as store:
            found: DestinationConfig = store.destination(self.name)
        return checked(PostgresDestinationConfig, found.config, f"Destination {self.name}").password
