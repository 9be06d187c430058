"""The settings of a Snowflake destination: the account, who connects to it, and how changes are written there."""

import os
import re
from enum import StrEnum
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rosetta_dagster.cdc.config.places import is_loopback
from rosetta_dagster.cdc.config.surfaces import BOUND, SHOWN, VARIABLE, Flag, Secret
from rosetta_dagster.cdc.config.variables import refusal_in_row
from rosetta_dagster.cdc.config.wording import worded
from rosetta_dagster.cdc.destination.base import FlushPolicy
from rosetta_dagster.cdc.destination.schedule import FlushSchedule

_MIB = 1024 * 1024

_NUMBER_TARGET = re.compile(r"NUMBER\((\d{1,2}),(\d{1,2})\)|FLOAT|VARCHAR")

#: One part of an account's identifier; `org-account`, or a locator with its region.
_ACCOUNT = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"

_SNOWFLAKE_HOST = re.compile(r"([A-Za-z0-9_-]+\.)+snowflakecomputing\.(com|cn)")

#: The variable that tests and the demo set, so that rows may name an emulator on this machine.
EMULATOR = "ROSETTA_SNOWFLAKE_EMULATOR"


class LogInMethod(StrEnum):
    """How the user logs in."""

    KEY_PAIR = "key_pair"
    #: A programmatic access token.
    TOKEN = "token"  # noqa: S105 - the name of a method
    #: Client credentials of an OAuth client at an identity provider.
    OAUTH = "oauth"
    #: The identity that a cloud gives this machine, or a token of an OpenID provider.
    WORKLOAD_IDENTITY = "workload_identity"


class Deletes(StrEnum):
    """How a row that is deleted at the source is treated."""

    #: It is deleted.
    HARD = "hard"
    #: It stays, with the time of its deletion in `deleted_at_column`.
    SOFT = "soft"


class Substitute(StrEnum):
    """What is written in place of a value that Snowflake cannot hold."""

    NULL = "null"
    #: The nearest that it can hold.
    CLAMP = "clamp"
    #: Nothing: the pipeline stops and names the column.
    ERROR = "error"


class Oversized(StrEnum):
    """What is written in place of a value that is longer than `value_limit_bytes`."""

    ERROR = "error"
    NULL = "null"
    #: Its beginning. JSON cannot be cut and becomes NULL.
    TRUNCATE = "truncate"


def _number_target(text: str) -> str:
    found = _NUMBER_TARGET.fullmatch(text.replace(" ", "").upper())
    if found is None or (found[1] and not int(found[2]) <= int(found[1]) <= 38):
        raise ValueError("must be NUMBER(p,s) with s <= p <= 38, FLOAT or VARCHAR")
    return found[0]


NumberTarget = Annotated[str, AfterValidator(_number_target)]


class ValuePolicy(BaseModel):
    """How values are treated that Snowflake cannot hold. In a key such a value is always an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Infinite dates and timestamps, and those before the year 1 or after 9999.
    dates: Substitute = Substitute.NULL
    #: NaN and infinity in a column that is a NUMBER at Snowflake.
    nan: Literal[Substitute.NULL, Substitute.ERROR] = Substitute.NULL
    oversized: Oversized = Oversized.ERROR
    #: Bytes of one value; accounts that were opened before 2025 may allow no more than the default. Of BINARY, half.
    value_limit_bytes: int = Field(default=16 * _MIB, ge=1024, le=128 * _MIB)
    #: For columns of `numeric`, as `namespace.table.column`, the type at Snowflake that is to hold them.
    numbers: dict[str, NumberTarget] = Field(default_factory=dict)


#: The settings that each method needs: of each group one.
_NEEDS: dict[LogInMethod, tuple[tuple[str, ...], ...]] = {
    LogInMethod.KEY_PAIR: (),
    LogInMethod.TOKEN: (("token", "token_env"),),
    LogInMethod.OAUTH: (
        ("oauth_token_url",),
        ("oauth_client_id",),
        ("oauth_client_secret", "oauth_client_secret_env"),
    ),
    LogInMethod.WORKLOAD_IDENTITY: (("workload_identity_provider",),),
}


class SnowflakeConnection(BaseModel):
    """An account and the user who connects to it, by one of several methods."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account: Annotated[str, SHOWN, BOUND] = Field(
        min_length=1, pattern=_ACCOUNT, description="Account as organization-account, as in its address."
    )
    user: Annotated[str, SHOWN, BOUND] = Field(min_length=1, description="User that the public key is registered for.")
    database: Annotated[str, SHOWN] = Field(min_length=1, description="Database that the tables go into.")
    warehouse: Annotated[str | None, SHOWN] = Field(
        default=None, min_length=1, description="Warehouse that runs the statements; none: the user's own."
    )
    copy_warehouse: Annotated[str | None, SHOWN] = Field(
        default=None, min_length=1, description="Warehouse that loads copies of whole tables; none: warehouse."
    )
    role: Annotated[str | None, SHOWN] = Field(default=None, min_length=1, description="Role; none: the user's own.")
    login: Annotated[LogInMethod, SHOWN] = Field(
        default=LogInMethod.KEY_PAIR, description="Method of the log-in: a key pair, a token, OAuth, or workload identity."
    )
    private_key: Annotated[SecretStr | None, Secret(is_file=True), Flag("--key")] = Field(
        default=None, description="Private key as PEM: PKCS#8, encrypted."
    )
    private_key_path: Annotated[str | None, Flag("--key-path")] = Field(
        default=None, min_length=1, description="Path of the private key's file on every worker, instead of the key."
    )
    private_key_env: Annotated[str | None, Flag("--key-env")] = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the private key as PEM."
    )
    private_key_passphrase: Annotated[SecretStr | None, Secret(variable="ROSETTA_PASSPHRASE"), Flag("--passphrase")] = Field(
        default=None, description="Passphrase of the private key."
    )
    private_key_passphrase_env: Annotated[str | None, Flag("--passphrase-env")] = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the passphrase of the key."
    )
    allow_unencrypted_key: bool = Field(default=False, description="Accept a private key that is not encrypted.")
    token: Annotated[SecretStr | None, Secret(is_file=True)] = Field(
        default=None, description="Programmatic access token; with workload identity of OIDC, the provider's token."
    )
    token_env: str | None = Field(default=None, pattern=VARIABLE, description="Environment variable that holds the token.")
    oauth_token_url: Annotated[str | None, SHOWN, BOUND] = Field(
        default=None, min_length=1, description="Address where the identity provider issues tokens, over HTTPS."
    )
    oauth_client_id: Annotated[str | None, SHOWN] = Field(default=None, min_length=1, description="Client of OAuth.")
    oauth_client_secret: Annotated[SecretStr | None, Secret(is_file=True)] = Field(
        default=None, description="Secret of the client of OAuth."
    )
    oauth_client_secret_env: str | None = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the client's secret."
    )
    oauth_scope: Annotated[str | None, SHOWN] = Field(
        default=None, min_length=1, description="Scope of OAuth; none: session:role: with the role."
    )
    workload_identity_provider: Annotated[str | None, SHOWN] = Field(
        default=None,
        pattern="^(AWS|AZURE|GCP|OIDC)$",
        description="Who gives this machine its identity: AWS, AZURE, GCP, OIDC.",
    )
    host: Annotated[str | None, SHOWN, BOUND] = Field(
        default=None, min_length=1, description="Host of a private link; none: it follows from the account."
    )
    port: Annotated[int | None, SHOWN, BOUND] = Field(default=None, ge=1, le=65535, description="TCP port of that host.")
    protocol: Annotated[Literal["https", "http"], SHOWN] = Field(default="https", description="http for an emulator only.")

    @field_validator("private_key_env", "private_key_passphrase_env", "token_env", "oauth_client_secret_env")
    @classmethod
    def _may_be_named(cls, variable: str | None, info: ValidationInfo) -> str | None:
        if variable is not None and (refusal := refusal_in_row(variable)) is not None:
            raise worded(f"{info.field_name}: {refusal}")
        return variable

    @model_validator(mode="after")
    def _reaches_snowflake(self) -> Self:
        """A log-in that another server is given is as good as the key for a minute, so no row decides who is given it."""
        if self.host is not None and is_loopback(self.host) and os.environ.get(EMULATOR):
            return self
        if self.protocol != "https":
            raise worded("protocol has to be https; http is for the emulator of tests and of the demo")
        if self.host is not None and _SNOWFLAKE_HOST.fullmatch(self.host) is None:
            raise worded("host has to be one of Snowflake's, as myorg-dw.privatelink.snowflakecomputing.com")
        return self

    @model_validator(mode="after")
    def _has_what_its_method_needs(self) -> Self:
        missing = [names for names in _NEEDS[self.login] if not any(getattr(self, name) for name in names)]
        if self.login is LogInMethod.WORKLOAD_IDENTITY and self.workload_identity_provider == "OIDC":
            missing += [names for names in _NEEDS[LogInMethod.TOKEN] if not any(getattr(self, name) for name in names)]
        if missing:
            raise worded(f"login: {self.login.value} needs {', '.join(' or '.join(names) for names in missing)}")
        for one, other in (("token", "token_env"), ("oauth_client_secret", "oauth_client_secret_env")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise worded(f"give {one} or {other}, not both")
        url = urlsplit(self.oauth_token_url or "https:")
        if url.scheme != "https" and not (is_loopback(url.hostname or "") and os.environ.get(EMULATOR)):
            raise worded("oauth_token_url has to begin with https://")
        return self

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if self.login is not LogInMethod.KEY_PAIR:
            return self
        given = [self.private_key, self.private_key_path, self.private_key_env]
        if sum(key is not None for key in given) != 1:
            raise ValueError("give exactly one of private_key, private_key_path, private_key_env")
        if self.private_key_passphrase is not None and self.private_key_passphrase_env is not None:
            raise ValueError("give private_key_passphrase or private_key_passphrase_env, not both")
        return self

    def describe(self) -> str:
        """Return the connection for a message, without the key."""
        return f"{self.user}@{self.account}/{self.database}"


class SnowflakeDestinationConfig(SnowflakeConnection):
    """`destinations.config` of the type SNOWFLAKE."""

    namespace: str | None = Field(
        default=None, alias="schema", min_length=1, description="Schema of all tables; none: as at the source."
    )
    preserve_case: bool = Field(default=False, description="Keep the case of names. By default orders becomes ORDERS.")
    deletes: Deletes = Field(default=Deletes.HARD, description="soft marks deleted rows instead of deleting them.")
    deleted_at_column: str = Field(
        default="_ROSETTA_DELETED_AT",
        min_length=1,
        description="Column that says when a row was deleted, with soft deletes.",
    )
    values: ValuePolicy = Field(default=ValuePolicy(), description="What is written for values that Snowflake cannot hold.")
    # Changes are written when one of the three is reached. A warehouse is billed for a minute each time that it wakes.
    flush_seconds: float = Field(default=60.0, ge=0, description="Seconds that changes may wait to be written together.")
    flush_schedule: Annotated[str | None, SHOWN] = Field(
        default=None, description="Cron expression of the times when changes are written, instead of flush_seconds."
    )
    flush_time_zone: Annotated[str, SHOWN] = Field(default="UTC", description="Time zone of flush_schedule.")
    flush_rows: int = Field(default=100_000, ge=1, description="Changes that may wait.")
    flush_bytes: int = Field(default=64 * _MIB, ge=1, description="Bytes of changes that may wait.")
    merge_parallelism: int = Field(
        default=8, ge=1, le=32, description="Tables that are staged and merged at the same time within a flush."
    )
    transient: bool = Field(default=False, description="Create tables as TRANSIENT: without the seven days of Fail-safe.")
    retention_days: int | None = Field(
        default=None, ge=0, le=90, description="DATA_RETENTION_TIME_IN_DAYS of created tables; none: the schema's."
    )
    cluster_by: dict[str, list[str]] | None = Field(
        default=None, description='Clustering keys of created tables, as {"public.orders": ["created_at"]}.'
    )
    statement_timeout: int = Field(default=3600, ge=1, description="Seconds after which Snowflake ends a statement.")

    @model_validator(mode="after")
    def _is_due_at_times(self) -> Self:
        problem = self._schedule.problem if self._schedule is not None else None
        if problem is not None:
            raise worded(problem)
        return self

    @model_validator(mode="after")
    def _may_be_kept(self) -> Self:
        if self.transient and (self.retention_days or 0) > 1:
            raise worded(
                "retention_days has to be 0 or 1 with transient: Snowflake keeps transient tables for a day at most"
            )
        return self

    @property
    def flush(self) -> FlushPolicy:
        return FlushPolicy(seconds=self.flush_seconds, rows=self.flush_rows, bytes=self.flush_bytes, schedule=self._schedule)

    @property
    def _schedule(self) -> FlushSchedule | None:
        return None if self.flush_schedule is None else FlushSchedule(self.flush_schedule, self.flush_time_zone)
