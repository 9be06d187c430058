"""Which table of the destination stands for which table of the source, and how it is made and emptied."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import psycopg
from psycopg.types.json import Json

from rosetta_dagster.cdc.change.schema import Column, TableSchema, missing_columns
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy, TableOptions
from rosetta_dagster.cdc.destination.evolution import (
    AddColumn,
    ChangeType,
    DropColumn,
    DropNotNull,
    RenameColumn,
    SchemaChange,
    raise_refused,
    schema_changes,
    widens,
)
from rosetta_dagster.cdc.destination.postgres import sql, state_sql
from rosetta_dagster.cdc.destination.postgres.binary import BINARY_TYPES
from rosetta_dagster.cdc.errors import DestinationRejected, SchemaChangeRefused, TableNotOurs
from rosetta_dagster.cdc.table_id import TableId

#: Every connection here returns plain tuples.
_Connection: TypeAlias = "psycopg.Connection[tuple[object, ...]]"

#: The name of a table's primary key.
_PRIMARY_KEY = """
SELECT conname::text FROM pg_constraint
WHERE conrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND contype = 'p'
"""

_COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
"""

#: Columns that refuse NULL, and have nothing to put in its place, without being of the primary key.
_NOT_NULL = """
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
  AND attnotnull AND NOT atthasdef AND attidentity = ''
  AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisprimary AND attnum = ANY (indkey))
"""

#: Which of the wanted tables are there with a unique index on just the columns of their key, if they have one.
_READY = """
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


#: Each column's type without its domain: a domain may forbid NULL, and in a staging table NULL stands for values that are
#: not there.
_TYPES = """
WITH RECURSIVE resolved AS (
    SELECT attname, atttypid AS type, atttypmod AS modifier FROM pg_attribute
    WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, typbasetype, typtypmod FROM resolved JOIN pg_type ON oid = type WHERE typtype = 'd'
)
SELECT attname::text, format_type(type, modifier), typstorage <> 'p'
FROM resolved JOIN pg_type ON oid = type WHERE typtype <> 'd'
"""

#: Larger tables are not counted row by row: the planner's estimate serves.
_COUNTED_ROWS = 1_000_000

_ESTIMATE = """
SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""

#: A column's name between its old one and its new one.
_RENAMED = "rosetta renames this "


def _gone(target: TableId, schema: TableSchema) -> DestinationRejected:
    return DestinationRejected(
        f"Table {target} of the destination is gone, and with it the rows of {schema.id}.", "Resync the table."
    )


def _in_the_way(target: TableId, name: str) -> SchemaChangeRefused:
    return SchemaChangeRefused(
        f"A column of the source is called {name} now, but table {target} of the destination holds a column {name} "
        "already, as of one that was dropped.",
        "Resync the table.",
    )


def _staying(names: Iterable[str], renames: Iterable[RenameColumn]) -> set[str]:
    """The names that are left when those columns have others."""
    return set(names) - {rename.old for rename in renames}


def _making_way(names: Iterable[str], renames: Sequence[RenameColumn]) -> list[RenameColumn]:
    """Let columns whose names are taken have those that become free. There are enough: a rename takes one and frees one."""
    taken = {rename.new for rename in renames} & _staying(names, renames)
    free = {rename.old for rename in renames} - {rename.new for rename in renames}
    return [RenameColumn(name, other) for name, other in zip(sorted(taken), sorted(free), strict=False)]


def _named_as(before: TableSchema, now: TableSchema) -> TableSchema:
    """The columns of now by the names that they had, and have at the destination until it gets to the change of that."""
    names = {column.number: column.name for column in before.columns}
    columns = [replace(column, name=names.get(column.number, column.name)) for column in now.columns]
    return replace(now, columns=tuple(columns), key=())


def _keyed(schema: TableSchema, before: TableSchema) -> TableSchema:
    """The schema whose key the destination's table has, until it gets to the changes of the columns' names."""
    return schema if schema.column_names == before.column_names else before


class Targets:
    """The destination's tables by the source's. The caller owns the transaction."""

    def __init__(
        self,
        targets: Mapping[TableId, TableId],
        policy: SchemaPolicy,
        options: Mapping[TableId, TableOptions] = MappingProxyType({}),
    ) -> None:
        self.by_source = targets
        self._options = options
        self._policy = policy

    def of(self, source: TableId) -> TableId:
        return self.by_source[source]

    def exists(self, connection: _Connection, source: TableId) -> bool:
        """Whether the table is there; true for one that the pipeline has no more, of which nothing is asked."""
        return source not in self.by_source or bool(self._types(connection, self.of(source)))

    def prepare(self, connection: _Connection, schema: TableSchema, before: TableSchema) -> None:
        """Let the columns of a table that is copied take what the source may hold by now.

        `before` is the table as its last applied change had it. Everything but wider types and NULL waits for the change
        that comes with it.
        """
        target = self.of(schema.id)
        if not self._types(connection, target):
            raise _gone(target, schema)
        self._follow(connection, target, self._advance_changes(schema, before))
        self._verify_key(connection, target, _keyed(schema, before))

    def ready(self, connection: _Connection, tables: Sequence[tuple[TableSchema, TableSchema]]) -> set[TableId]:
        """The tables that `prepare` would leave as they are, each given with its schema before. One look at all of them."""
        quiet = [(schema, before) for schema, before in tables if not self._advance_changes(schema, before)]
        keyed = [_keyed(schema, before) for schema, before in quiet]
        found = self._with_their_keys(connection, keyed)
        return {schema.id for schema in keyed if schema.id in found}

    def _advance_changes(self, schema: TableSchema, before: TableSchema) -> list[SchemaChange]:
        return [
            change
            for change in schema_changes(before, _named_as(before, schema))
            if isinstance(change, DropNotNull)
            # Whether a column that is gone took NULL before, nobody tells any more.
            or (isinstance(change, DropColumn) and change.name not in before.key)
            or (
                isinstance(change, ChangeType)
                and self._policy is SchemaPolicy.APPLY
                and widens(change.old_type, change.column.type)
            )
        ]

    def adapt(self, connection: _Connection, schema: TableSchema, before: TableSchema) -> None:
        """Follow what happened to the columns from one schema to the next. `SchemaChangeRefused` when that cannot be."""
        changes = schema_changes(before, schema)
        raise_refused(changes, before, schema, self._policy)
        target = self.of(schema.id)
        self._follow(connection, target, changes)
        self._verify_key(connection, target, schema)

    def make(self, connection: _Connection, schema: TableSchema) -> bool:
        """Make the table when it is missing; whether it was. It gets its key when its rows are there."""
        target = self.of(schema.id)
        is_missing = not self._types(connection, target)
        if is_missing:
            self._create(connection, target, replace(schema, key=()))
        return is_missing

    def takes_binary(self, connection: _Connection, schema: TableSchema) -> bool:
        """Whether the values' binary form is the same at both sides: types that are equal, and that stay what they are."""
        types = self._types(connection, self.of(schema.id))
        return all(column.type_oid in BINARY_TYPES and types.get(column.name) == column.type for column in schema.columns)

    def complete(self, connection: _Connection, schema: TableSchema) -> None:
        """Give a table whose rows are there its key. An index that is built at once costs a third of one that grows."""
        target = self.of(schema.id)
        if schema.key and not self._has_key(connection, schema):
            connection.execute(sql.set_primary_key(target, None, schema.key))

    def reshape(self, connection: _Connection, schema: TableSchema, before: TableSchema | None, *, ours: bool) -> None:
        """Give a table without rows the columns of the source. Columns that the source has no more stay, as NULL.

        Types that differ from the source's since somebody made the table so are left: only what changed or came at the
        source is changed here. A column that came may have found one of its name that was dropped. One that was renamed so
        gives that one its own old name: without rows neither holds anything, and the key's index is on the one that came.
        """
        target = self.of(schema.id)
        types = self._types(connection, target)
        changes = schema_changes(before or schema, schema)
        renames = [change for change in changes if isinstance(change, RenameColumn) and change.old in types]
        self._rename(connection, target, types, [*renames, *_making_way(types, renames)])
        for column in missing_columns(list(types), schema):
            connection.execute(sql.add_column(target, replace(column, fill_value=None)))
        old_types = {column.number: column.type for column in before.columns} if before else {}
        for column in schema.columns:
            was = column.type if before is None else old_types.get(column.number)
            if was != column.type != types.get(column.name, column.type):
                connection.execute(sql.change_type_of_nothing(target, column))
        if not ours or connection.execute(_PRIMARY_KEY, target).fetchone() is not None:
            self._verify_key(connection, target, schema)
        required = {column.name for column in schema.columns if column.not_null}
        for (name,) in connection.execute(_NOT_NULL, target).fetchall():
            if before and name not in required:
                connection.execute(sql.drop_not_null(target, str(name)))
        if self._options.get(schema.id, TableOptions()).comments:
            for statement in sql.comments(target, schema):
                connection.execute(statement)

    def staging_types(self, connection: _Connection, schema: TableSchema) -> list[sql.StagingType]:
        """For each column of the source, the type that its values are staged in."""
        target = self.of(schema.id)
        rows = connection.execute(_TYPES, target)
        types = {str(name): sql.StagingType(str(kind), bool(is_large)) for name, kind, is_large in rows}
        # Somebody may have dropped them since the run began.
        if not types:
            raise _gone(target, schema)
        missing = ", ".join(name for name in schema.column_names if name not in types)
        if missing:
            raise DestinationRejected(
                f"Table {target} of the destination lacks columns of {schema.id}: {missing}.", "Resync the table."
            )
        return [types[name] for name in schema.column_names]

    def empty(self, connection: _Connection, source: TableId, *, ours: bool) -> None:
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

    def row_count(self, connection: _Connection, source: TableId) -> int:
        """How many rows the table holds; 0 when it does not exist yet."""
        target = self.of(source)
        estimate = connection.execute(_ESTIMATE, target).fetchone()
        if estimate is None:
            return 0
        if int(str(estimate[0])) > _COUNTED_ROWS:
            return int(str(estimate[0]))
        row = connection.execute(sql.count_rows(target)).fetchone()
        return int(str(row[0])) if row else 0

    def _types(self, connection: _Connection, target: TableId) -> dict[str, str]:
        """The columns of a table and their types; empty when there is no such table."""
        return {str(name): str(kind) for name, kind in connection.execute(_COLUMNS, target)}

    def _follow(self, connection: _Connection, target: TableId, changes: Sequence[SchemaChange]) -> None:
        """Do what a person may have done already only where it is still to be done."""
        if not changes:
            return
        types = self._types(connection, target)
        self._rename(connection, target, types, [change for change in changes if isinstance(change, RenameColumn)])
        for change in changes:
            match change:
                case DropColumn(name) | DropNotNull(name) if name in types:
                    connection.execute(sql.drop_not_null(target, name))
                case ChangeType(column, _) if _is_to_change(types.get(column.name, column.type), column.type):
                    connection.execute(sql.change_type(target, column))
                case AddColumn(column) if column.name not in types:
                    connection.execute(sql.add_column(target, column))
                case AddColumn(column) if types[column.name] != column.type or self._differs(connection, target, column):
                    raise _in_the_way(target, column.name)

    def _rename(
        self, connection: _Connection, target: TableId, types: dict[str, str], renames: Sequence[RenameColumn]
    ) -> None:
        """All at once: columns may take each other's names. The types, by name, are changed with them."""
        left = [rename for rename in renames if rename.old in types]
        taken = _staying(types, left)
        moved = {rename.new: types.pop(rename.old) for rename in left}
        for number, rename in enumerate(left):
            if rename.new in taken:
                raise _in_the_way(target, rename.new)
            connection.execute(sql.rename_column(target, rename.old, f"{_RENAMED}{number}"))
        for number, rename in enumerate(left):
            connection.execute(sql.rename_column(target, f"{_RENAMED}{number}", rename.new))
        types |= moved

    def _differs(self, connection: _Connection, target: TableId, column: Column) -> bool:
        """Whether the column holds anything else than what it holds at the source in rows from before it was added."""
        return connection.execute(sql.any_other_value(target, column)).fetchone() == (True,)

    def _create(self, connection: _Connection, target: TableId, schema: TableSchema) -> None:
        exists = connection.execute("SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", [target.namespace])
        if exists.fetchone() == (False,):
            connection.execute(state_sql.LOCK_CREATION)
            connection.execute(sql.create_namespace(target.namespace))
        connection.execute(sql.create_table(target, schema))

    def _verify_key(self, connection: _Connection, target: TableId, schema: TableSchema) -> None:
        if schema.key and not self._has_key(connection, schema):
            other = connection.execute(_PRIMARY_KEY, target).fetchone()
            statement = sql.set_primary_key(target, None if other is None else str(other[0]), schema.key).as_string()
            key = ", ".join(schema.key)
            raise DestinationRejected(
                f"Table {target} of the destination has no unique index on the key of {schema.id} ({key}).",
                f"Run {statement} at the destination, or drop the table there. Then let it be copied anew.",
            )

    def _has_key(self, connection: _Connection, schema: TableSchema) -> bool:
        return bool(self._with_their_keys(connection, [schema]))

    def _with_their_keys(self, connection: _Connection, schemas: Sequence[TableSchema]) -> set[TableId]:
        """Those of the tables that are there, with an index that tells their keys apart."""
        wanted = [
            {"number": number, **self.of(schema.id)._asdict(), "key": schema.key} for number, schema in enumerate(schemas)
        ]
        return {schemas[int(str(number))].id for (number,) in connection.execute(_READY, [Json(wanted)])}


def _is_to_change(held: str, wanted: str) -> bool:
    """Whether a column that has one type is to get the other. It may have been widened ahead, to a third that takes more."""
    return held != wanted and (widens(held, wanted) or not widens(wanted, held))
