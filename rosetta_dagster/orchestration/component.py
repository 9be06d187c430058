"""A pipeline in a `defs.yaml`: the same fields and the same builder as a pipeline in Python."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from rosetta_dagster.cdc.config.pipeline import checked
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.orchestration.builder import rosetta_definitions
from rosetta_dagster.orchestration.declarations import Pipeline, Table
from rosetta_dagster.orchestration.requests import ON_SCHEMA_CHANGE, PIPELINE_NAME, VARIABLE, OnSchemaChange, Sslmode
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource, SnowflakeDestination


class _PostgresModel(dg.Model, dg.Resolvable):
    """Where a PostgreSQL database is. Its password is named, not given."""

    name: str = Field(min_length=1, description="Name of the row in the configuration database.")
    host: str = Field(min_length=1, description="Host of the server.")
    port: int = Field(default=5432, ge=1, le=65535, description="TCP port of the server.")
    database: str = Field(min_length=1, description="Database on the server.")
    username: str = Field(min_length=1, description="Role that connects.")
    sslmode: Sslmode = Field(default="prefer", description="TLS mode of libpq.")
    password_env: str | None = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the password; none: the row's own."
    )


class SourceModel(_PostgresModel):
    """A PostgreSQL database that changes are captured from."""

    publication_name: str | None = Field(default=None, description="Publication to use; none: rosetta_<pipeline>.")
    replication_name: str | None = Field(default=None, description="Slot to use, by one pipeline; none: rosetta_<pipeline>.")


class DestinationModel(_PostgresModel):
    """A PostgreSQL database that changes are applied to."""

    namespace: str | None = Field(default=None, min_length=1, description="Where all tables go; none: as at the source.")


class SnowflakeModel(dg.Model, dg.Resolvable):
    """A Snowflake database that changes are applied to. Its key is named, not given."""

    name: str = Field(min_length=1, description="Name of the row in the configuration database.")
    account: str = Field(min_length=1, description="Account as organization-account.")
    user: str = Field(min_length=1, description="User that the public key is registered for.")
    database: str = Field(min_length=1, description="Database that the tables go into.")
    warehouse: str | None = Field(default=None, min_length=1, description="None: the user's own.")
    role: str | None = Field(default=None, min_length=1, description="None: the user's own.")
    namespace: str | None = Field(default=None, min_length=1, description="Where all tables go; none: as at the source.")
    private_key_path: str | None = Field(default=None, min_length=1, description="File that holds the private key as PEM.")
    private_key_env: str | None = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the private key as PEM."
    )
    private_key_passphrase_env: str | None = Field(
        default=None, pattern=VARIABLE, description="Environment variable that holds the passphrase of the key."
    )
    host: str | None = Field(default=None, min_length=1, description="Of a private link; none: it follows from the account.")
    port: int | None = Field(default=None, ge=1, le=65535, description="TCP port of that host.")
    protocol: Literal["https", "http"] | None = Field(default=None, description="http for a test server; none: https.")
    options: dict[str, Any] = Field(
        default={}, description="What else destinations.config may hold: deletes, preserve_case, values, flush_seconds, …"
    )


class TableModel(BaseModel):
    """A table, and what it is called at the destinations."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, description="As namespace.table; a name alone is of public.")
    target: str | None = Field(default=None, min_length=1, description="As namespace.table or table; none: the same name.")


class PipelineScaffolder(dg.Scaffolder[Any]):
    """Writes a `defs.yaml` to fill in."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        name = request.target_path.name
        dg.scaffold_component(
            request,
            {
                "name": name,
                "source": {
                    "name": f"{name}_source", "host": "localhost", "database": "postgres", "username": "postgres",
                    "password_env": "SOURCE_PASSWORD",
                },
                "destinations": [
                    {
                        "name": f"{name}_destination", "host": "localhost", "database": "warehouse", "username": "postgres",
                        "password_env": "DESTINATION_PASSWORD",
                    }
                ],
                "tables": ["public.orders"],
            },
        )  # fmt: skip


def _tables(context: dg.ResolutionContext, tables: Sequence[str | TableModel]) -> list[Table]:
    return [
        Table(context.resolve_value(table, as_type=str))
        if isinstance(table, str)
        else Table(
            context.resolve_value(table.name, as_type=str), context.resolve_value(table.target or "", as_type=str) or None
        )
        for table in tables
    ]


def _destinations(context: dg.ResolutionContext, models: Sequence[BaseModel]) -> list[DestinationModel | SnowflakeModel]:
    """Left to itself, Dagster takes a list of the one kind or of the other."""
    at_snowflake = SnowflakeModel.model()
    return [
        SnowflakeModel.resolve_from_model(context, model)
        if isinstance(model, at_snowflake)
        else DestinationModel.resolve_from_model(context, model)
        for model in models
    ]


def _destination(model: DestinationModel | SnowflakeModel) -> PostgresDestination | SnowflakeDestination:
    if isinstance(model, SnowflakeModel):
        return SnowflakeDestination(**model.model_dump())
    return PostgresDestination(**model.model_dump())


@dg.scaffold_with(PipelineScaffolder)
class RosettaPipelineComponent(dg.Component, dg.Model, dg.Resolvable):
    """A pipeline that replicates tables of a PostgreSQL database, change by change.

    A project may have any number of them. They share the sensors, and the pipelines that only the configuration database
    has, so the first of them defines these for all.
    """

    name: str = Field(pattern=PIPELINE_NAME, description="Letters, digits, underscores; no underscore at the start.")
    source: SourceModel
    destinations: Annotated[
        list[DestinationModel | SnowflakeModel],
        dg.Resolver(_destinations, model_field_type=list[DestinationModel.model() | SnowflakeModel.model()]),
    ] = Field(min_length=1)
    tables: Annotated[list[Table], dg.Resolver(_tables, model_field_type=list[str | TableModel])] = Field(min_length=1)
    engine: Literal["DEBEZIUM", "PGOUTPUT"] = Field(default="DEBEZIUM", description="Capture engine.")
    status: Literal["START", "PAUSE"] = Field(default="PAUSE", description="What a new row begins with.")
    thresholds: dict[str, float] = Field(default={}, description="From where on the checks warn and fail.")
    on_schema_change: OnSchemaChange = Field(default="APPLY", description=ON_SCHEMA_CHANGE)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline as Python declares it."""
        return Pipeline(
            name=self.name,
            source=PostgresSource(**self.source.model_dump()),
            destinations=[_destination(destination) for destination in self.destinations],
            tables=self.tables,
            engine=self.engine,
            status=self.status,
            thresholds=checked(Thresholds, dict(self.thresholds), f"The thresholds of {self.name}"),
            on_schema_change=self.on_schema_change,
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        components = context.component_tree.get_all_components(of_type=RosettaPipelineComponent)
        if components and components[0] is not self:
            return dg.Definitions()
        return rosetta_definitions(pipelines=[component.pipeline for component in components or [self]])

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(description="Replicates tables of a PostgreSQL database.", tags=["integration"])
