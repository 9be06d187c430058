"""Defines a Snowflake destination's configuration: the account, the user, and how changes are written."""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from rosetta_dagster.cdc.destination.base import FlushPolicy

_MIB = 1024 * 1024

_NUMBER_TARGET = re.compile(r"NUMBER\((\d{1,2}),(\d{1,2})\)|FLOAT|VARCHAR")

#: One part of an account's identifier; `org-account`, or a locator with its region.
_ACCOUNT = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"


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


class SnowflakeConnection(BaseModel):
    """An account and the user who connects to it. Exactly one of three settings provides the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: `myorg-myaccount`, as in the address of the account before `.snowflakecomputing.com`.
    account: str = Field(min_length=1, pattern=_ACCOUNT)
    user: str = Field(min_length=1)
    database: str = Field(min_length=1)
    warehouse: str | None = Field(default=None, min_length=1)
    role: str | None = Field(default=None, min_length=1)
    #: The private key itself, as PEM; as the path of a file; or as the name of an environment variable that holds the PEM.
    private_key: SecretStr | None = None
    private_key_path: str | None = Field(default=None, min_length=1)
    private_key_env: str | None = Field(default=None, min_length=1)
    private_key_passphrase: SecretStr | None = None
    private_key_passphrase_env: str | None = Field(default=None, min_length=1)
    #: Only for a private link or a test server; else they follow from the account.
    host: str | None = Field(default=None, min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    protocol: str = Field(default="https", pattern="^https?$")

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        given = [self.private_key, self.private_key_path, self.private_key_env]
        if sum(key is not None for key in given) != 1:
            raise ValueError("give exactly one of private_key, private_key_path, private_key_env")
        if self.private_key_passphrase is not None and self.private_key_passphrase_env is not None:
            raise ValueError("give private_key_passphrase or private_key_passphrase_env, not both")
        return self

    def describe(self) -> str:
        """Return the connection for messages, without the key."""
        return f"{self.user}@{self.account}/{self.database}"


class SnowflakeDestinationConfig(SnowflakeConnection):
    """`destinations.config` of the type SNOWFLAKE."""

    #: Where all tables go; None: into the namespace that they have at the source.
    namespace: str | None = Field(default=None, alias="schema", min_length=1)
    #: Whether names keep their case. By default `orders` becomes ORDERS, which SQL writes without quotes.
    preserve_case: bool = False
    deletes: Deletes = Deletes.HARD
    deleted_at_column: str = Field(default="_ROSETTA_DELETED_AT", min_length=1)
    values: ValuePolicy = ValuePolicy()
    #: Changes are written when one of the three is reached. A warehouse is billed for a minute each time that it wakes.
    flush_seconds: float = Field(default=60.0, ge=0)
    flush_rows: int = Field(default=100_000, ge=1)
    flush_bytes: int = Field(default=64 * _MIB, ge=1)
    #: Seconds after which Snowflake ends a statement.
    statement_timeout: int = Field(default=3600, ge=1)

    @property
    def flush(self) -> FlushPolicy:
        return FlushPolicy(seconds=self.flush_seconds, rows=self.flush_rows, bytes=self.flush_bytes)
