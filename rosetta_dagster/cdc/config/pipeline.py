"""The settings of sources, destinations, pipelines and tables. Each is declared here once, for every surface.

A field of `PostgresConnection`, `SourceOptions`, `PipelineOptions` and `TableOptions` is a column of the configuration
database, a field in Python and in YAML, an option of the command line, and a field of a job's configuration.
"""

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from psycopg.conninfo import make_conninfo
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.authentication import KINDS, allows_clear, auth_parameter
from rosetta_dagster.cdc.config.beginning import BeginningOptions
from rosetta_dagster.cdc.config.certificates import SYSTEM, refuse_wrong_text, root_file
from rosetta_dagster.cdc.config.mask_rules import MaskOptions, SaltOptions
from rosetta_dagster.cdc.config.patterns import PatternOptions
from rosetta_dagster.cdc.config.places import hosts_of, is_loopback
from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.config.slot_policy import SlotPolicy
from rosetta_dagster.cdc.config.surfaces import BOUND, SHOWN, Column, Secret
from rosetta_dagster.cdc.config.wording import problems, worded
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.table_id import TableId

#: PostgreSQL cuts longer names silently, and two cut names could be the same.
NAME_LIMIT = 63

#: Seconds that a server may take to accept a connection.
CONNECT_TIMEOUT = 10


class Status(StrEnum):
    """The status that the operator wants a pipeline to have."""

    START = "START"
    PAUSE = "PAUSE"
    #: Restart it; Rosetta writes START back.
    REFRESH = "REFRESH"


class Health(StrEnum):
    """The health of a pipeline."""

    HEALTHY = "HEALTHY"
    WARNING = "WARNING"
    ERROR = "ERROR"


class SchemaPolicy(StrEnum):
    """What happens to a table whose columns change at the source."""

    #: The destinations follow as far as they can; a table that cannot be followed is set aside.
    APPLY = "APPLY"
    #: The table is set aside until it is resynced.
    STOP_TABLE = "STOP_TABLE"


class GapPolicy(StrEnum):
    """What happens to a table when the stream may have missed some of its changes."""

    COPY = "COPY"
    STOP_TABLE = "STOP_TABLE"


class PartitionDropPolicy(StrEnum):
    """What happens to the rows of a partition that was dropped or detached at the source."""

    FOLLOW = "FOLLOW"
    KEEP = "KEEP"


class TypePolicy(StrEnum):
    """What a PostgreSQL destination does about types that the source's users have defined."""

    #: It creates enums, domains and composite types that are missing, and follows added labels.
    CREATE = "CREATE"
    #: Their columns are `text` there.
    TEXT = "TEXT"


class TableState(StrEnum):
    """The stage that a table of a pipeline has reached."""

    PENDING = "PENDING"
    SNAPSHOT = "SNAPSHOT"
    STREAMING = "STREAMING"
    #: Set aside: the others go on without it.
    ERROR = "ERROR"
    #: Not replicated, since an operator paused it.
    PAUSED = "PAUSED"


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Sslmode: TypeAlias = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

#: Where and as whom to connect may be shown to everybody.
_PLACE = SHOWN


class PostgresConnection(_Config):
    """Where a PostgreSQL database is and who connects to it."""

    host: Annotated[str, _PLACE, BOUND, Column("pg_host")] = Field(
        min_length=1, description="Host of the server; or several, separated by commas, of which the primary is used."
    )
    port: Annotated[int, _PLACE, BOUND, Column("pg_port")] = Field(
        default=5432, ge=1, le=65535, description="TCP port of the server."
    )
    database: Annotated[str, _PLACE, Column("pg_database")] = Field(min_length=1, description="Database on the server.")
    username: Annotated[str, _PLACE, BOUND, Column("pg_username")] = Field(min_length=1, description="Role that connects.")
    password: Annotated[SecretStr | None, Secret(variable="ROSETTA_PASSWORD"), Column("pg_password")] = Field(
        default=None, description="Password of the role."
    )
    sslmode: Annotated[Sslmode, _PLACE, Column("pg_sslmode")] = Field(default="prefer", description="TLS mode of libpq.")
    require_auth: Annotated[str | None, _PLACE, Column("pg_require_auth")] = Field(
        default=None,
        pattern=KINDS,
        description="Kinds of authentication that the server may ask for, as libpq's require_auth. By default SCRAM: no "
        "server is sent a password in clear.",
    )

    sslrootcert: Annotated[str | None, _PLACE, BOUND, Column("pg_sslrootcert")] = Field(
        default=None,
        description="Authorities that the server's certificate is verified by, with sslmode verify-ca and verify-full: a "
        "file on the worker, the certificates themselves in PEM form, or system: those that the machine trusts.",
    )
    sslcert: Annotated[str | None, _PLACE, Column("pg_sslcert")] = Field(
        default=None, description="File on the worker with the certificate that Rosetta presents to the server."
    )
    sslkey: Annotated[str | None, _PLACE, Column("pg_sslkey")] = Field(
        default=None, description="File on the worker with the private key of sslcert, readable by its user only."
    )
    channel_binding: Annotated[str | None, _PLACE, Column("pg_channel_binding")] = Field(
        default=None,
        pattern="^(disable|prefer|require)$",
        description="Whether log-in is bound to the TLS session, as libpq's channel_binding. require: a server in between "
        "that has a certificate, too, is refused.",
    )

    @model_validator(mode="after")
    def _verifies_what_it_names(self) -> Self:
        if self.sslrootcert is not None:
            refuse_wrong_text(self.sslrootcert)
        if self.sslrootcert == SYSTEM and self.sslmode != "verify-full":
            raise worded(
                "sslrootcert 'system' needs sslmode 'verify-full': anybody can get a certificate of such an authority"
            )
        if (self.sslcert is None) != (self.sslkey is None):
            raise worded("sslcert and sslkey are given together")
        return self

    @model_validator(mode="after")
    def _sends_no_password_in_clear(self) -> Self:
        """Who writes the row also decides on the host, so only a server with a certificate may ask for the password."""
        if self.require_auth is None or not allows_clear(self.require_auth):
            return self
        if self.sslmode != "verify-full" and not is_loopback(self.host):
            raise worded("require_auth may allow 'password', which is sent in clear, only with sslmode 'verify-full'")
        return self

    def conninfo(self, **more: str | int) -> str:
        """Return libpq's connection string, password included. A silent peer is noticed within half a minute."""
        parameters: dict[str, Any] = {
            "host": self.host,
            **({"target_session_attrs": "primary"} if self.has_several_hosts else {}),
            "port": self.port,
            "dbname": self.database,
            "user": self.username,
            "sslmode": self.sslmode,
            **self._tls_parameters(),
            **auth_parameter(self.require_auth, has_password=self.password is not None),
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

    def _tls_parameters(self) -> dict[str, str]:
        """Return the parameters that are given; libpq's variables and files decide on the others."""
        given = {
            "sslrootcert": None if self.sslrootcert is None else root_file(self.sslrootcert),
            "sslcert": self.sslcert,
            "sslkey": self.sslkey,
            "channel_binding": self.channel_binding,
        }
        return {name: text for name, text in given.items() if text is not None}

    @property
    def has_several_hosts(self) -> bool:
        """Whether the server is one of several: the primary among them."""
        return len(hosts_of(self.host)) > 1

    def describe(self) -> str:
        """Return the connection for a message, without the password."""
        return f"{self.username}@{self.host}:{self.port}/{self.database}"


class SourceOptions(_Config):
    """The options of a source, beside its connection."""

    publication_name: str | None = Field(default=None, description="Publication to use; none: rosetta_<pipeline>.")
    replication_name: str | None = Field(
        default=None,
        pattern="^[a-z0-9_]+$",
        description="Replication slot to use, by one pipeline only; none: rosetta_<pipeline>.",
    )


class SourceSettings(PostgresConnection, SourceOptions):
    """Every setting of a source."""

    @property
    def connection(self) -> PostgresConnection:
        """The part that says where the source is."""
        return PostgresConnection(**{name: getattr(self, name) for name in PostgresConnection.model_fields})


class SourceConfig(SourceOptions):
    """A row of `sources`, its password decrypted."""

    name: str
    connection: PostgresConnection


class DestinationConfig(_Config):
    """A row of `destinations`, its secrets decrypted."""

    name: str
    type: str
    config: dict[str, Any] = Field(repr=False)


class TableOptions(BeginningOptions, MaskOptions, _Config):
    """The options of a table of a pipeline, beside its target."""

    comments: bool = Field(
        default=True, description="Copy the comments of the table and its columns, as they are when the table is copied."
    )
    columns: tuple[str, ...] = Field(default=(), description="Columns to replicate. None given: all.")
    exclude: tuple[str, ...] = Field(
        default=(), description="Columns that never leave the source. Those that are added later are replicated."
    )
    where: Annotated[str | None, Column("row_filter")] = Field(
        default=None,
        min_length=1,
        description="Condition of the rows to replicate, as CREATE PUBLICATION … WHERE takes it. None: all rows.",
    )

    @field_validator("exclude")
    @classmethod
    def _is_the_only_rule(cls, exclude: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if exclude and others.data.get("columns"):
            raise worded("columns and exclude cannot both be given: name the columns to replicate, or those to leave out")
        return exclude

    @property
    def selection(self) -> Selection:
        """What is replicated of the table."""
        return Selection(columns=self.columns, exclude=self.exclude, where=self.where)


class TableConfig(TableOptions):
    """A row of `pipeline_tables`, or of `pipeline_patterns`: then `id` is the pattern."""

    id: TableId
    target_namespace: str | None = None
    target_name: str | None = None
    #: Whether an operator asked for a new copy.
    resync: bool = False
    #: What a pattern gave to the row that it made; None for the row of an operator.
    by_pattern: str | None = None

    def target(self, namespace: str | None) -> TableId:
        """Return the table's own target, else a table of the destination's namespace, else the name at the source."""
        return TableId(self.target_namespace or namespace or self.id.namespace, self.target_name or self.id.name)


class PipelineOptions(PatternOptions, SaltOptions, _Config):
    """The options of a pipeline. The names of an option's values are the values."""

    engine: Engine = Field(default=Engine.DEBEZIUM, description="Capture engine.")
    on_schema_change: SchemaPolicy = Field(
        default=SchemaPolicy.APPLY,
        description="What happens to a table whose columns change at the source. APPLY: the destinations follow as far as "
        "they can. STOP_TABLE: the table is set aside until it is resynced.",
    )
    on_gap: GapPolicy = Field(
        default=GapPolicy.COPY,
        description="What happens to a table when the stream may have missed some of its changes. COPY: the table is copied "
        "again. STOP_TABLE: it is set aside, with the statement that resyncs it.",
    )
    on_partition_drop: PartitionDropPolicy = Field(
        default=PartitionDropPolicy.FOLLOW,
        description="What happens to the rows of a partition that was dropped or detached at the source. FOLLOW: they are "
        "removed from the destinations. KEEP: they stay there.",
    )
    on_slot_limit: SlotPolicy = Field(
        default=SlotPolicy.ALERT,
        description="What is done when the slot retains wal_error_bytes of WAL. ALERT: the check wal_lag fails. PAUSE: the "
        "pipeline is paused as well. DROP_SLOT: the slot is dropped, which frees the WAL, and all tables have to be copied "
        "again.",
    )
    types: TypePolicy = Field(
        default=TypePolicy.CREATE,
        description="What a PostgreSQL destination does about enums, domains and composite types. CREATE: those that are "
        "missing are created there. TEXT: their columns are text there.",
    )


class PipelineConfig(PipelineOptions):
    """A pipeline with everything that it needs to run."""

    id: int
    name: str
    source: SourceConfig
    destinations: tuple[DestinationConfig, ...]
    tables: tuple[TableConfig, ...]
    #: Tables that are not replicated for now.
    paused: tuple[TableConfig, ...] = ()
    #: Each stands for any number of tables.
    patterns: tuple[TableConfig, ...] = ()
    own_publication_name: str | None = None
    own_replication_name: str | None = None

    @property
    def slot_name(self) -> str:
        """Name of the replication slot: the pipeline's own, else the source's, else one after the pipeline."""
        return self.own_replication_name or self.source.replication_name or default_name(self.name)

    @property
    def selections(self) -> dict[TableId, Selection]:
        """The tables of which something is left out."""
        return {table.id: table.selection for table in self.tables if table.selection}

    @property
    def masks(self) -> dict[TableId, dict[str, str]]:
        """The masks of the tables that have any."""
        return {table.id: table.mask for table in self.tables if table.mask}

    @property
    def partly_copied(self) -> dict[TableId, str]:
        """The tables of which not all rows are copied, each with the condition of those that are."""
        return {table.id: table.copied_rows for table in self.tables if table.copied_rows is not None}

    @property
    def publication_name(self) -> str:
        return self.own_publication_name or self.source.publication_name or default_name(self.name)


def default_name(pipeline: str) -> str:
    """Return the name of a pipeline's slot and publication when none is given.

    A slot's name consists of lower-case letters, digits and underscores. When the pipeline's name has to be changed or cut
    for that, a hash of it distinguishes two pipelines.

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


def checked(model: type[_Model], values: dict[str, Any], place: str, remedy: str = "Correct the row.") -> _Model:
    """Return the values as the model. `ConfigurationError` names each wrong field, and never its value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{place} is not valid: {problems(error, model)}.", remedy) from None
