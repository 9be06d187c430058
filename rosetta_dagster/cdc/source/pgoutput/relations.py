"""Decides what a table looked like when its changes were logged: a relation message says so, the catalog adds the rest."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema, columns_named, key_among
from rosetta_dagster.cdc.source.pgoutput.protocol import Relation, RelationColumn
from rosetta_dagster.cdc.table_id import TableId

#: Reads what the catalog says of a table now; None when the table is gone.
ReadSchema: TypeAlias = Callable[[TableId], TableSchema | None]
#: How SQL spells a type, by its OID and modifier; the modifier is -1 for none.
TypeName: TypeAlias = Callable[[int, int], str]

_IDENTITIES = {"d": Identity.KEY, "i": Identity.KEY, "f": Identity.FULL, "n": Identity.NOTHING}


class Relations:
    """The tables of one stream by the numbers that its messages use."""

    def __init__(
        self,
        schemas: dict[TableId, TableSchema],
        held_schemas: dict[TableId, TableSchema],
        read_schema: ReadSchema,
        type_name: TypeName,
    ) -> None:
        """The schemas are those of now; the held ones, of tables that have them, those where the stream begins."""
        self._schemas = dict(schemas)
        self._before = {**schemas, **held_schemas}
        self._read_schema = read_schema
        self._type_name = type_name
        self._by_oid: dict[int, TableSchema | None] = {}

    def find(self, oid: int) -> TableSchema | None:
        """The table of a change by its number; None when it is none of the pipeline's."""
        return self._by_oid[oid]

    def learn(self, relation: Relation) -> None:
        """A relation message: the server sends one before a table's first change, and again when the table was altered."""
        table = TableId(relation.namespace, relation.name)
        known = self._schemas.get(table)
        if known is None:
            # The publication has more tables than the pipeline.
            self._by_oid[relation.oid] = None
            return
        # One that comes again may look the same although a column was dropped and another of its name and type added.
        if relation.oid in self._by_oid or not _describes(known, relation):
            learnt = self._schema(relation, self._before[table], known, self._read_schema(table))
            # Changes of one batch are told apart by whether they have the same object.
            known = known if learnt == known else learnt
        self._schemas[table] = self._before[table] = known
        self._by_oid[relation.oid] = known

    def _schema(self, relation: Relation, before: TableSchema, known: TableSchema, found: TableSchema | None) -> TableSchema:
        """The table as the message describes it. The catalog, maybe ahead of it, and the schema before tell the rest.

        Of a table that is gone the catalog tells what it did when the table was known.
        """
        catalog = found or known
        named = columns_named([column.name for column in relation.columns], before, catalog, is_gone=found is None)
        columns = tuple(map(self._column, relation.columns, named))
        return TableSchema(
            id=catalog.id,
            columns=columns,
            key=_key(relation, key_among(columns, catalog)),
            identity=_identity(relation),
            comment=catalog.comment,
            fingerprint=catalog.fingerprint,
        )

    def _column(self, column: RelationColumn, known: Column | None) -> Column:
        type_name = self._type_name(column.type_oid, column.type_modifier)
        if known is None:
            return Column(name=column.name, type=type_name, type_oid=column.type_oid, base_oid=column.type_oid)
        logged = replace(known, type=type_name, type_oid=column.type_oid, type_modifier=column.type_modifier)
        if known.type_oid == column.type_oid:
            return logged
        return replace(logged, base_oid=column.type_oid, element_oid=0)


def _describes(known: TableSchema, relation: Relation) -> bool:
    """Whether the message says of the table just what is known."""
    return (
        [(column.name, column.type_oid, column.type_modifier) for column in known.columns]
        == [(column.name, column.type_oid, column.type_modifier) for column in relation.columns]
        and known.identity is _identity(relation)
        and set(known.key) == set(_key(relation, known.key))
    )


def _identity(relation: Relation) -> Identity:
    identity = _IDENTITIES[relation.identity]
    if identity is Identity.KEY and not any(column.identifies for column in relation.columns):
        return Identity.NOTHING
    return identity


def _key(relation: Relation, key: tuple[str, ...]) -> tuple[str, ...]:
    """The key's columns; in the order that the catalog has, which the message does not tell."""
    identifying = tuple(column.name for column in relation.columns if column.identifies)
    if relation.identity == "f" or not identifying or set(identifying) == set(key):
        return key
    return identifying
