"""Decides which destination table stands for which source table, and creates, alters and empties it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import psycopg

from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.change.types import FIRST_USER_OID
from rosetta_dagster.cdc.config.pipeline import SchemaPolicy, TableOptions, TypePolicy
from rosetta_dagster.cdc.destination.evolution import (
    ChangeType,
    DropColumn,
    DropNotNull,
    SchemaChange,
    raise_refused,
    schema_changes,
    widens,
)
from rosetta_dagster.cdc.destination.postgres import columns, sql
from rosetta_dagster.cdc.destination.postgres.binary import BINARY_TYPES
from rosetta_dagster.cdc.destination.postgres.catalog import (
    Connection,
    PrimaryKey,
    StagingType,
    Unassignable,
    column_types,
    estimated_rows,
    primary_key,
    referencing_keys,
    staging_types,
    unassignable_columns,
    with_their_keys,
)
from rosetta_dagster.cdc.destination.postgres.privileges import ensure_namespace, verify_usage
from rosetta_dagster.cdc.errors import DestinationRejected, TableNotOurs, resync_remedy
from rosetta_dagster.cdc.table_id import TableId

#: Tables with more rows are not counted: the planner's estimate serves. Counting a million rows takes about 0.1 s.
_COUNTED_ROWS = 1_000_000


class Targets:
    """The destination's tables by the source's. The caller owns the transaction."""

    def __init__(
        self,
        targets: Mapping[TableId, TableId],
        policy: SchemaPolicy,
        types: TypePolicy = TypePolicy.CREATE,
        options: Mapping[TableId, TableOptions] = MappingProxyType({}),
        *,
        pipeline: str,
    ) -> None:
        """`pipeline` is named in remedies."""
        self.by_source = targets
        self._pipeline = pipeline
        self._options = options
        self._policy = policy
        self._types = types
        #: Read once for each table, and again after Rosetta has altered it.
        self._unassignable: dict[TableId, Unassignable] = {}

    def of(self, source: TableId) -> TableId:
        """Return the destination table of a source table."""
        return self.by_source[source]

    def stored(self, schema: TableSchema) -> TableSchema:
        """Return the schema with the types that its columns get at the destination."""
        if self._types is TypePolicy.CREATE:
            return schema
        return replace(schema, columns=tuple(map(_as_text, schema.columns)))

    def exists(self, connection: Connection, source: TableId) -> bool:
        """Return whether the table exists. Tables that have left the pipeline are not checked, and count as existing."""
        return source not in self.by_source or bool(column_types(connection, self.of(source)))

    def prepare(self, connection: Connection, schema: TableSchema, before: TableSchema) -> None:
        """Widen types and drop NOT NULL in a copied table where the source has done so.

        `before` is the table's schema as of its last applied change. Every other difference waits for the changes that come
        with it.
        """
        target = self.of(schema.id)
        if not column_types(connection, target):
            raise _missing(target, schema, self._pipeline)
        columns.follow(connection, target, self._changes_ahead(schema, before))
        self._verify_key(connection, _keyed(schema, before))

    def ready(self, connection: Connection, tables: Sequence[tuple[TableSchema, TableSchema]]) -> set[TableId]:
        """Return the tables that `prepare` would not alter. Takes schemas with those before; one query for all of them."""
        quiet = [(schema, before) for schema, before in tables if not self._changes_ahead(schema, before)]
        keyed = [_keyed(schema, before) for schema, before in quiet]
        return with_their_keys(connection, keyed, self.by_source)

    def _changes_ahead(self, schema: TableSchema, before: TableSchema) -> list[SchemaChange]:
        """Return the changes that can be made ahead of the stream."""
        return [
            change
            for change in schema_changes(self.stored(before), _named_as(before, self.stored(schema)))
            if isinstance(change, DropNotNull)
            # It may have been nullable before it was dropped, and the rows from then are still to come.
            or (isinstance(change, DropColumn) and change.name not in before.key)
            or (
                isinstance(change, ChangeType)
                and self._policy is SchemaPolicy.APPLY
                and widens(change.old_type, change.column.type)
            )
        ]

    def adapt(self, connection: Connection, schema: TableSchema, before: TableSchema) -> None:
        """Follow the column changes from one schema to the next. Raise `SchemaChangeRefused` when one cannot be followed."""
        raise_refused(schema_changes(before, schema), before, schema, self._policy)
        columns.follow(connection, self.of(schema.id), schema_changes(self.stored(before), self.stored(schema)))
        self._unassignable.pop(schema.id, None)
        self._verify_key(connection, schema)

    def create_if_missing(self, connection: Connection, schema: TableSchema) -> bool:
        """Create the table without its key, which `complete` adds after the rows. Return whether it was missing."""
        target = self.of(schema.id)
        verify_usage(connection, target.namespace, creating=False)
        if column_types(connection, target):
            return False
        ensure_namespace(connection, target.namespace)
        connection.execute(sql.create_table(target, replace(self.stored(schema), key=())))
        return True

    def replaced(self, schema: TableSchema) -> DestinationRejected:
        """Return the error for a copied table that was dropped at the destination, and made again by somebody."""
        return DestinationRejected(
            f"Table {self.of(schema.id)} of the destination was dropped and created again, and rows of {schema.id} may be "
            "missing in it.",
            resync_remedy(self._pipeline, schema.id),
        )

    def takes_binary(self, connection: Connection, schema: TableSchema) -> bool:
        """Return whether every column has the source's type and a binary form that is the same in all versions."""
        types = column_types(connection, self.of(schema.id))
        return all(column.type_oid in BINARY_TYPES and types.get(column.name) == column.type for column in schema.columns)

    def complete(self, connection: Connection, schema: TableSchema) -> None:
        """Add the key to a table whose rows are loaded. Building its index at once costs a third of growing it."""
        if schema.key and not self._has_key(connection, schema):
            connection.execute(sql.set_primary_key(self.of(schema.id), None, schema.key))

    def reshape(self, connection: Connection, schema: TableSchema, before: TableSchema | None, *, ours: bool) -> None:
        """Give an empty table the source's columns, key and comments. `before` is the schema that it was copied with last.

        `ours` is whether Rosetta created the table or has copied into it.
        """
        target = self.of(schema.id)
        columns.reshape(connection, target, self.stored(schema), None if before is None else self.stored(before))
        self._unassignable.pop(schema.id, None)
        key = primary_key(connection, target)
        if key is not None and before is not None and _is_of_before(key, schema, before):
            self._drop_key(connection, target, key)
            key = None
        if key is not None or not ours:
            self._verify_key(connection, schema)
        columns.drop_not_nulls(connection, target, schema, is_copied_again=before is not None)
        if self._options.get(schema.id, TableOptions()).comments:
            for statement in sql.comments(target, schema):
                connection.execute(statement)

    def unassignable(self, connection: Connection, source: TableId) -> Unassignable:
        """Return the columns of the table that statements may not assign to."""
        if source not in self._unassignable:
            self._unassignable[source] = unassignable_columns(connection, self.of(source))
        return self._unassignable[source]

    def staging_types(self, connection: Connection, schema: TableSchema) -> list[StagingType]:
        """Return, for each column of the source, the type that its values are staged in."""
        target = self.of(schema.id)
        types = staging_types(connection, target)
        # Somebody may have dropped the table or a column since the run began.
        if not types:
            raise _missing(target, schema, self._pipeline)
        missing = ", ".join(name for name in schema.column_names if name not in types)
        if missing:
            raise DestinationRejected(
                f"Table {target} of the destination is missing columns of {schema.id}: {missing}.",
                resync_remedy(self._pipeline, schema.id),
            )
        return [types[name] for name in schema.column_names]

    def empty(self, connection: Connection, source: TableId, *, ours: bool) -> None:
        """Empty a table of ours before a copy. Raise `TableNotOurs` when another table holds rows."""
        target = self.of(source)
        if ours:
            _refuse_foreign_keys(connection, target)
            connection.execute(sql.truncate(target))
        elif connection.execute(sql.any_row(target)).fetchone() == (True,):
            raise TableNotOurs(
                f"Table {target} of the destination holds rows that Rosetta did not write.",
                f"Empty it (TRUNCATE {target}), or give table {source} another target in pipeline_tables.",
            )

    def row_count(self, connection: Connection, source: TableId) -> int:
        """Return the number of rows, estimated for a large table; 0 for one that is missing."""
        target = self.of(source)
        estimate = estimated_rows(connection, target)
        if estimate is None:
            return 0
        if estimate > _COUNTED_ROWS:
            return estimate
        row = connection.execute(sql.count_rows(target)).fetchone()
        return int(str(row[0])) if row else 0

    def _drop_key(self, connection: Connection, target: TableId, key: PrimaryKey) -> None:
        statement = sql.drop_constraint(target, key.constraint)
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.errors.DependentObjectsStillExist:
            raise DestinationRejected(
                f"The key of table {target} has changed at the source, but foreign keys in the table use the old one.",
                f"Run there: {statement.as_string()} CASCADE; Then resync the table.",
            ) from None

    def _verify_key(self, connection: Connection, schema: TableSchema) -> None:
        """Raise `DestinationRejected` unless a unique index exists on the key, which upserts and deletes need."""
        if not schema.key or self._has_key(connection, schema):
            return
        target = self.of(schema.id)
        other = primary_key(connection, target)
        statement = sql.set_primary_key(target, None if other is None else other.constraint, schema.key).as_string()
        raise DestinationRejected(
            f"Table {target} of the destination has no unique index on the key of {schema.id} ({', '.join(schema.key)}).",
            f"Run {statement} at the destination, or drop the table there. Then resync the table.",
        )

    def _has_key(self, connection: Connection, schema: TableSchema) -> bool:
        return bool(with_their_keys(connection, [schema], self.by_source))


def _refuse_foreign_keys(connection: Connection, target: TableId) -> None:
    """Raise `DestinationRejected` when other tables reference this one: PostgreSQL does not let it be emptied then."""
    keys = referencing_keys(connection, target)
    if keys:
        statements = " ".join(f"{sql.drop_constraint(table, name).as_string()};" for table, name in keys)
        raise DestinationRejected(
            f"Table {target} has to be emptied before it is copied again, but foreign keys of the destination reference it.",
            f"Run there: {statements} Create them again when the copy is complete.",
        )


def _as_text(column: Column) -> Column:
    return replace(column, type="text") if column.type_oid >= FIRST_USER_OID else column


def _named_as(before: TableSchema, now: TableSchema) -> TableSchema:
    """Return the columns of now under their names of before, which the destination has until the renames are applied."""
    names = {column.number: column.name for column in before.columns}
    renamed = [replace(column, name=names.get(column.number, column.name)) for column in now.columns]
    return replace(now, columns=tuple(renamed), key=())


def _keyed(schema: TableSchema, before: TableSchema) -> TableSchema:
    """Return the schema whose key the destination's table has until column renames are applied."""
    return schema if schema.column_names == before.column_names else before


def _is_of_before(key: PrimaryKey, schema: TableSchema, before: TableSchema) -> bool:
    """Return whether a primary key is the one that the source had at the last copy, and has no longer."""
    names = {column.number: column.name for column in schema.columns}
    old = (before.columns[index] for index in before.key_indexes)
    was = {names.get(column.number, column.name) for column in old}
    return key.columns == was and key.columns != set(schema.key)


def _missing(target: TableId, schema: TableSchema, pipeline: str) -> DestinationRejected:
    return DestinationRejected(
        f"Table {target} of the destination is gone, and with it the rows of {schema.id}.",
        resync_remedy(pipeline, schema.id),
    )
