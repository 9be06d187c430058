"""Sources and destinations as Dagster resources: they open connections, and hold no secret."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import dagster as dg
import psycopg
from pydantic import Field, SecretStr

from rosetta_dagster.cdc.config.pipeline import (
    DestinationConfig,
    PostgresConnection,
    PostgresDestinationConfig,
    SourceConfig,
    checked,
)
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.operate.inspection import SnowflakeSession, snowflake_session, verify_snowflake
from rosetta_dagster.settings import open_store


def secret_of_environment(variable: str | None, owner: str) -> SecretStr | None:
    """The password in this variable; None when none is named. `ConfigurationError` when the variable is not set."""
    return None if variable is None else SecretStr(environment_secret(variable, owner, "password"))


def environment_secret(variable: str, owner: str, what: str) -> str:
    """The secret in this variable. `ConfigurationError` when the variable is not set."""
    if variable not in os.environ:
        raise ConfigurationError(
            f"The environment variable {variable} is not set, which holds the {what} of {owner}.",
            "Set it for every process of Rosetta.",
        )
    return os.environ[variable]


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


class SnowflakeDestination(dg.ConfigurableResource[Any]):
    """A Snowflake database that changes are applied to.

    The key is named, not given, since Dagster stores and shows what a resource is made of: as the path of a file, or as an
    environment variable that holds the PEM. `private_key_env="DW_KEY"` and `private_key=dagster.EnvVar("DW_KEY")` are the
    same, and so it is with the passphrase. Neither the key nor the passphrase is written to the configuration database.
    """

    name: str = Field(description="Name of the row in the configuration database.")
    account: str = Field(description="Account as organization-account.")
    user: str = Field(description="User that the public key is registered for.")
    database: str = Field(description="Database that the tables go into.")
    warehouse: str | None = Field(default=None, description="Warehouse that runs the statements; none: the user's own.")
    role: str | None = Field(default=None, description="Role; none: the user's own.")
    namespace: str | None = Field(default=None, description="Schema where all tables go; none: as at the source.")
    private_key_path: str | None = Field(default=None, description="File that holds the private key as PEM.")
    private_key_env: str | None = Field(default=None, description="Environment variable that holds the private key as PEM.")
    private_key_passphrase_env: str | None = Field(
        default=None, description="Environment variable that holds the passphrase of the key."
    )
    host: str | None = Field(default=None, description="Host of a private link; none: it follows from the account.")
    port: int | None = Field(default=None, description="TCP port of that host.")
    protocol: str | None = Field(default=None, description="http for a test server; none: https.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="What else destinations.config may hold: deletes, preserve_case, values, flush_seconds, …",
    )
    private_key: str | None = Field(default=None, description="dagster.EnvVar of that variable, instead of its name.")
    private_key_passphrase: str | None = Field(default=None, description="dagster.EnvVar of that variable.")

    def __init__(self, **fields: Any) -> None:
        for secret in ("private_key", "private_key_passphrase"):
            if (given := fields.pop(secret, None)) is not None:
                if not isinstance(given, dg.EnvVar):
                    raise ConfigurationError(
                        f"A {secret} stands in the code, and Dagster would store and show it.",
                        f'Put it into an environment variable and write {secret}=dagster.EnvVar("ITS_NAME").',
                    )
                fields[f"{secret}_env"] = given.env_var_name
        if secrets := {"private_key", "private_key_passphrase"} & fields.get("options", {}).keys():
            raise ConfigurationError(
                f"The options of destination {fields.get('name')} hold {min(secrets)}, and Dagster would store and show it.",
                f"Name an environment variable: {min(secrets)}_env.",
            )
        super().__init__(**fields)

    @contextmanager
    def connect(self) -> Iterator[SnowflakeSession]:
        """A session in autocommit mode, closed with the block; without a key here, by the key of the row."""
        with snowflake_session(self.name, self.config() if self._names_a_key else self._stored_config()) as session:
            yield session

    def config(self) -> dict[str, Any]:
        """As `destinations.config` has it. `ConfigurationError` when it is not complete."""
        names = ("account", "user", "database", "warehouse", "role", "host", "port", "protocol")
        keys = ("private_key_path", "private_key_env", "private_key_passphrase_env")
        own = {**{name: getattr(self, name) for name in (*names, *keys)}, "schema": self.namespace}
        if not self._names_a_key:
            raise ConfigurationError(f"Destination {self.name} has no key.", "Give it private_key_path or private_key_env.")
        config = {**self.options, **{name: value for name, value in own.items() if value is not None}}
        verify_snowflake(self.name, config)
        return config

    @property
    def _names_a_key(self) -> bool:
        return self.private_key_path is not None or self.private_key_env is not None

    def _stored_config(self) -> dict[str, Any]:
        with open_store() as store:
            found: DestinationConfig = store.destination(self.name)
        return found.config

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


Resource: TypeAlias = PostgresSource | PostgresDestination | SnowflakeDestination
