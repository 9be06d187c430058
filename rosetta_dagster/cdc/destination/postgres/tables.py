"""Which table of the destination stands for which table of the source, and how it is made and emptied."""

from collections.abc import Mapping

import psycopg

from rosetta_dagster.cdc.destination.postgres import sql
from rosetta_dagster.cdc.errors import DestinationRejected, TableNotOurs
from rosetta_dagster.cdc.schema import TableId, TableSchema, missing_columns

_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
"""

_HAS_KEY = """
SELECT EXISTS (
    SELECT FROM pg_index
    WHERE indrelid = to_regclass(format('%%I.%%I', %(namespace)s::text, %(name)s::text))
      AND indisunique AND indpred IS NULL AND indexprs IS NULL AND indnkeyatts = cardinality(%(key)s::text[])
      AND (SELECT array_agg(attname::text ORDER BY attname::text) FROM pg_attribute
           WHERE attrelid = indrelid AND attnum = ANY (indkey[0:indnkeyatts - 1]))
          = (SELECT array_agg(name ORDER BY name) FROM unnest(%(key)s::text[]) AS name))
"""


#: Each column's type without its domain: a domain may forbid NULL, and in a staging table NULL stands for values that are
#: not there.
_TYPES = """
WITH RECURSIVE resolved AS (
    SELECT attname, atttypid AS type, atttypmod AS modifier FROM pg_attribute
    WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, typbasetype, typtypmod FROM resolved JOIN pg_type ON oid = type WHERE typtype = 'd'
)
SELECT attname::text, format_type(type, modifier) FROM resolved JOIN pg_type ON oid = type WHERE typtype <> 'd'
"""

#: Larger tables are not counted row by row: the planner's estimate serves.
_COUNTED_ROWS = 1_000_000

_ESTIMATE = """
SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""


class Targets:
    """The destination's tables by the source's."""

    def __init__(self, targets: Mapping[TableId, TableId]) -> None:
        self._targets = targets

    def of(self, source: TableId) -> TableId:
        return self._targets[source]

    def prepare(self, connection: "psycopg.Connection[tuple[object, ...]]", schema: TableSchema) -> None:
        """Make the table when it is missing, and the columns that it lacks. Nothing is ever dropped."""
        target = self.of(schema.id)
        known = [str(name) for (name,) in connection.execute(_COLUMNS, target)]
        if not known:
            self._create(connection, target, schema)
            return
        for column in missing_columns(known, schema):
            connection.execute(sql.add_column(target, column))
        self._verify_key(connection, target, schema)

    def staging_types(self, connection: "psycopg.Connection[tuple[object, ...]]", schema: TableSchema) -> list[str]:
        """For each column of the source, the type that its values are staged in."""
        types = {str(name): str(kind) for name, kind in connection.execute(_TYPES, self.of(schema.id))}
        return [types[name] for name in schema.column_names]

    def empty(self, connection: "psycopg.Connection[tuple[object, ...]]", source: TableId, *, ours: bool) -> None:
        """Make sure that a copy starts with an empty table. `TableNotOurs` when it holds rows of somebody else."""
        target = self.of(source)
        if ours:
            connection.execute(sql.truncate(target))
            return
        query = sql.any_row(target)
        if connection.execute(query).fetchone() == (True,):
            raise TableNotOurs(
                f"Table {target} of the destination holds rows that Rosetta did not write.",
                f"Empty it (TRUNCATE {target}), or give table {source} another target in pipeline_tables.",
            )

    def row_count(self, connection: "psycopg.Connection[tuple[object, ...]]", source: TableId) -> int:
        """How many rows the table holds; 0 when it does not exist yet."""
        target = self.of(source)
        estimate = connection.execute(_ESTIMATE, target).fetchone()
        if estimate is None:
            return 0
        if int(str(estimate[0])) > _COUNTED_ROWS:
            return int(str(estimate[0]))
        row = connection.execute(sql.count_rows(target)).fetchone()
        return int(str(row[0])) if row else 0

    def _create(self, connection: "psycopg.Connection[tuple[object, ...]]", target: TableId, schema: TableSchema) -> None:
        exists = connection.execute("SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", [target.namespace])
        if exists.fetchone() == (False,):
            connection.execute(sql.LOCK_CREATION)
            connection.execute(sql.create_namespace(target.namespace))
        connection.execute(sql.create_table(target, schema))

    def _verify_key(
        self, connection: "psycopg.Connection[tuple[object, ...]]", target: TableId, schema: TableSchema
    ) -> None:
        if not schema.key:
            return
        parameters = {"namespace": target.namespace, "name": target.name, "key": list(schema.key)}
        if connection.execute(_HAS_KEY, parameters).fetchone() == (False,):
            key = ", ".join(schema.key)
            raise DestinationRejected(
                f"Table {target} of the destination has no unique index on the key of {schema.id} ({key}).",
                f"Run ALTER TABLE {target} ADD PRIMARY KEY ({key}) at the destination.",
            )
