"""The configuration of the administration jobs: shapes and limits, and never a secret.

A run's configuration is stored and shown by Dagster. So a secret is given as the name of an environment variable of the
process that runs the job. Settings of sources, destinations, pipelines and tables come from where these are declared.
"""

from typing import Any, Literal

import dagster as dg
from pydantic import BaseModel, Field, create_model

from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceSettings, TableOptions
from rosetta_dagster.cdc.config.surfaces import public_fields
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.destination.registry import kinds

#: As the configuration database has it: a leading underscore could make a job's name that of an administration job.
PIPELINE_NAME = "^[A-Za-z0-9][A-Za-z0-9_]*$"


def _config(name: str, description: str, settings: type[BaseModel], *, optional: bool = False) -> Any:
    """Return a configuration with the settings of this model."""
    fields: Any = public_fields(settings, optional=optional)
    return create_model(name, __base__=dg.Config, __module__=__name__, __doc__=description, **fields)


# The bases below are made from declared settings, which the type checker cannot follow.
class CreateSource(_config("SourceFields", "The settings of a source.", SourceSettings)):  # type: ignore[misc]
    """A new row of `sources`."""

    name: str = Field(min_length=1, description="Name of the new source.")


def create_destination_request() -> type[dg.Config]:
    """Return the configuration for a new row of `destinations`: one of the kinds."""
    fields: Any = {"name": (str, Field(min_length=1, description="Name of the new destination."))}
    for kind in kinds():
        target = _config(f"{kind.resource}Target", kind.description, kind.settings)
        fields[kind.type.lower()] = (target | None, Field(default=None, description=kind.description))
    return create_model("CreateDestination", __base__=dg.Config, __doc__="A new row of `destinations`.", **fields)


class PipelineTable(_config("TableFields", "The options of a table.", TableOptions)):  # type: ignore[misc]
    """A table of a pipeline, and its name at the destinations."""

    table: str = Field(
        min_length=1,
        description="The source table as namespace.name, or a pattern such as shop.*; a name alone is of public.",
    )
    target_namespace: str | None = Field(default=None, min_length=1, description="None: the destination's, else as it is.")
    target_name: str | None = Field(default=None, min_length=1, description="None: the name of the source table.")


class PipelineThresholds(
    _config("ThresholdFields", "The thresholds of a pipeline.", Thresholds, optional=True)  # type: ignore[misc]
):
    """When the checks of a pipeline warn and fail; a threshold that is not given has its default."""


class CreatePipeline(_config("PipelineFields", "The options of a pipeline.", PipelineOptions)):  # type: ignore[misc]
    """A new row of `pipelines`, with its destinations and tables."""

    name: str = Field(pattern=PIPELINE_NAME, description="Letters, digits, underscores; no underscore at the start.")
    source: str = Field(min_length=1, description="Name of the source.")
    destinations: list[str] = Field(min_length=1, description="Names of the destinations.")
    tables: list[PipelineTable] = Field(min_length=1, description="The tables to replicate.")
    status: Literal["START", "PAUSE"] = Field(default="PAUSE", description="Status of the new pipeline.")
    thresholds: PipelineThresholds = Field(default=PipelineThresholds(), description="When the checks warn and fail.")


class SetStatus(dg.Config):
    """A new status of a pipeline."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline.")
    status: Literal["START", "PAUSE", "REFRESH"] = Field(description="REFRESH restarts the run; START is written back.")


class AddTable(PipelineTable):
    """A table for an existing pipeline."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline. One that runs copies the table at once.")


class ResyncTable(dg.Config):
    """A table to copy again."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline. One that runs goes on meanwhile.")
    table: str = Field(min_length=1, description="The source table as namespace.name; a name alone is of public.")


class BackfillTable(dg.Config):
    """Rows of a table to bring to the destinations."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline; it has to run.")
    table: str = Field(min_length=1, description="The source table as namespace.name; a name alone is of public.")
    where: str = Field(min_length=1, description="Condition of the rows to bring.")


class Reconcile(dg.Config):
    """A running pipeline whose rows are to be compared."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline; it has to run.")
    tables: list[str] = Field(default=[], description="Tables as namespace.name; all of the pipeline unless given.")
    repair: bool = Field(default=False, description="False reports the rows that differ; true repairs them, too.")


class DropPipeline(dg.Config):
    """A pipeline to remove."""

    pipeline: str = Field(min_length=1, description="Name of the pipeline; it has to be paused.")
    confirm: bool = Field(default=False, description="False shows what would be removed; true removes it.")
