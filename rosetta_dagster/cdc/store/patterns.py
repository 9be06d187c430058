"""Reads and writes the patterns of pipelines, and the rows of `pipeline_tables` that they make."""

from typing import Any, Final

import psycopg
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from rosetta_dagster.cdc.config.discovery import TABLE, Discovery
from rosetta_dagster.cdc.config.patterns import is_matched, refuse_bad_pattern
from rosetta_dagster.cdc.config.pipeline import TableConfig, TableOptions, checked
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.columns import listed, parameters, placeholders, replaced
from rosetta_dagster.cdc.table_id import TableId

_PATTERNS: Final = """
SELECT table_schema, table_name, target_schema, target_name, options
FROM pipeline_patterns WHERE pipeline_id = %s ORDER BY table_schema, table_name
"""

_PUT_PATTERN: Final = """
INSERT INTO pipeline_patterns AS present (pipeline_id, table_schema, table_name, target_schema, target_name, options)
VALUES (%(pipeline_id)s, %(namespace)s, %(name)s, %(target_namespace)s, %(target_name)s, %(options)s)
ON CONFLICT (pipeline_id, table_schema, table_name) DO UPDATE
SET target_schema = EXCLUDED.target_schema, target_name = EXCLUDED.target_name, options = EXCLUDED.options
WHERE (present.target_schema, present.target_name, present.options)
      IS DISTINCT FROM (EXCLUDED.target_schema, EXCLUDED.target_name, EXCLUDED.options)
"""

_DROP_OTHER_PATTERNS: Final = """
DELETE FROM pipeline_patterns
WHERE pipeline_id = %s AND (table_schema, table_name) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""

_MATCHED: Final = "SELECT table_schema, table_name FROM pipeline_tables WHERE pipeline_id = %s AND by_pattern IS NOT NULL"

_EXCLUDED: Final = "SELECT exclude_tables FROM pipelines WHERE id = %s"

_DROP_MATCHED: Final = """
DELETE FROM pipeline_tables
WHERE pipeline_id = %s AND by_pattern IS NOT NULL
  AND (table_schema, table_name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""

#: What an operator has changed in the row stays until the pattern itself is changed.
_PUT_MATCHED: Final = SQL("""
INSERT INTO pipeline_tables AS present
       (pipeline_id, table_schema, table_name, target_schema, target_name, by_pattern, {columns})
VALUES (%(pipeline_id)s, %(namespace)s, %(name)s, %(target_namespace)s, %(target_name)s, %(by_pattern)s, {values})
ON CONFLICT (pipeline_id, table_schema, table_name) DO UPDATE
SET target_schema = EXCLUDED.target_schema, target_name = EXCLUDED.target_name, by_pattern = EXCLUDED.by_pattern, {replaced}
WHERE present.by_pattern <> EXCLUDED.by_pattern
""").format(columns=listed(TableOptions), values=placeholders(TableOptions), replaced=replaced(TableOptions))

_DROP_OTHER_SKIPPED: Final = """
DELETE FROM pipeline_skipped_tables
WHERE pipeline_id = %s AND (table_schema, table_name) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""

_PUT_SKIPPED: Final = """
INSERT INTO pipeline_skipped_tables AS present (pipeline_id, table_schema, table_name, reason) VALUES (%s, %s, %s, %s)
ON CONFLICT (pipeline_id, table_schema, table_name) DO UPDATE SET reason = EXCLUDED.reason
WHERE present.reason <> EXCLUDED.reason
"""

_Connection = psycopg.Connection[Any]


def read_patterns(connection: _Connection, pipeline_id: int) -> tuple[TableConfig, ...]:
    """Return the patterns of a pipeline, by name."""
    return tuple(
        TableConfig(
            **dict(checked(TableOptions, options, f"The row of pattern {namespace}.{name}")),
            id=TableId(namespace, name),
            target_namespace=target_namespace,
            target_name=target_name,
        )
        for namespace, name, target_namespace, target_name, options in connection.execute(_PATTERNS, [pipeline_id])
    )


def put_pattern(connection: _Connection, pipeline_id: int, pattern: TableConfig) -> None:
    """Add or replace a pattern. `ConfigurationError` when it is not valid."""
    refuse_bad_pattern(pattern.id)
    if pattern.target_name is not None and TABLE not in pattern.target_name:
        raise ConfigurationError(
            f"The tables of pattern {pattern.id} would all have the target {pattern.target_name}.",
            "Write {table} where the name of each table belongs, and {schema} for its schema.",
        )
    options = TableOptions(**{name: getattr(pattern, name) for name in TableOptions.model_fields})
    values = {
        "pipeline_id": pipeline_id,
        "namespace": pattern.id.namespace,
        "name": pattern.id.name,
        "target_namespace": pattern.target_namespace,
        "target_name": pattern.target_name,
        "options": Jsonb(options.model_dump(mode="json", exclude_defaults=True)),
    }
    connection.execute(_PUT_PATTERN, values)


def keep_patterns(connection: _Connection, pipeline_id: int, kept: list[TableId]) -> None:
    """Remove the other patterns of the pipeline, and the rows that they made."""
    connection.execute(_DROP_OTHER_PATTERNS, [pipeline_id, *_names(kept)])
    row = connection.execute(_EXCLUDED, [pipeline_id]).fetchone()
    excluded = [TableId.parse(text) for text in row[0]] if row is not None else []
    made = [TableId(*each) for each in connection.execute(_MATCHED, [pipeline_id])]
    gone = [table for table in made if is_matched(table, excluded) or not is_matched(table, kept)]
    connection.execute(_DROP_MATCHED, [pipeline_id, *_names(gone)])


def put_discovery(connection: _Connection, pipeline_id: int, discovery: Discovery) -> None:
    """Write the rows that the patterns give the pipeline now, and the tables that were skipped."""
    wanted = {table.id for table in discovery.tables}
    # A run does not know of the tables that are paused.
    made = {TableId(*each) for each in connection.execute(_MATCHED + " AND NOT paused", [pipeline_id])}
    connection.execute(_DROP_MATCHED, [pipeline_id, *_names(sorted(made - wanted))])
    for table in discovery.tables:
        connection.execute(
            _PUT_MATCHED,
            {
                **parameters(TableOptions, table),
                "pipeline_id": pipeline_id,
                "namespace": table.id.namespace,
                "name": table.id.name,
                "target_namespace": table.target_namespace,
                "target_name": table.target_name,
                "by_pattern": table.by_pattern,
            },
        )
    connection.execute(_DROP_OTHER_SKIPPED, [pipeline_id, *_names(sorted(discovery.skipped))])
    for skipped, reason in discovery.skipped.items():
        connection.execute(_PUT_SKIPPED, [pipeline_id, *skipped, reason])


def _names(tables: list[TableId]) -> tuple[list[str], list[str]]:
    return [table.namespace for table in tables], [table.name for table in tables]
