"""Decides which user-defined types a destination needs, and creates them and their later labels.

Types are created outside of the transaction that writes rows: PostgreSQL lets a new enum label be used only after the
transaction that added it.
"""

from collections.abc import Iterable

from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.types import EnumType, TypeDefinition, TypeReader, user_types
from rosetta_dagster.cdc.config.pipeline import TypePolicy
from rosetta_dagster.cdc.destination.postgres.catalog import Connection
from rosetta_dagster.cdc.destination.postgres.privileges import ensure_namespace
from rosetta_dagster.cdc.destination.postgres.types_sql import add_labels, create_type

_TYPE = """
SELECT type.oid::bigint, typtype = 'e' FROM pg_type AS type JOIN pg_namespace AS namespace ON namespace.oid = typnamespace
WHERE nspname = %s AND typname = %s
"""

_LABELS = "SELECT enumlabel::text FROM pg_enum WHERE enumtypid = %s::bigint::oid ORDER BY enumsortorder"


class Types:
    """The user-defined types of the tables' columns. Used by the thread that owns the connection, between transactions."""

    def __init__(self, connection: Connection, read_types: TypeReader, policy: TypePolicy) -> None:
        self._connection = connection
        self._read_types = read_types
        self._policy = policy

    def follow(self, tables: Iterable[TableSchema]) -> bool:
        """Create the types and add the labels that are missing. Return whether there were any."""
        oids = user_types(tables)
        if not oids or self._policy is TypePolicy.TEXT:
            return False
        followed = [self._follow(definition) for definition in self._read_types(oids)]
        return any(followed)

    def _follow(self, definition: TypeDefinition) -> bool:
        found = self._connection.execute(_TYPE, [definition.namespace, definition.name]).fetchone()
        if found is None:
            with self._connection.transaction():
                ensure_namespace(self._connection, definition.namespace)
                self._connection.execute(create_type(definition))
            return True
        oid, is_enum = found
        if not is_enum or not isinstance(definition, EnumType):
            # Somebody chose another kind of type here; whether it takes the values shows when they come.
            return False
        labels = [str(label) for (label,) in self._connection.execute(_LABELS, [oid])]
        statements = add_labels(definition, labels)
        for statement in statements:
            self._connection.execute(statement)
        return bool(statements)
