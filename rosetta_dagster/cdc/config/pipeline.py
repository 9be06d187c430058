"""What a pipeline is told to do: the rows of the configuration database as checked values, with secrets typed as secrets."""

import hashlib
import re
from enum import StrEnum
from typing import Any, TypeVar

from psycopg.conninfo import make_conninfo
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.table_id import TableId

#: PostgreSQL cuts longer names silently, and two cut names could be the same.
NAME_LIMIT = 63

#: Seconds that a server may take to accept a connection.
CONNECT_TIMEOUT = 10


class Status(StrEnum):
    """What the operator wants of a pipeline."""

    START = "START"
    PAUSE = "PAUSE"
    #: Restart it; Rosetta writes START back.
    REFRESH = "REFRESH"


class Health(StrEnum):
    """How a pipeline is, in one word."""

    HEALTHY = "HEALTHY"
    WARNING = "WARNING"
    ERROR = "ERROR"


class SchemaPolicy(StrEnum):
    """What happens to a table whose columns change at the source."""

    #: The destinations follow as far as they can; a table that cannot be followed is set aside.
    APPLY = "APPLY"
    #: The table is set aside until it is resynced.
    STOP_TABLE = "STOP_TABLE"


class TypePolicy(StrEnum):
    """What a PostgreSQL destination does about types that the source's users have defined."""

    #: It creates enums, domains and composite types that are missing, and follows added labels.
    CREATE = "CREATE"
    #: Their columns are `text` there.
    TEXT = "TEXT"


class TableState(StrEnum):
    """How far a table of a pipeline has come."""

    PENDING = "PENDING"
    SNAPSHOT = "SNAPSHOT"
    STREAMING = "STREAMING"
    #: Set aside: the others go on without it.
    ERROR = "ERROR"


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresConnection(_Config):
    """Where a PostgreSQL database is and who connects to it."""

    host: str = Field(min_length=1)
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = Field(min_length=1)
    username: str = Field(min_length=1)
    password: SecretStr | None = None
    sslmode: str = Field(default="prefer", pattern="^(disable|allow|prefer|require|verify-ca|verify-full)$")

    def conninfo(self, **more: str | int) -> str:
        """Connection string of libpq; it holds the password. A peer that is silently gone is noticed in half a minute."""
        parameters: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.username,
            "sslmode": self.sslmode,
            "client_encoding": "UTF8",
            "connect_timeout": CONNECT_TIMEOUT,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            **more,
        }
        if self.password is not None:
            parameters["password"] = self.password.get_secret_value()
        return make_conninfo("", **parameters)

    def describe(self) -> str:
        """The connection in a message: everything but the password."""
        return f"{self.username}@{self.host}:{self.port}/{self.database}"


class SourceConfig(_Config):
    """A row of `sources`."""

    name: str
    connection: PostgresConnection
    publication_name: str | None = None
    replication_name: str | None = None


class DestinationConfig(_Config):
    """A row of `destinations`, its secrets decrypted."""

    name: str
    type: str
    config: dict[str, Any] = Field(repr=False)


class PostgresDestinationConfig(PostgresConnection):
    """`destinations.config` of the type POSTGRES."""

    #: Where all tables go; None: into the namespace that they have at the source.
    namespace: str | None = Field(default=None, alias="schema", min_length=1)


class TableConfig(_Config):
    """A row of `pipeline_tables`."""

    id: TableId
    target_namespace: str | None = None
    target_name: str | None = None
    #: Whether it is to be copied anew.
    resync: bool = False


class PipelineConfig(_Config):
    """A pipeline with all that it needs to run."""

    id: int
    name: str
    engine: Engine
    source: SourceConfig
    destinations: tuple[DestinationConfig, ...]
    tables: tuple[TableConfig, ...]
    on_schema_change: SchemaPolicy = SchemaPolicy.APPLY
    types: TypePolicy = TypePolicy.CREATE
    own_publication_name: str | None = None
    own_replication_name: str | None = None

    @property
    def slot_name(self) -> str:
        """The replication slot: the pipeline's own, else the source's, else one named after the pipeline."""
        return self.own_replication_name or self.source.replication_name or default_name(self.name)

    @property
    def publication_name(self) -> str:
        return self.own_publication_name or self.source.publication_name or default_name(self.name)


def default_name(pipeline: str) -> str:
    """The name of a pipeline's slot and publication when none is given.

    A slot's name is of lower-case letters, digits and underscores. When that changes or cuts the pipeline's name, a hash
    of it keeps two pipelines apart.

    >>> default_name("shop")
    'rosetta_shop'
    >>> default_name("Shop")
    'rosetta_shop_d00aae6b'
    """
    plain = re.sub(r"[^a-z0-9_]", "_", pipeline.lower())
    if plain == pipeline and len(plain) <= NAME_LIMIT - len("rosetta_"):
        return f"rosetta_{plain}"
    mark = hashlib.sha256(pipeline.encode()).hexdigest()[:8]
    return f"rosetta_{plain[: NAME_LIMIT - len('rosetta_') - 9]}_{mark}"


_Model = TypeVar("_Model", bound=BaseModel)


def checked(model: type[_Model], values: dict[str, Any], place: str) -> _Model:
    """The values as the model; `ConfigurationError` names each field that is wrong and never its value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg'].lower()}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise ConfigurationError(f"{place} is not valid: {wrong}.", "Correct the row.") from None
