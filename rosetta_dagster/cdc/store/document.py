"""Writes every row that an operator owns as a document, for YAML, and reads such a document as declarations.

A document holds no secret. For each it names the variable that is read when the document is applied; when that is not set, a
secret that the row has already stays, as long as the row leads to the same place.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from psycopg.sql import SQL
from pydantic import BaseModel, ConfigDict, Field

from rosetta_dagster.cdc.config.pipeline import (
    PipelineOptions,
    PostgresConnection,
    SourceOptions,
    SourceSettings,
    Status,
    TableOptions,
    checked,
)
from rosetta_dagster.cdc.config.surfaces import binding
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.config.variables import PREFIX, read_for_code
from rosetta_dagster.cdc.destination.registry import kind_of
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound
from rosetta_dagster.cdc.store.columns import selected
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    OwnNames,
    Target,
)
from rosetta_dagster.cdc.store.inventory import Connection, End, connections, refuse_declared_in_code
from rosetta_dagster.cdc.store.plan import Declarations, Difference, changes, declare
from rosetta_dagster.cdc.table_id import TableId

_PIPELINES: Final = SQL("""
SELECT pipelines.name::text, sources.name::text,
       ARRAY(SELECT destinations.name::text FROM pipeline_destinations
             JOIN destinations ON destinations.id = destination_id
             WHERE pipeline_id = pipelines.id ORDER BY destinations.name),
       pipelines.status::text, managed_by::text, {options},
       jsonb_build_object('publication_name', pipelines.publication_name, 'replication_name', pipelines.replication_name),
       thresholds,
       ARRAY(SELECT jsonb_build_object('namespace', table_schema, 'table', table_name, 'target_schema', target_schema,
                                       'target_name', target_name) || {table_options}
             FROM pipeline_tables WHERE pipeline_id = pipelines.id AND by_pattern IS NULL ORDER BY table_schema, table_name)
       || ARRAY(SELECT jsonb_build_object('namespace', table_schema, 'table', table_name, 'target_schema', target_schema,
                                          'target_name', target_name) || options
                FROM pipeline_patterns WHERE pipeline_id = pipelines.id ORDER BY table_schema, table_name)
FROM pipelines JOIN sources ON sources.id = source_id ORDER BY pipelines.name
""").format(options=selected(PipelineOptions, "pipelines"), table_options=selected(TableOptions, "pipeline_tables"))

_CORRECT: Final = "Correct the file."


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Document(_Entry):
    """Sources and destinations hold their settings, and `secrets`: the variable of each secret."""

    sources: dict[str, dict[str, Any]] = {}
    destinations: dict[str, dict[str, Any]] = {}
    pipelines: dict[str, dict[str, Any]] = {}


class _Table(TableOptions):
    table: str = Field(min_length=1)
    namespace: str | None = None
    target_schema: str | None = None
    target_name: str | None = None

    @property
    def id(self) -> TableId:
        return TableId.parse(self.table) if self.namespace is None else TableId(self.namespace, self.table)


class _Pipeline(PipelineOptions):
    source: str
    destinations: tuple[str, ...] = Field(min_length=1)
    tables: tuple[_Table, ...] = ()
    publication_name: str | None = None
    replication_name: str | None = None
    thresholds: Thresholds = Thresholds()
    status: Status = Status.PAUSE
    managed_by: Literal["SQL", "CODE"] = "SQL"


def exported(store: Store) -> dict[str, Any]:
    """Return every row that an operator writes. Options of tables are left out where they are the default."""
    return {
        "sources": {each.name: _exported_end("source", each) for each in connections(store, "source")},
        "destinations": {
            each.name: {"type": each.type, **_exported_end("destination", each)}
            for each in connections(store, "destination")
        },
        "pipelines": dict(_exported_pipelines(store)),
    }


def declared_by(store: Store, document: Any) -> Declarations:
    """Return the rows that a document wants. `ConfigurationError` names what is wrong in it, or the variable to set."""
    if not isinstance(document, dict):
        raise ConfigurationError("The file holds no mapping of sources, destinations and pipelines.", _CORRECT)
    whole = checked(_Document, document, "The file", _CORRECT)
    return Declarations(
        sources=tuple(_source(store, name, dict(values)) for name, values in whole.sources.items()),
        destinations=tuple(_destination(store, name, dict(values)) for name, values in whole.destinations.items()),
        pipelines=tuple(_pipeline(name, values) for name, values in whole.pipelines.items()),
    )


def apply_document(store: Store, document: Any) -> list[Difference]:
    """Bring the rows in line with a document. Return what was changed. Rows that it does not name are not touched.

    The status of a pipeline that exists stays the operator's. `ConfigurationError`, before anything is changed, when a
    pipeline that would change is declared in code.
    """
    declarations = declared_by(store, document)
    for change in changes(store, declarations):
        if change.kind == "pipeline":
            refuse_declared_in_code(store, change.name)
    return declare(store, declarations)


def _exported_end(end: End, connection: Connection) -> dict[str, Any]:
    secrets = {name: _variable(end, connection.name, name) for name in connection.secrets}
    return {**connection.settings, **({"secrets": secrets} if secrets else {})}


def _variable(end: End, name: str, secret: str) -> str:
    return PREFIX + re.sub(r"[^A-Z0-9_]", "_", f"{end}_{name}_{secret}".upper())


def _exported_pipelines(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    with store.connected() as connection:
        rows = connection.execute(_PIPELINES).fetchall()
    for name, source, destinations, status, managed_by, options, names, thresholds, tables in rows:
        entry = {"source": source, "destinations": destinations, "status": status, "managed_by": managed_by, **options}
        entry |= {field: value for field, value in names.items() if value is not None}
        entry |= {"thresholds": thresholds} if thresholds else {}
        entry["tables"] = [_exported_table(**table) for table in tables]
        # REFRESH is START in a moment.
        entry["status"] = Status.PAUSE.value if status == Status.PAUSE else Status.START.value
        yield name, entry


def _exported_table(namespace: str, table: str, **values: Any) -> dict[str, Any]:
    defaults = TableOptions().model_dump(mode="json")
    # The first dot of a full name separates, so a namespace with a dot stands by itself.
    name = {"namespace": namespace, "table": table} if "." in namespace else {"table": f"{namespace}.{table}"}
    return {**name, **{field: value for field, value in values.items() if value != defaults.get(field)}}


def _source(store: Store, name: str, values: dict[str, Any]) -> DeclaredSource:
    def stored(field: str) -> str | None:
        connection = store.source(name).connection
        secret = (
            connection.password if field == "password" and _is_same_place(PostgresConnection, connection, values) else None
        )
        return None if secret is None else secret.get_secret_value()

    values |= _secrets(values, f"source {name}", stored)
    settings = checked(SourceSettings, values, f"Source {name}", _CORRECT)
    options = {field: getattr(settings, field) for field in SourceOptions.model_fields}
    return DeclaredSource(name=name, connection=settings.connection, **options)


def _destination(store: Store, name: str, values: dict[str, Any]) -> DeclaredDestination:
    kind = kind_of(str(values.pop("type", "POSTGRES")), name)

    def stored(field: str) -> str | None:
        row = store.destination(name)
        is_same = row.type == kind.type and binding(kind.settings, row.config) == binding(kind.settings, values)
        return row.config.get(field) if is_same else None

    values |= _secrets(values, f"destination {name}", stored)
    kind.checked(name, values)
    return DeclaredDestination(name=name, type=kind.type, config=values)


def _is_same_place(model: type[BaseModel], present: BaseModel, values: Mapping[str, Any]) -> bool:
    return binding(model, present.model_dump()) == binding(model, values)


def _secrets(values: dict[str, Any], owner: str, stored: Callable[[str], str | None]) -> dict[str, Any]:
    """Take `secrets` out of the values, and return them with their texts: from the variable, else from the row."""
    named = values.pop("secrets", {})
    if not isinstance(named, dict) or not all(isinstance(variable, str) for variable in named.values()):
        raise ConfigurationError(f"The secrets of {owner} are no mapping of names to variables.", _CORRECT)
    return {field: _secret(field, variable, owner, stored) for field, variable in named.items()}


def _secret(field: str, variable: str, owner: str, stored: Callable[[str], str | None]) -> str:
    if variable not in os.environ:
        try:
            present = stored(field)
        except PipelineNotFound:
            present = None
        if present is not None:
            return present
    return read_for_code(variable, owner, field)


def _pipeline(name: str, values: dict[str, Any]) -> DeclaredPipeline:
    wanted = checked(_Pipeline, values, f"Pipeline {name}", _CORRECT)
    tables = {each.id: each for each in wanted.tables}
    if len(tables) != len(wanted.tables):
        raise ConfigurationError(f"Pipeline {name} names a table twice.", "Name each table once.")
    return DeclaredPipeline(
        **{field: getattr(wanted, field) for field in PipelineOptions.model_fields},
        name=name,
        source=wanted.source,
        destinations=wanted.destinations,
        tables=tuple(tables),
        targets={table: Target(each.target_schema, each.target_name) for table, each in tables.items()},
        table_options={
            table: TableOptions(**{field: getattr(each, field) for field in TableOptions.model_fields})
            for table, each in tables.items()
        },
        status=wanted.status,
        managed_by=wanted.managed_by,
        thresholds=wanted.thresholds,
        own_names=OwnNames(wanted.publication_name, wanted.replication_name),
    )
