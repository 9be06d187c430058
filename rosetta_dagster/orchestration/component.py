"""A pipeline in a `defs.yaml`: the same settings and the same builder as a pipeline in Python."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.utils.translation import ResolvedTranslationFn
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceSettings, TableOptions, checked
from rosetta_dagster.cdc.config.surfaces import public_fields
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.registry import kind_of, kinds
from rosetta_dagster.orchestration.builder import rosetta_definitions
from rosetta_dagster.orchestration.declarations import Pipeline, Table
from rosetta_dagster.orchestration.options import DagsterOptions
from rosetta_dagster.orchestration.requests import PIPELINE_NAME
from rosetta_dagster.orchestration.resources import DestinationResource, PostgresSource, resource_class
from rosetta_dagster.orchestration.translator import DestinationTable, RosettaTranslator, SourceTable, Stream

#: The field that names the kind of a destination. Without it the settings decide.
_TYPE = "type"


class _Entry:
    """A mapping with settings. The resource that is made of it says what is wrong; editors complete it by the schema."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())


class SourceEntry(_Entry):
    """The settings of a source."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _json_schema("PostgresSource", SourceSettings)


class DestinationEntry(_Entry):
    """The settings of a destination of any kind."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # Made when it is asked for, so that kinds which were registered later are in it.
        options: Any = (dict[str, Any], Field(default={}, description="Further settings, as destinations.config has them."))
        return {
            "anyOf": [
                _json_schema(kind.resource, kind.settings, options=options, type=(Literal[kind.type] | None, None))
                for kind in kinds()
            ]
        }


def _json_schema(name: str, settings: type[BaseModel], **more: Any) -> JsonSchemaValue:
    fields: Any = {"name": (str, Field(description="Name of the row in the configuration database."))}
    fields |= public_fields(settings) | more
    model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    return model.model_json_schema()


class TableModel(TableOptions):
    """A table, its name at the destinations, and its options."""

    name: str = Field(
        min_length=1, description="As namespace.table, or a pattern such as shop.*; a name alone is of public."
    )
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
            context.resolve_value(table.name, as_type=str),
            context.resolve_value(table.target or "", as_type=str) or None,
            **{name: getattr(table, name) for name in TableOptions.model_fields},
        )
        for table in tables
    ]


def _entry(context: dg.ResolutionContext, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with their templates resolved. The resource is made later: its errors are one sentence then."""
    return dict(context.resolve_value(dict(entry)))


def _entries(context: dg.ResolutionContext, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_entry(context, entry) for entry in entries]


def _destination(entry: Mapping[str, Any]) -> DestinationResource:
    return resource_class(_kind(entry))(**{name: value for name, value in entry.items() if name != _TYPE})


def _kind(entry: Mapping[str, Any]) -> DestinationKind:
    """Return the kind that the entry names, else the one that declares the most of its settings."""
    if _TYPE in entry:
        return kind_of(str(entry[_TYPE]), str(entry.get("name", "")))
    return max(kinds(), key=lambda kind: len(entry.keys() & public_fields(kind.settings).keys()))


@dg.scaffold_with(PipelineScaffolder)
class RosettaPipelineComponent(dg.Component, PipelineOptions, DagsterOptions, dg.Model, dg.Resolvable):
    """A pipeline that replicates tables of a PostgreSQL database, change by change.

    A project may have any number of them. They share the sensors, and the pipelines that only the configuration database
    has, so the first of them defines these for all.
    """

    name: str = Field(pattern=PIPELINE_NAME, description="Letters, digits, underscores; no underscore at the start.")
    source: Annotated[dict[str, Any], dg.Resolver(_entry, model_field_type=SourceEntry)]
    destinations: Annotated[list[dict[str, Any]], dg.Resolver(_entries, model_field_type=list[DestinationEntry])] = Field(
        min_length=1
    )
    # Dagster looks into the fields of a type that is named here, and refuses those of `Table`.
    tables: Annotated[list[Any], dg.Resolver(_tables, model_field_type=list[str | TableModel])] = Field(min_length=1)
    status: Literal["START", "PAUSE"] = Field(default="PAUSE", description="Status of a new row.")
    thresholds: dict[str, float] = Field(default={}, description="When the checks warn and fail.")
    administration: bool = Field(
        default=True, description="false in any component of a project: the project has no administration jobs."
    )

    apply: bool = Field(
        default=True,
        description="false in any component of a project: only `rosetta apply` writes what it declares.",
    )

    translation: ResolvedTranslationFn[SourceTable | Stream | DestinationTable] = Field(
        default=None, description="Attributes of each asset: key, group_name, owners, tags and others, of spec and data."
    )

    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        """Return the spec of a table or of the stream. Override it as that of `RosettaTranslator`."""
        spec = RosettaTranslator().get_asset_spec(data)
        return spec if self.translation is None else self.translation(spec, data)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline as Python declares it."""
        return Pipeline(
            **{name: getattr(self, name) for name in (*PipelineOptions.model_fields, *DagsterOptions.model_fields)},
            name=self.name,
            source=PostgresSource(**self.source),
            destinations=[_destination(entry) for entry in self.destinations],
            tables=self.tables,
            status=self.status,
            thresholds=checked(
                Thresholds, dict(self.thresholds), f"The thresholds of {self.name}", "Correct its defs.yaml."
            ),
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        components = context.component_tree.get_all_components(of_type=RosettaPipelineComponent)
        if components and components[0] is not self:
            return dg.Definitions()
        project = components or [self]
        return rosetta_definitions(
            pipelines=[component.pipeline for component in project],
            translator=_EachByItsComponent({component.name: component for component in project}),
            administration=all(component.administration for component in project),
            apply=all(component.apply for component in project),
        )

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(description="Replicates tables of a PostgreSQL database.", tags=["integration"])


class _EachByItsComponent(RosettaTranslator):
    """Lets each component describe the assets of its pipeline. Others are described as without components."""

    def __init__(self, components: Mapping[str, RosettaPipelineComponent]) -> None:
        self._components = components

    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        component = self._components.get(data.pipeline.name)
        return super().get_asset_spec(data) if component is None else component.get_asset_spec(data)
