"""Pipelines declared in code. They are written to the configuration database, and run from there like all others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SkipValidation,
    ValidationError,
    field_validator,
    model_validator,
)

from rosetta_dagster.cdc.config.patterns import is_pattern, problem_of
from rosetta_dagster.cdc.config.pipeline import PipelineOptions, Status, TableOptions
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.config.wording import problems, worded
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.declared import DeclaredPipeline, Target
from rosetta_dagster.cdc.store.plan import Declarations
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.options import DagsterOptions
from rosetta_dagster.orchestration.requests import PIPELINE_NAME
from rosetta_dagster.orchestration.resources import DestinationResource, PostgresSource, Resource


def _as_list(value: Any) -> Any:
    """Refuse a text in the place of a list of texts: its letters would be names."""
    if isinstance(value, str):
        raise ValueError(f'should be a list, as ["{value}"]')  # noqa: TRY004 - pydantic words a ValueError
    return value


#: Where pipelines are collected while code is loaded only to be looked at (`rosetta plan`).
_COLLECTED: ContextVar["list[Pipeline] | None"] = ContextVar("collected", default=None)


class _Declared(BaseModel):
    """Something that code declares. What is wrong is refused where it is written, with the nearest right name."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="wrap")
    @classmethod
    def _worded(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            name = values.get("name", "") if isinstance(values, dict) else ""
            raise ConfigurationError(
                f"{cls.__name__} {name} is not valid: {problems(error, cls)}.", "Correct the code that declares it."
            ) from None


class Table(TableOptions, _Declared):
    """A table of a pipeline, or a pattern of tables, and its name at the destinations."""

    #: As `namespace.table`; a name alone is of `public`. With `*` or `?` it stands for all tables that match.
    name: str = Field(min_length=1)
    #: As `namespace.table`, or a name alone for a table in the namespace that it would go into anyway. None: the same name.
    #: Of a pattern, with `{table}` in the place of each table's name.
    target: str | None = Field(default=None, min_length=1)

    def __init__(self, name: str, target: str | None = None, **options: Any) -> None:
        super().__init__(**{"name": name, "target": target, **options})

    @field_validator("name")
    @classmethod
    def _can_match(cls, name: str) -> str:
        table = TableId.parse(name)
        if is_pattern(table) and (found := problem_of(table)) is not None:
            raise worded(f"name: the pattern {name} is not valid: {found}")
        return name

    @property
    def id(self) -> TableId:
        return TableId.parse(self.name)

    def declared_target(self) -> Target:
        if self.target is None:
            return Target()
        namespace, dot, name = self.target.partition(".")
        return Target(namespace, name) if dot else Target(None, self.target)

    def declared_options(self) -> TableOptions:
        return TableOptions(**{name: getattr(self, name) for name in TableOptions.model_fields})


class Pipeline(PipelineOptions, DagsterOptions, _Declared):
    """A pipeline declared in code.

    The code owns its source, destinations, tables and options; the operator owns its status. `status` is that of a new row.
    A pipeline that is taken out of the code is paused once; from then on its row belongs to the operator.
    """

    name: str = Field(pattern=PIPELINE_NAME)
    source: SkipValidation[PostgresSource]
    destinations: Annotated[Sequence[SkipValidation[DestinationResource]], Field(min_length=1)]
    #: A text is a `Table` of that name, or a pattern.
    tables: Annotated[Sequence[str | SkipValidation[Table]], BeforeValidator(_as_list), Field(min_length=1)]
    status: Literal["START", "PAUSE"] = "PAUSE"
    #: When the checks warn and fail.
    thresholds: Thresholds = Thresholds()

    @field_validator("tables")
    @classmethod
    def _names_each_table_once(cls, tables: Sequence[str | Table]) -> Sequence[str | Table]:
        names = [str(_table(table).id) for table in tables]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(doubles)} is named more than once")
        return tables

    def dagster_options(self) -> DagsterOptions:
        return DagsterOptions(**{name: getattr(self, name) for name in DagsterOptions.model_fields})


def _table(table: str | Table) -> Table:
    return Table(table) if isinstance(table, str) else table


@contextmanager
def collecting() -> "Iterator[list[Pipeline]]":
    """Collect the pipelines that code declares while the block lasts. Nothing else happens to them."""
    collected: list[Pipeline] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)


def is_collected(pipelines: Sequence[Pipeline]) -> bool:
    """Return whether these pipelines are only being collected, after adding them to the list."""
    collected = _COLLECTED.get()
    if collected is not None:
        collected += pipelines
    return collected is not None


def declarations(pipelines: Sequence[Pipeline]) -> Declarations:
    """Return the rows of these pipelines. `ConfigurationError` when two pipelines contradict each other."""
    refuse_contradictions(pipelines)
    sources = {pipeline.source.name: pipeline.source for pipeline in pipelines}
    destinations = {destination.name: destination for pipeline in pipelines for destination in pipeline.destinations}
    return Declarations(
        sources=tuple(source.declared() for source in sources.values()),
        destinations=tuple(destination.declared() for destination in destinations.values()),
        pipelines=tuple(_pipeline(pipeline) for pipeline in pipelines),
    )


def refuse_contradictions(pipelines: Sequence[Pipeline]) -> None:
    """Raise `ConfigurationError` when two pipelines have one name, or declare one source or destination in two ways."""
    names = [pipeline.name for pipeline in pipelines]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"The code declares {', '.join(doubles)} more than once.", "Give each pipeline its own name."
        )
    resources: dict[tuple[str, str], Resource] = {}
    for pipeline in pipelines:
        all_: list[Resource] = [pipeline.source, *pipeline.destinations]
        for resource in all_:
            kind = "destination" if isinstance(resource, DestinationResource) else "source"
            other = resources.setdefault((kind, resource.name), resource)
            if other != resource:
                raise ConfigurationError(
                    f"The code declares {type(resource).__name__} {resource.name} in two ways.",
                    "Declare it once, or give each its own name.",
                )


def _pipeline(pipeline: Pipeline) -> DeclaredPipeline:
    tables = [_table(table) for table in pipeline.tables]
    return DeclaredPipeline(
        **{name: getattr(pipeline, name) for name in PipelineOptions.model_fields},
        name=pipeline.name,
        source=pipeline.source.name,
        destinations=tuple(destination.name for destination in pipeline.destinations),
        tables=tuple(table.id for table in tables),
        targets={table.id: table.declared_target() for table in tables},
        table_options={table.id: table.declared_options() for table in tables},
        status=Status(pipeline.status),
        managed_by="CODE",
        thresholds=pipeline.thresholds,
    )
