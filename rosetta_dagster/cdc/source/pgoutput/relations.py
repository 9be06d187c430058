"""Decides which table a change belongs to and what it looked like then, from relation messages and the catalog."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from rosetta_dagster.cdc.change.event import UnreadableTable
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema, columns_named, key_among
from rosetta_dagster.cdc.errors import TableReplaced, resync_remedy
from rosetta_dagster.cdc.source.pgoutput.protocol import Relation, RelationColumn
from rosetta_dagster.cdc.table_id import TableId

#: Reads a table's schema from the catalog; None when the table no longer exists.
ReadSchema: TypeAlias = Callable[[TableId], TableSchema | None]
#: Returns a type's name in SQL from its OID and modifier; the modifier is -1 for none.
TypeName: TypeAlias = Callable[[int, int], str]

_IDENTITIES: Final = {"d": Identity.KEY, "i": Identity.KEY, "f": Identity.FULL, "n": Identity.NOTHING}


class Relations:
    """The tables of one stream by their OIDs.

    A table is identified by its OID where that is known, so its changes go on when it is renamed. Another table that takes
    its name is not the pipeline's.
    """

    def __init__(
        self,
        schemas: Mapping[TableId, TableSchema],
        held_schemas: Mapping[TableId, TableSchema],
        oids: Mapping[TableId, int],
        read_schema: ReadSchema,
        type_name: TypeName,
        *,
        pipeline: str,
    ) -> None:
        """`schemas` are the tables as they are now, `held_schemas` as they were when the stream begins.

        `oids` are the OIDs of tables when they were copied. A table that is missing there is identified by its name.
        """
        self._schemas = dict(schemas)
        self._before = {**schemas, **held_schemas}
        self._oids = {table: oid for table, oid in oids.items() if table in self._schemas}
        self._tables = {oid: table for table, oid in self._oids.items()}
        self._read_schema = read_schema
        self._type_name = type_name
        self._pipeline = pipeline
        self._by_oid: dict[int, TableSchema | None] = {}

    def find(self, oid: int) -> TableSchema | None:
        """Return the table as its last relation message described it; None when it is not one of the pipeline's.

        An `UnreadableTable` stands for another table that has taken the name of one of the pipeline's.
        """
        return self._by_oid[oid]

    def learn(self, relation: Relation) -> None:
        """Take in a relation message. The server sends one before a table's first change, and after each alteration."""
        name = TableId(relation.namespace, relation.name)
        table = self._tables.get(relation.oid, name)
        if table not in self._schemas:
            # The publication has more tables than the pipeline.
            self._by_oid[relation.oid] = None
        elif self._oids.get(table, relation.oid) != relation.oid:
            self._by_oid[relation.oid] = self._by_oid.get(relation.oid) or _replacement(self._pipeline, table)
        else:
            self._by_oid[relation.oid] = self._schema_of(table, name, relation)

    def _schema_of(self, table: TableId, name: TableId, relation: Relation) -> TableSchema:
        """Return the table as the message describes it. `name` is its name when the changes were logged."""
        known = self._schemas[table]
        # A repeated message may look the same although a column was dropped and one of its name and type was added.
        if relation.oid in self._by_oid or not _describes(known, relation):
            learnt = self._described(relation, self._before[table], known, self._read_schema(name))
            # Batches distinguish schemas by the object, so an equal one must be the same object.
            known = known if learnt == known else learnt
        self._schemas[table] = self._before[table] = known
        return known

    def _described(
        self, relation: Relation, before: TableSchema, known: TableSchema, found: TableSchema | None
    ) -> TableSchema:
        """Return the table as the message describes it, completed from the schema before it and from the catalog.

        The catalog may be ahead of the message. When the table no longer exists, `known` stands for the catalog.
        """
        catalog = found or known
        named = columns_named([column.name for column in relation.columns], before, catalog, is_gone=found is None)
        columns = tuple(map(self._column, relation.columns, named))
        return TableSchema(
            id=known.id,
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


def _replacement(pipeline: str, table: TableId) -> UnreadableTable:
    """Return what stands for another table under this name: its changes are an error."""
    message = f"Table {table} was dropped or renamed at the source, and another table has its name now."
    return UnreadableTable.because(table, TableReplaced(message, resync_remedy(pipeline, table)))


def _describes(known: TableSchema, relation: Relation) -> bool:
    """Whether the message describes the table exactly as it is known."""
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
    """Return the key's columns, in the catalog's order as far as it has the same ones: the message has its own order."""
    identifying = tuple(column.name for column in relation.columns if column.identifies)
    if relation.identity == "f" or not identifying or set(identifying) == set(key):
        return key
    return identifying
