"""Reads from a PostgreSQL destination's catalog what its tables look like. An empty result means that a table is missing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import psycopg
from psycopg.types.json import Json

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.table_id import TableId

#: Every connection here returns plain tuples.
Connection: TypeAlias = "psycopg.Connection[tuple[object, ...]]"

_COLUMN_TYPES = """
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
"""

#: Each column's type with domains resolved, since a domain may forbid NULL, and in a staging table NULL also stands for
#: values that were not sent. The last column is the type without its modifier.
_STAGING_TYPES = """
WITH RECURSIVE resolved AS (
    SELECT attname, atttypid AS type, atttypmod AS modifier FROM pg_attribute
    WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, typbasetype, typtypmod FROM resolved JOIN pg_type ON oid = type WHERE typtype = 'd'
)
SELECT attname::text, format_type(type, modifier), typstorage <> 'p', format_type(type, -1)
FROM resolved JOIN pg_type ON oid = type WHERE typtype <> 'd'
"""

_UNASSIGNABLE = """
SELECT attname::text, attgenerated <> '' FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
  AND (attgenerated <> '' OR attidentity = 'a')
"""

#: Columns that refuse NULL without being part of the primary key, and whether they have a default.
_NOT_NULL = """
SELECT attname::text, atthasdef OR attidentity <> '' FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
  AND attnotnull AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisprimary AND attnum = ANY (indkey))
"""

_PRIMARY_KEY = """
SELECT conname::text, (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey))
FROM pg_constraint
WHERE conrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND contype = 'p'
"""

#: The wanted tables that exist with a unique index on exactly the columns of their key, if they have one.
_WITH_THEIR_KEYS = """
SELECT number FROM json_to_recordset(%s) AS wanted (number integer, namespace text, name text, key text[]),
    LATERAL (SELECT to_regclass(format('%%I.%%I', namespace, name)) AS target) AS found
WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = target AND attnum > 0 AND NOT attisdropped)
  AND (cardinality(key) = 0 OR EXISTS (
    SELECT FROM pg_index
    WHERE indrelid = target
      AND indisunique AND indpred IS NULL AND indexprs IS NULL AND indnkeyatts = cardinality(key)
      AND (SELECT array_agg(attname::text ORDER BY attname::text) FROM pg_attribute
           WHERE attrelid = indrelid AND attnum = ANY (indkey[0:indnkeyatts - 1]))
          = (SELECT array_agg(each ORDER BY each) FROM unnest(key) AS each)))
"""

_ESTIMATE = """
SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""

#: Foreign keys of other tables that reference this one.
_REFERENCING = """
SELECT nspname::text, relname::text, conname::text
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE contype = 'f' AND conparentid = 0 AND conrelid <> confrelid
  AND confrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
ORDER BY 1, 2, 3
"""

#: The views that use a column, and the views that use those, each after the views that it uses.
_VIEWS = """
WITH RECURSIVE users AS (
    SELECT rewrite.ev_class AS view, 1 AS depth
    FROM pg_attribute JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = attrelid AND refobjsubid = attnum
    JOIN pg_rewrite AS rewrite ON classid = 'pg_rewrite'::regclass AND objid = rewrite.oid AND ev_class <> attrelid
    WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attname = %s
    UNION
    SELECT rewrite.ev_class, depth + 1
    FROM users JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = view
    JOIN pg_rewrite AS rewrite ON classid = 'pg_rewrite'::regclass AND objid = rewrite.oid AND ev_class <> view
)
SELECT nspname::text, relname::text, relkind = 'm', pg_get_viewdef(pg_class.oid)
FROM (SELECT view, max(depth) AS depth FROM users GROUP BY view) AS found
JOIN pg_class ON pg_class.oid = view JOIN pg_namespace ON pg_namespace.oid = relnamespace
ORDER BY depth, 1, 2
"""

#: Triggers that fire on rows written by an ordinary session.
_TRIGGERS = """
SELECT tgname::text FROM pg_trigger
WHERE tgrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND NOT tgisinternal AND tgenabled IN ('O', 'A')
  AND current_setting('session_replication_role') <> 'replica'
ORDER BY tgname
"""


class StagingType(NamedTuple):
    """The type of a column of a staging table."""

    name: str
    #: Whether values may be so large that they are stored apart from their row.
    may_be_large: bool
    #: The type without its modifier: a cast to it neither cuts nor pads.
    plain_name: str = ""


class Unassignable(NamedTuple):
    """The columns of a destination table that a statement may not assign to."""

    #: GENERATED ALWAYS AS (expression): the destination works their values out.
    generated: frozenset[str] = frozenset()
    #: GENERATED ALWAYS AS IDENTITY: an INSERT may give them a value, an UPDATE may not.
    identity: frozenset[str] = frozenset()


class PrimaryKey(NamedTuple):
    """The primary key of a destination table."""

    constraint: str
    columns: frozenset[str]


class View(NamedTuple):
    """A view of the destination, or a materialized one."""

    id: TableId
    is_materialized: bool
    definition: str


def column_types(connection: Connection, target: TableId) -> dict[str, str]:
    """Return the columns of a table and their types, as SQL spells them."""
    return {str(name): str(kind) for name, kind in connection.execute(_COLUMN_TYPES, target)}


def staging_types(connection: Connection, target: TableId) -> dict[str, StagingType]:
    """Return the columns of a table and the types that their values are staged in."""
    rows = connection.execute(_STAGING_TYPES, target)
    return {str(name): StagingType(str(kind), bool(is_large), str(plain)) for name, kind, is_large, plain in rows}


def unassignable_columns(connection: Connection, target: TableId) -> Unassignable:
    """Return the columns of a table that may not be assigned to."""
    rows = [(str(name), bool(is_generated)) for name, is_generated in connection.execute(_UNASSIGNABLE, target)]
    generated = frozenset(name for name, is_generated in rows if is_generated)
    return Unassignable(generated, frozenset(name for name, _ in rows) - generated)


def not_null_columns(connection: Connection, target: TableId) -> dict[str, bool]:
    """Return the columns outside the primary key that refuse NULL, and whether each has a default."""
    return {str(name): bool(has_default) for name, has_default in connection.execute(_NOT_NULL, target)}


def primary_key(connection: Connection, target: TableId) -> PrimaryKey | None:
    """Return the primary key of a table; None when it has none."""
    row = connection.execute(_PRIMARY_KEY, target).fetchone()
    if row is None:
        return None
    assert isinstance(row[1], list), "the query aggregates names"
    return PrimaryKey(str(row[0]), frozenset(map(str, row[1])))


def with_their_keys(
    connection: Connection, schemas: Sequence[TableSchema], targets: Mapping[TableId, TableId]
) -> set[TableId]:
    """Return the source tables whose targets exist with a unique index on their key. One query for all of them."""
    wanted = [{"number": number, **targets[schema.id]._asdict(), "key": schema.key} for number, schema in enumerate(schemas)]
    return {schemas[int(str(number))].id for (number,) in connection.execute(_WITH_THEIR_KEYS, [Json(wanted)])}


def estimated_rows(connection: Connection, target: TableId) -> int | None:
    """Return the planner's estimate of a table's rows; None when the table is missing."""
    row = connection.execute(_ESTIMATE, target).fetchone()
    return None if row is None else int(str(row[0]))


def views_on(connection: Connection, target: TableId, column: str) -> list[View]:
    """Return the views that depend on a column, each after those that it uses."""
    rows = connection.execute(_VIEWS, [*target, column])
    return [View(TableId(str(row[0]), str(row[1])), bool(row[2]), str(row[3])) for row in rows]


def referencing_keys(connection: Connection, target: TableId) -> list[tuple[TableId, str]]:
    """Return the foreign keys of other tables that reference a table: each one's table and name."""
    rows = connection.execute(_REFERENCING, target)
    return [(TableId(str(namespace), str(name)), str(constraint)) for namespace, name, constraint in rows]


def firing_triggers(connection: Connection, target: TableId) -> list[str]:
    """Return the names of the triggers that fire on rows which this session writes."""
    return [str(name) for (name,) in connection.execute(_TRIGGERS, target)]
