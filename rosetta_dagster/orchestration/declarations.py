"""Pipelines that are declared in code: written to the configuration database, from where they run like all others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy, Status
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredPipeline, DeclaredSource, Target
from rosetta_dagster.cdc.store.plan import Declarations
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource, Resource, SnowflakeDestination

#: Where pipelines are collected while code is loaded only to be looked at (`rosetta plan`).
_COLLECTED: ContextVar["list[Pipeline] | None"] = ContextVar("collected", default=None)


@dataclass(frozen=True)
class Table:
    """A table of a pipeline, and what it is called at the destinations."""

    #: As `namespace.table`; a name alone is of `public`.
    name: str
    #: As `namespace.table`, or a name alone for a table in the namespace that it would go into anyway. None: the same name.
    target: str | None = None

    @property
    def id(self) -> TableId:
        return TableId.parse(self.name)

    def declared_target(self) -> Target:
        if self.target is None:
            return Target()
        namespace, dot, name = self.target.partition(".")
        return Target(namespace, name) if dot else Target(None, self.target)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline declared in code.

    The code owns its source, destinations and tables; the operator owns its status. `status` is what a new row begins
    with. A pipeline that is taken out of the code is paused once; its row is the operator's from then on.
    """

    name: str
    source: PostgresSource
    destinations: Sequence[PostgresDestination | SnowflakeDestination]
    #: A text is a `Table` of that name.
    tables: Sequence[str | Table]
    engine: Literal["DEBEZIUM", "PGOUTPUT"] = "DEBEZIUM"
    status: Literal["START", "PAUSE"] = "PAUSE"
    #: From where on the checks warn and fail.
    thresholds: Thresholds = field(default_factory=Thresholds)
    #: APPLY: the destinations follow as far as they can. STOP_TABLE: the table is set aside until it is resynced.
    on_schema_change: Literal["APPLY", "STOP_TABLE"] = "APPLY"


@contextmanager
def collecting() -> "Iterator[list[Pipeline]]":
    """While the block lasts, pipelines that code declares are put into this list, and nothing else happens to them."""
    collected: list[Pipeline] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)


def is_collected(pipelines: Sequence[Pipeline]) -> bool:
    """Whether these pipelines were asked for only to be looked at."""
    collected = _COLLECTED.get()
    if collected is not None:
        collected += pipelines
    return collected is not None


def declarations(pipelines: Sequence[Pipeline]) -> Declarations:
    """The rows that these pipelines are to be. `ConfigurationError` when two of them contradict each other."""
    _refuse_doubles(pipelines)
    sources = {pipeline.source.name: pipeline.source for pipeline in pipelines}
    destinations = {destination.name: destination for pipeline in pipelines for destination in pipeline.destinations}
    return Declarations(
        sources=tuple(_source(source) for source in sources.values()),
        destinations=tuple(_destination(destination) for destination in destinations.values()),
        pipelines=tuple(_pipeline(pipeline) for pipeline in pipelines),
    )


def _refuse_doubles(pipelines: Sequence[Pipeline]) -> None:
    names = [pipeline.name for pipeline in pipelines]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"The code declares {', '.join(doubles)} more than once.", "Give each pipeline its own name."
        )
    resources: dict[tuple[str, str], Resource] = {}
    for pipeline in pipelines:
        all_: list[Resource] = [pipeline.source, *pipeline.destinations]
        for resource in all_:
            kind = "source" if isinstance(resource, PostgresSource) else "destination"
            other = resources.setdefault((kind, resource.name), resource)
            if other != resource:
                raise ConfigurationError(
                    f"The code declares {type(resource).__name__} {resource.name} in two ways.",
                    "Declare it once, or give each its own name.",
                )


def _pipeline(pipeline: Pipeline) -> DeclaredPipeline:
    tables = [Table(table) if isinstance(table, str) else table for table in pipeline.tables]
    return DeclaredPipeline(
        name=pipeline.name,
        source=pipeline.source.name,
        destinations=tuple(destination.name for destination in pipeline.destinations),
        tables=tuple(table.id for table in tables),
        targets={table.id: table.declared_target() for table in tables},
        engine=Engine(pipeline.engine),
        status=Status(pipeline.status),
        managed_by="CODE",
        thresholds=pipeline.thresholds,
        on_schema_change=SchemaPolicy(pipeline.on_schema_change),
    )


def _source(resource: PostgresSource) -> DeclaredSource:
    return DeclaredSource(
        name=resource.name,
        connection=resource.connection(),
        publication_name=resource.publication_name,
        replication_name=resource.replication_name,
    )


def _destination(resource: PostgresDestination | SnowflakeDestination) -> DeclaredDestination:
    if isinstance(resource, SnowflakeDestination):
        return DeclaredDestination(name=resource.name, type="SNOWFLAKE", config=resource.config())
    password = resource.secret()
    config = {**resource.fields(), "schema": resource.namespace}
    if password is not None:
        config["password"] = password.get_secret_value()
    return DeclaredDestination(
        name=resource.name, type="POSTGRES", config={key: value for key, value in config.items() if value is not None}
    )
