"""What the administration jobs are asked for, as typed configuration: shapes and limits, and never a secret.

A run's configuration is stored and shown by Dagster. So a secret is given as the name of an environment variable of the
process that runs the job.
"""

from typing import Any, Literal

import dagster as dg
from pydantic import Field

#: The name of an environment variable.
VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"

#: As the configuration database has it: a leading underscore could make a job's name that of an administration job.
PIPELINE_NAME = "^[A-Za-z0-9][A-Za-z0-9_]*$"

OnSchemaChange = Literal["APPLY", "STOP_TABLE"]

#: What the option of that name does.
ON_SCHEMA_CHANGE = "APPLY follows changed columns as far as it can; STOP_TABLE sets the table aside until it is resynced."

Sslmode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class CreateSource(dg.Config):
    """A new row of `sources`."""

    name: str = Field(min_length=1, description="Name of the new source.")
    host: str = Field(min_length=1, description="Host of the server.")
    port: int = Field(default=5432, ge=1, le=65535, description="TCP port of the server.")
    database: str = Field(min_length=1, description="Database on the server.")
    username: str = Field(min_length=1, description="Role that connects; it needs REPLICATION and SELECT.")
    password_env: str | None = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the password; none: no password."
    )
    sslmode: Sslmode = Field(default="prefer", description="TLS mode of libpq.")
    publication_name: str | None = Field(default=None, description="Publication to use; none: one is made.")
    replication_name: str | None = Field(
        default=None, pattern="^[a-z0-9_]+$", description="Replication slot to use; none: one is made."
    )


class PostgresTarget(dg.Config):
    """Where a PostgreSQL destination is."""

    host: str = Field(min_length=1, description="Host of the server.")
    port: int = Field(default=5432, ge=1, le=65535, description="TCP port of the server.")
    database: str = Field(min_length=1, description="Database on the server.")
    username: str = Field(min_length=1, description="Role that connects.")
    password_env: str | None = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the password; none: no password."
    )
    sslmode: Sslmode = Field(default="prefer", description="TLS mode of libpq.")
    namespace: str | None = Field(default=None, min_length=1, description="Where all tables go; none: as at the source.")


class SnowflakeTarget(dg.Config):
    """Where a Snowflake destination is, who connects to it, and how changes are written there."""

    account: str = Field(min_length=1, description="Account as organization-account.")
    user: str = Field(min_length=1, description="User that the public key is registered for.")
    database: str = Field(min_length=1, description="Database that the tables go into.")
    private_key_env: str = Field(
        pattern=VARIABLE, description="Environment variable that holds the private key: PKCS#8, encrypted, as PEM."
    )
    private_key_passphrase_env: str = Field(
        pattern=VARIABLE, description="Environment variable that holds the passphrase of the key."
    )
    warehouse: str | None = Field(default=None, min_length=1, description="None: the user's own.")
    role: str | None = Field(default=None, min_length=1, description="None: the user's own.")
    namespace: str | None = Field(default=None, min_length=1, description="Where all tables go; none: as at the source.")
    deletes: Literal["hard", "soft"] = Field(default="hard", description="soft marks deleted rows instead of deleting them.")
    preserve_case: bool = Field(default=False, description="False: orders becomes ORDERS.")
    flush_seconds: float = Field(default=60.0, ge=0, description="Seconds that changes may wait to be written together.")
    flush_rows: int = Field(default=100_000, ge=1, description="Changes that may wait.")
    host: str | None = Field(default=None, min_length=1, description="Of a private link; none: it follows from the account.")
    port: int | None = Field(default=None, ge=1, le=65535, description="TCP port of that host.")
    protocol: Literal["https", "http"] = Field(default="https", description="http for a test server.")


class CreateDestination(dg.Config):
    """A new row of `destinations`: one of the two."""

    name: str = Field(min_length=1, description="Name of the new destination.")
    postgres: PostgresTarget | None = Field(default=None, description="The PostgreSQL database that changes are applied to.")
    snowflake: SnowflakeTarget | None = Field(
        default=None, description="The Snowflake database that changes are applied to."
    )


class PipelineTable(dg.Config):
    """A table of a pipeline, and what it is called at the destinations."""

    table: str = Field(min_length=1, description="The source table as namespace.name; a name alone is of public.")
    target_namespace: str | None = Field(default=None, min_length=1, description="None: the destination's, else as it is.")
    target_name: str | None = Field(default=None, min_length=1, description="None: the name of the source table.")


class PipelineThresholds(dg.Config):
    """From where on the checks of a pipeline warn and fail; what is not named has its default."""

    wal_warning_bytes: int | None = Field(default=None, ge=0, description="WAL that the slot retains.")
    wal_error_bytes: int | None = Field(default=None, ge=0, description="WAL that the slot retains.")
    slot_warning_seconds: float | None = Field(default=None, ge=0, description="Time left until the slot is lost.")
    slot_error_seconds: float | None = Field(default=None, ge=0, description="Time left until the slot is lost.")
    freshness_warning_seconds: float | None = Field(default=None, ge=0, description="How far the destinations are behind.")
    freshness_error_seconds: float | None = Field(default=None, ge=0, description="How far the destinations are behind.")
    row_count_tolerance: float | None = Field(default=None, ge=0, le=1, description="Part of a table's rows.")


class CreatePipeline(dg.Config):
    """A new row of `pipelines`, with its destinations and tables."""

    name: str = Field(pattern=PIPELINE_NAME, description="Letters, digits, underscores; no underscore at the start.")
    source: str = Field(min_length=1, description="Name of the source.")
    destinations: list[str] = Field(min_length=1, description="Names of the destinations.")
    tables: list[PipelineTable] = Field(min_length=1, description="What is replicated.")
    engine: Literal["DEBEZIUM", "PGOUTPUT"] = Field(default="DEBEZIUM", description="Capture engine.")
    status: Literal["START", "PAUSE"] = Field(default="PAUSE", description="What the pipeline begins with.")
    on_schema_change: OnSchemaChange = Field(default="APPLY", description=ON_SCHEMA_CHANGE)
    thresholds: PipelineThresholds = Field(
        default=PipelineThresholds(), description="From where on the checks warn and fail."
    )


class SetStatus(dg.Config):
    """What is wanted of a pipeline from now on."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline.")
    status: Literal["START", "PAUSE", "REFRESH"] = Field(description="REFRESH restarts the run; START is written back.")


class AddTable(PipelineTable):
    """A table that an existing pipeline is to replicate, too."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline. One that runs copies the table at once.")


class ResyncTable(dg.Config):
    """A table that is to be copied anew."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline. One that runs goes on meanwhile.")
    table: str = Field(min_length=1, description="The source table as namespace.name; a name alone is of public.")


class Reconcile(dg.Config):
    """A running pipeline whose rows are to be compared."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline; it has to run.")
    tables: list[str] = Field(default=[], description="As namespace.table; all of the pipeline's unless named.")
    repair: bool = Field(default=False, description="False tells which rows differ; true mends them, too.")


class DropPipeline(dg.Config):
    """A pipeline that is not wanted any more."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline; it has to be paused.")
    confirm: bool = Field(default=False, description="False shows what would be removed; true removes it.")


def connection_fields(request: CreateSource | PostgresTarget) -> dict[str, Any]:
    """The connection of a request without its password."""
    return {
        "host": request.host,
        "port": request.port,
        "database": request.database,
        "username": request.username,
        "sslmode": request.sslmode,
    }


def snowflake_fields(request: SnowflakeTarget) -> dict[str, Any]:
    """What `destinations.config` gets of a request, without the key."""
    variables = {"private_key_env", "private_key_passphrase_env"}
    fields: dict[str, Any] = request.model_dump(exclude={*variables, "namespace"}, exclude_none=True)
    return {**fields, "schema": request.namespace} if request.namespace else fields
