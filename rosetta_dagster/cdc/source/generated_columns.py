"""Decides whether a publication sends generated columns, whose values the destinations do not get."""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.table_id import TableId

#: The tables with stored generated columns, if the publication sends these. Before version 18 no publication does, and
#: `pg_publication` has no such column.
_TABLES = """
SELECT want.namespace, want.name
FROM unnest(%s::text[], %s::text[]) AS want (namespace, name)
WHERE EXISTS (SELECT FROM pg_publication WHERE pubname = %s AND to_jsonb(pg_publication) ->> 'pubgencols' = 's')
  AND EXISTS (SELECT FROM pg_attribute JOIN pg_class AS class ON class.oid = attrelid
              JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
              WHERE namespace.nspname = want.namespace AND class.relname = want.name
              AND attgenerated = 's' AND NOT attisdropped)
ORDER BY 1, 2
"""


def published_generated_columns(
    connection: "psycopg.Connection[Any]", publication_name: str, tables: Sequence[TableId]
) -> Iterator[ConfigurationError]:
    """Yield an error if the publication sends generated columns of any of these tables."""
    names = [table.namespace for table in tables], [table.name for table in tables]
    found = [TableId(*row) for row in connection.execute(_TABLES, [*names, publication_name])]
    if found:
        statement = sql.SQL("ALTER PUBLICATION {} SET (publish_generated_columns = none)")
        yield ConfigurationError(
            f"Publication {publication_name} sends the generated columns of {', '.join(map(str, found))}, which are not "
            "replicated.",
            f"Run {statement.format(sql.Identifier(publication_name)).as_string(None)} at the source.",
        )
