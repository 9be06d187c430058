"""A destination that a test drives as a run would, with the tables that the tests of destinations are about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TypeAlias

from rosetta_dagster.cdc.change.batch import compact
from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import Column, Identity, TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import Destination, Held, StreamIdentity
from rosetta_dagster.cdc.table_id import TableId
from tests.support.changes import table
from tests.support.destinations import DestinationKind, TextRow

IDENTITY = StreamIdentity(pipeline="shop", system_identifier="7000000000000000001", slot_name="rosetta_shop")


BEGINNING = SnapshotPoint(Lsn(16), XidSnapshot(100, 100, frozenset()))


#: OIDs of the types that the tests use.
OIDS = {"text": 25, "integer": 23, "bigint": 20, "numeric": 1700, "uuid": 2950, "bytea": 17, "json": 114}


#: What a text may hold that a way of writing it down could stumble over.
AWKWARD_TEXTS = [
    "", " ", "\t", "\n", "\r\n", "\\", "\\\\", "\\N", "\\.", "\\t", "a\tb\nc\\d\re", "NULL", "null", "'", "''", '"',
    "$$", "%", "%s", "{}", "{NULL}", "(,)", ",", ";--", "\x01\x7f", "ß€😀", "trailing ", "0", "u", "é\n\\N\n",
]  # fmt: skip


ODD_NAMES = [
    'quo"te', "per%cent", "%s", "two words", "Upper", "semi;colon", "curly{}", "select", "naïve_日本語", "back\\slash",
    "c0", "c1", "op", "unchanged", "copies", "t", "s", "dot.ted", "x" * 63, "apo'strophe", " ", "é" * 31,
]  # fmt: skip


class Replica:
    """A destination that a test drives as a run would: opened, prepared, and each batch with the next watermark."""

    def __init__(self, kind: DestinationKind, destination: Destination, held: Held, tables: Sequence[TableSchema]) -> None:
        self.kind = kind
        self.destination = destination
        self.held = held
        self.tables = tables
        self.targets: Mapping[TableId, TableId] = {}
        self._number = held.watermark.position.lsn if held.watermark else 1000

    def apply(self, *changes: Change) -> Watermark:
        """Apply the changes as one batch."""
        self._number += 1
        reached = watermark(self._number)
        self.destination.apply(compact(changes), reached)
        return reached

    def rows(self, schema: TableSchema) -> list[TextRow]:
        return self.kind.rows(self.targets.get(schema.id, schema.id), schema.column_names)


Open: TypeAlias = Callable[..., Replica]


def copy(destination: Destination, tables: Sequence[TableSchema], *blocks: bytes) -> None:
    """A whole copy of the tables; the blocks go into each of them."""
    destination.start_copy(tables, BEGINNING)
    for schema in tables:
        with destination.loader() as loader:
            loader.load(schema, pages(), blocks)
        finish(destination, schema)


def finish(destination: Destination, schema: TableSchema) -> None:
    """All rows of the table are loaded."""
    with destination.loader() as loader:
        loader.complete(schema)
    destination.finish_copy(schema)


def with_columns(schema: TableSchema, **names: str) -> TableSchema:
    """The table after its columns got other names."""
    columns = tuple(replace(column, name=names.get(column.name, column.name)) for column in schema.columns)
    return replace(schema, columns=columns)


def pages() -> CopiedRange:
    """A range that no copy had before."""
    first_page = next(_pages)
    return CopiedRange(PageRange(Relation(ITEMS.id, 1), first_page, first_page + 1), 99)


def watermark(number: int) -> Watermark:
    return Watermark(engine=Engine.DEBEZIUM, position=Position(number, number, 0), xid=number)


def copied_up_to(reached: Watermark | None, table: TableSchema) -> Held:
    """What a destination holds that has one table."""
    return Held(watermark=reached, copied={table.id: BEGINNING}, schemas={table.id: table})


def typed(columns: Mapping[str, str], *key: str, name: str = "items", identity: Identity = Identity.KEY) -> TableSchema:
    """A table of these columns and types."""
    return TableSchema(
        id=TableId("public", name),
        columns=tuple(
            Column(name=each, type=kind, type_oid=OIDS[kind], base_oid=OIDS[kind], not_null=each in key, number=number)
            for number, (each, kind) in enumerate(columns.items(), 1)
        ),
        key=key,
        identity=identity,
    )


def keyless(*names: str, name: str = "notes") -> TableSchema:
    return table(*names, key=(), identity=Identity.FULL, name=name)


ID, VALUE = typed({"id": "integer", "value": "text"}, "id").columns


_pages = count()


ITEMS = table("id", "name", "size")


PAIRS = table("b", "value", "a", key=("a", "b"), name="pairs")


NOTES = keyless("text", "more")
