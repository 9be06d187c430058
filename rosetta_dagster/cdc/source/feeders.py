"""Reads which pipelines write tables of the source, where the source is a destination of other pipelines."""

from collections.abc import Sequence
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.feeder import Feeder
from rosetta_dagster.cdc.table_id import TableId

#: Whether Rosetta's state is in this database, of a version that records targets, and the role may read it.
_MAY_READ = """
SELECT has_schema_privilege(namespace.oid, 'USAGE') AND bool_and(has_table_privilege(class.oid, 'SELECT'))
       AND bool_or(attribute.attname IS NOT NULL)
FROM pg_namespace AS namespace JOIN pg_class AS class ON class.relnamespace = namespace.oid
LEFT JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attname = 'target_name'
WHERE namespace.nspname = 'rosetta' AND class.relname IN ('streams', 'copies') AND class.relkind = 'r'
GROUP BY namespace.oid HAVING count(*) = 2
"""

#: A copy that is not complete, or was forgotten, gets no changes.
_READ = """
SELECT copy.pipeline, stream.system_identifier, stream.slot_name, copy.table_schema, copy.table_name,
       copy.target_schema, copy.target_name
FROM rosetta.copies AS copy JOIN rosetta.streams AS stream USING (pipeline)
WHERE copy.finished_at IS NOT NULL
  AND (copy.target_schema, copy.target_name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
ORDER BY copy.pipeline, copy.target_schema, copy.target_name
"""


def read_feeders(connection: "psycopg.Connection[Any]", tables: Sequence[TableId]) -> tuple[Feeder, ...]:
    """Return the pipelines that write these tables; none where the role may not read the state that they keep here."""
    if connection.execute(_MAY_READ).fetchone() != (True,):
        return ()
    names = [table.namespace for table in tables], [table.name for table in tables]
    return tuple(
        Feeder(
            pipeline=row[0], system_identifier=row[1], slot_name=row[2], origin=TableId(*row[3:5]), table=TableId(*row[5:7])
        )
        for row in connection.execute(_READ, names)
    )
