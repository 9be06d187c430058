"""Lists and removes rows of the configuration database for an operator. No secret is read."""

from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from rosetta_dagster.cdc.config.pipeline import TableOptions
from rosetta_dagster.cdc.destination.registry import all_secret_names
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.table_id import TableId

#: The places of a connection: the ends of pipelines.
End = Literal["source", "destination"]

_SOURCES = """
SELECT name::text, 'POSTGRES' AS type,
       jsonb_strip_nulls(jsonb_build_object(
           'host', pg_host, 'port', pg_port, 'database', pg_database, 'username', pg_username, 'sslmode', pg_sslmode,
           'publication_name', publication_name, 'replication_name', replication_name)) AS settings,
       CASE WHEN pg_password IS NULL THEN '{}' ELSE ARRAY['password'] END AS secrets,
       ARRAY(SELECT pipelines.name::text FROM pipelines WHERE source_id = sources.id ORDER BY 1) AS pipelines
FROM sources ORDER BY name
"""

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

_REMOVE_TABLE = """
DELETE FROM pipeline_tables USING pipelines
WHERE pipelines.id = pipeline_id AND pipelines.name = %s AND (table_schema, table_name) = (%s, %s)
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
    query = _SOURCES if end == "source" else _DESTINATIONS
    with store.connected() as connection:
        rows = connection.execute(query, {"secrets": list(all_secret_names())}).fetchall()
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


def table_options(store: Store) -> dict[tuple[str, TableId], dict[str, Any]]:
    """Return the options of the tables of every pipeline, as far as they differ from the defaults."""
    with store.connected() as connection:
        rows = connection.execute(queries.DECLARED_TABLES).fetchall()
    return {
        (pipeline, TableId(namespace, name)): TableOptions(**values).model_dump(mode="json", exclude_defaults=True)
        for pipeline, namespace, name, values in rows
    }


def remove_table(store: Store, pipeline: str, table: TableId) -> None:
    """Take a table out of a pipeline; its replicas stay. `PipelineNotFound` when the pipeline does not have it."""
    store.state(pipeline)
    with store.connected() as connection:
        removed = connection.execute(_REMOVE_TABLE, [pipeline, *table]).rowcount
    if not removed:
        raise PipelineNotFound(f"Pipeline {pipeline} has no table {table}.", f"List them with: rosetta status {pipeline}")
