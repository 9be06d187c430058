"""Lists and removes rows of the configuration database for an operator. No secret is read."""

from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from psycopg.sql import SQL

from rosetta_dagster.cdc.config.patterns import is_matched, is_pattern
from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceSettings
from rosetta_dagster.cdc.config.surfaces import secret_names
from rosetta_dagster.cdc.destination.registry import all_secret_names
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.columns import parameters, selected
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.patterns import keep_patterns
from rosetta_dagster.cdc.store.session import Query
from rosetta_dagster.cdc.table_id import TableId

#: The places of a connection: the ends of pipelines.
End = Literal["source", "destination"]

_SOURCES = SQL("""
SELECT name::text, 'POSTGRES' AS type, jsonb_strip_nulls({settings}) - %(secrets)s::text[] AS settings,
       CASE WHEN pg_password IS NULL THEN '{{}}' ELSE ARRAY['password'] END AS secrets,
       ARRAY(SELECT pipelines.name::text FROM pipelines WHERE source_id = sources.id ORDER BY 1) AS pipelines
FROM sources ORDER BY name
""").format(settings=selected(SourceSettings, "sources"))

_DESTINATIONS = """
SELECT name::text, type::text, config - %(secrets)s::text[] AS settings,
       ARRAY(SELECT key FROM jsonb_object_keys(config) AS key WHERE key = ANY (%(secrets)s) ORDER BY 1) AS secrets,
       ARRAY(SELECT pipelines.name::text FROM pipelines JOIN pipeline_destinations ON pipeline_id = pipelines.id
             WHERE destination_id = destinations.id ORDER BY 1) AS pipelines
FROM destinations ORDER BY name
"""

_DELETE: dict[End, LiteralString] = {
    "source": "DELETE FROM sources WHERE name = %s",
    "destination": "DELETE FROM destinations WHERE name = %s",
}

_DECLARED_IN = "SELECT declared_in FROM pipelines WHERE name = %s AND managed_by = 'CODE'"

_REMOVE_TABLE = """
DELETE FROM pipeline_tables USING pipelines
WHERE pipelines.id = pipeline_id AND pipelines.name = %s AND (table_schema, table_name) = (%s, %s)
"""

_EXCLUDE_TABLE = """
UPDATE pipelines SET exclude_tables = array_append(exclude_tables, %(table)s)
WHERE id = %(id)s AND %(table)s <> ALL (exclude_tables)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A source or a destination, without its secrets."""

    name: str
    type: str
    settings: dict[str, Any]
    #: The names of the secrets that are set.
    secrets: tuple[str, ...]
    #: The pipelines that use it.
    pipelines: tuple[str, ...]


def connections(store: Store, end: End) -> list[Connection]:
    """Return every source or every destination, by name."""
    query: Query = _SOURCES if end == "source" else _DESTINATIONS
    secrets = secret_names(SourceSettings) if end == "source" else all_secret_names()
    with store.connected() as connection:
        rows = connection.execute(query, {"secrets": list(secrets)}).fetchall()
    return [
        Connection(name=name, type=kind, settings=settings, secrets=tuple(secrets), pipelines=tuple(pipelines))
        for name, kind, settings, secrets, pipelines in rows
    ]


def connection_named(store: Store, end: End, name: str) -> Connection:
    """Return a source or a destination. `PipelineNotFound` when none has that name."""
    for found in connections(store, end):
        if found.name == name:
            return found
    raise PipelineNotFound(f"There is no {end} {name}.", f"List them with: rosetta {end} list")


def delete_connection(store: Store, end: End, name: str) -> None:
    """Delete a source or a destination. `ConfigurationError` when a pipeline uses it."""
    found = connection_named(store, end, name)
    if found.pipelines:
        raise ConfigurationError(
            f"The {end} {name} is used by {', '.join(found.pipelines)}.", "Drop these pipelines first: rosetta drop NAME"
        )
    with store.connected() as connection:
        connection.execute(_DELETE[end], [name])


def set_pipeline_options(store: Store, name: str, options: PipelineOptions) -> None:
    """Replace the options of a pipeline. `ConfigurationError` when code declares it."""
    refuse_declared_in_code(store, name)
    with store.connected() as connection:
        connection.execute(queries.SET_PIPELINE_OPTIONS, {**parameters(PipelineOptions, options), "name": name})


def refuse_declared_in_code(store: Store, name: str) -> None:
    """Raise `ConfigurationError` when code declares the pipeline: its next load would take every change back."""
    with store.connected() as connection:
        row = connection.execute(_DECLARED_IN, [name]).fetchone()
    if row is not None:
        place = f", in the code location {row[0]}" if row[0] else ""
        raise ConfigurationError(f"Pipeline {name} is declared in code{place}.", "Change it there.")


def remove_table(store: Store, pipeline: str, table: TableId) -> None:
    """Take a table, or a pattern with its tables, out of a pipeline. Replicas stay.

    A table that a pattern matches is excluded, too. `PipelineNotFound` when the pipeline does not have it.
    """
    pipeline_id = store.state(pipeline).id
    with store.connected() as connection, connection.transaction():
        patterns = [pattern.id for pattern in store.pattern_configs(pipeline_id)]
        if is_pattern(table):
            removed = int(table in patterns)
            keep_patterns(connection, pipeline_id, [pattern for pattern in patterns if pattern != table])
        else:
            removed = connection.execute(_REMOVE_TABLE, [pipeline, *table]).rowcount
        if removed and is_matched(table, patterns) and not is_pattern(table):
            connection.execute(_EXCLUDE_TABLE, {"id": pipeline_id, "table": str(table)})
    if not removed:
        raise PipelineNotFound(f"Pipeline {pipeline} has no table {table}.", f"List them with: rosetta status {pipeline}")
