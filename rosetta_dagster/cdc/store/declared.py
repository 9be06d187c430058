"""Adds sources, destinations and pipelines to the configuration database, or replaces those that exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from rosetta_dagster.cdc.config.patterns import is_pattern, matches, specificity
from rosetta_dagster.cdc.config.pipeline import (
    PipelineOptions,
    PostgresConnection,
    SourceOptions,
    Status,
    TableConfig,
    TableOptions,
)
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.destination.registry import all_secret_names, kind_of
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound, SecretUnreadable
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.columns import parameters
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.patterns import keep_patterns, put_pattern, read_patterns
from rosetta_dagster.cdc.store.sealed_rows import destination_places, source_place
from rosetta_dagster.cdc.store.session import Query
from rosetta_dagster.cdc.table_id import TableId


class DeclaredSource(SourceOptions):
    """A wanted row of `sources`."""

    name: str
    connection: PostgresConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredDestination:
    """A wanted row of `destinations`."""

    name: str
    type: str
    config: dict[str, Any] = field(repr=False)


class Target(NamedTuple):
    """The name of a table at the destinations; None means the same as NULL in `pipeline_tables`."""

    namespace: str | None = None
    name: str | None = None


class OwnNames(NamedTuple):
    """The publication and the slot that a pipeline's row names itself; None stands for NULL."""

    publication_name: str | None = None
    replication_name: str | None = None


class DeclaredPipeline(PipelineOptions):
    """A wanted row of `pipelines`, with its destinations and tables."""

    name: str
    source: str
    destinations: tuple[str, ...]
    #: Tables, and patterns of tables.
    tables: tuple[TableId, ...]
    #: The tables whose names differ at the destinations.
    targets: Mapping[TableId, Target] = {}
    #: The tables with options that differ from the defaults.
    table_options: Mapping[TableId, TableOptions] = {}
    #: The status that a new row gets; an existing one keeps its own.
    status: Status = Status.PAUSE
    managed_by: Literal["SQL", "CODE"] = "SQL"
    thresholds: Thresholds = Thresholds()
    #: None: they stay as they are, since they are the operator's.
    own_names: OwnNames | None = None


def put_source(store: Store, source: DeclaredSource) -> None:
    """Add or replace a source, its password encrypted. A row that is already as wanted is not touched."""
    try:
        known = store.source(source.name)
    except (PipelineNotFound, SecretUnreadable):
        known = None
    wanted = source.model_dump(exclude={"name"})
    if known is not None and known.model_dump(exclude={"name"}) == wanted:
        return
    options = parameters(SourceOptions, source)
    values = {**options, **source.connection.model_dump(), "name": source.name, "password": None}
    with store.connected() as connection, connection.transaction():
        source_id = _id(connection.execute(queries.PUT_SOURCE, values))
        if (password := source.connection.password) is not None:
            place = source_place(source_id, source.connection.model_dump())
            sealed = store.secret_box().encrypt(password.get_secret_value(), place)
            connection.execute(queries.SET_PASSWORD, [sealed, source_id])


def put_destination(store: Store, destination: DeclaredDestination) -> None:
    """Add or replace a destination, its secrets encrypted. A row that is already as wanted is not touched.

    `ConfigurationError` when the type is unknown.
    """
    kind_of(destination.type, destination.name)
    try:
        known = store.destination(destination.name)
    except (PipelineNotFound, SecretUnreadable):
        known = None
    config = destination.config
    if known is not None and (known.type, known.config) == (destination.type, config):
        return
    shown = {name: value for name, value in config.items() if not value or name not in all_secret_names()}
    with store.connected() as connection, connection.transaction():
        # A row that was rolled back is in the heap and in the WAL all the same, so its secrets come last, encrypted.
        row_id = _id(connection.execute(queries.PUT_DESTINATION, [destination.name, destination.type, Jsonb(shown)]))
        places = {} if shown == config else destination_places(row_id, destination.type, config)
        if places:
            box = store.secret_box()
            sealed = {name: box.encrypt(config[name], place) for name, place in places.items()}
            connection.execute(queries.SET_SECRETS, [Jsonb(sealed), row_id])


def put_pipeline(store: Store, pipeline: DeclaredPipeline) -> None:
    """Add a pipeline, or change it to what is wanted. `PipelineNotFound` when its source or a destination does not exist."""
    with store.connected() as connection, connection.transaction():
        pipeline_id = _put_pipeline_row(connection, pipeline)
        if pipeline.own_names is not None:
            connection.execute(queries.SET_OWN_NAMES, [*pipeline.own_names, pipeline_id])
        connection.execute(queries.DROP_OTHER_DESTINATIONS, [pipeline_id, list(pipeline.destinations)])
        for destination in pipeline.destinations:
            if connection.execute(queries.DESTINATION_BY_NAME, [destination]).fetchone() is None:
                raise PipelineNotFound(f"There is no destination {destination}.", "Add it first.")
            connection.execute(queries.PUT_PIPELINE_DESTINATION, [pipeline_id, destination])
        _put_tables(connection, pipeline_id, pipeline)


def add_table(store: Store, pipeline: str, table: TableId, target: Target, options: TableOptions | None = None) -> None:
    """Add a table, or a pattern of tables, to a pipeline. `ConfigurationError` when the pipeline has it already."""
    pipeline_id, options = store.state(pipeline).id, options or TableOptions()
    with store.connected() as connection:
        if is_pattern(table):
            is_added = table not in {pattern.id for pattern in read_patterns(connection, pipeline_id)}
            if is_added:
                put_pattern(connection, pipeline_id, _pattern(table, target, options))
        else:
            if not options.mask:
                _refuse_to_unmask(connection, pipeline_id, table)
            values = _table_values(pipeline_id, table, target, options)
            is_added = bool(connection.execute(queries.ADD_PIPELINE_TABLE, values).rowcount)
    if not is_added:
        raise ConfigurationError(f"Pipeline {pipeline} has the table {table} already.", "Nothing has to be done.")


def _refuse_to_unmask(connection: "psycopg.Connection[Any]", pipeline_id: int, table: TableId) -> None:
    """Raise `ConfigurationError` when a pattern masks the table, whose own row would replace the pattern's options."""
    patterns = sorted(read_patterns(connection, pipeline_id), key=lambda each: specificity(each.id), reverse=True)
    pattern = next((each for each in patterns if matches(each.id, table)), None)
    if pattern is not None and pattern.mask:
        raise ConfigurationError(
            f"Pattern {pattern.id} masks columns of table {table} ({', '.join(sorted(pattern.mask))}), and a table that is "
            "added by its name has its own options.",
            "Give it a mask, too.",
        )


def delete_pipeline(store: Store, name: str) -> None:
    """Delete a pipeline's row and those of its tables. Its source and destinations stay."""
    with store.connected() as connection:
        connection.execute(queries.DELETE_PIPELINE, [name])


def refuse_existing(store: Store, kind: Literal["source", "destination", "pipeline"], name: str) -> None:
    """Raise `ConfigurationError` when a row of that name exists."""
    exists: dict[str, Query] = {
        "source": queries.SOURCE_BY_NAME,
        "destination": queries.DESTINATION_BY_NAME,
        "pipeline": queries.PIPELINE,
    }
    with store.connected() as connection:
        if connection.execute(exists[kind], [name]).fetchone() is not None:
            raise ConfigurationError(
                f"There is a {kind} {name} already.", f"Choose another name, or change it: rosetta {kind} edit {name}"
            )


def _put_pipeline_row(connection: "psycopg.Connection[Any]", pipeline: DeclaredPipeline) -> int:
    row = connection.execute(
        queries.PUT_PIPELINE,
        {
            **parameters(PipelineOptions, pipeline),
            "name": pipeline.name,
            "status": pipeline.status,
            "managed_by": pipeline.managed_by,
            "source": pipeline.source,
            "thresholds": Jsonb(pipeline.thresholds.model_dump(exclude_defaults=True)),
        },
    ).fetchone()
    if row is None:
        raise PipelineNotFound(f"There is no source {pipeline.source}.", "Add it first.")
    return int(row[0])


def _put_tables(connection: "psycopg.Connection[Any]", pipeline_id: int, pipeline: DeclaredPipeline) -> None:
    """Give a pipeline exactly these tables and patterns."""
    patterns = [table for table in pipeline.tables if is_pattern(table)]
    tables = [table for table in pipeline.tables if not is_pattern(table)]
    namespaces, names = [table.namespace for table in tables], [table.name for table in tables]
    connection.execute(queries.DROP_OTHER_TABLES, [pipeline_id, namespaces, names])
    for table in pipeline.tables:
        target = pipeline.targets.get(table, Target())
        options = pipeline.table_options.get(table, TableOptions())
        if is_pattern(table):
            put_pattern(connection, pipeline_id, _pattern(table, target, options))
        else:
            connection.execute(queries.PUT_PIPELINE_TABLE, _table_values(pipeline_id, table, target, options))
    keep_patterns(connection, pipeline_id, patterns)


def _pattern(pattern: TableId, target: Target, options: TableOptions) -> TableConfig:
    return TableConfig(**dict(options), id=pattern, target_namespace=target.namespace, target_name=target.name)


def _table_values(pipeline_id: int, table: TableId, target: Target, options: TableOptions) -> dict[str, Any]:
    return {
        **parameters(TableOptions, options),
        "pipeline_id": pipeline_id,
        "namespace": table.namespace,
        "name": table.name,
        "target_namespace": target.namespace,
        "target_name": target.name,
    }


def _id(cursor: "psycopg.Cursor[Any]") -> int:
    row = cursor.fetchone()
    assert row is not None, "RETURNING returns the row"
    return int(row[0])
