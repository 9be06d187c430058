"""Pipelines that are declared in code: written to the configuration database, from where they run like all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rosetta_dagster.cdc.config import Status
from rosetta_dagster.cdc.position import Engine
from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.store import declared
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredPipeline, DeclaredSource
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline declared in code.

    The code owns its source, destinations and tables; the operator owns its status. `status` is what a new row begins
    with. A pipeline that is taken out of the code stays in the configuration database until its row is deleted.
    """

    name: str
    source: PostgresSource
    destinations: Sequence[PostgresDestination]
    #: As `namespace.table`; a name alone is of `public`.
    tables: Sequence[str]
    engine: Literal["DEBEZIUM", "PGOUTPUT"] = "DEBEZIUM"
    status: Literal["START", "PAUSE"] = "PAUSE"


def declare(store: Store, pipelines: Sequence[Pipeline]) -> None:
    """Bring the rows of these pipelines in line with the code. Rows that are as declared are not touched."""
    sources = {pipeline.source.name: pipeline.source for pipeline in pipelines}
    destinations = {destination.name: destination for pipeline in pipelines for destination in pipeline.destinations}
    declared.declare(
        store,
        [_source(source) for source in sources.values()],
        [_destination(destination) for destination in destinations.values()],
        [_pipeline(pipeline) for pipeline in pipelines],
    )


def _pipeline(pipeline: Pipeline) -> DeclaredPipeline:
    return DeclaredPipeline(
        name=pipeline.name,
        source=pipeline.source.name,
        destinations=tuple(destination.name for destination in pipeline.destinations),
        tables=tuple(TableId.parse(table) for table in pipeline.tables),
        engine=Engine(pipeline.engine),
        status=Status(pipeline.status),
        managed_by="CODE",
    )


def _source(resource: PostgresSource) -> DeclaredSource:
    return DeclaredSource(
        name=resource.name,
        connection=resource.connection(),
        publication_name=resource.publication_name,
        replication_name=resource.replication_name,
    )


def _destination(resource: PostgresDestination) -> DeclaredDestination:
    password = resource.password()
    config = {**resource.fields(), "schema": resource.namespace}
    if password is not None:
        config["password"] = password.get_secret_value()
    return DeclaredDestination(
        name=resource.name, type="POSTGRES", config={key: value for key, value in config.items() if value is not None}
    )
