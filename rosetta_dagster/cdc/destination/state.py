"""Decides what the stored state of a stream means: which copies still count, and which stream continues it.

Every destination stores the same facts in its own SQL. The rules that read them stand here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.destination.base import BegunCopy, Held, StreamIdentity
from rosetta_dagster.cdc.errors import SlotInvalid, TableNotOurs, WatermarkMoved
from rosetta_dagster.cdc.table_id import TableId

_SCHEMA = TypeAdapter(TableSchema)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCopy:
    """One row of the destination's table of copies."""

    table: TableId
    point: SnapshotPoint
    is_finished: bool
    schema: TableSchema | None
    #: Why changes of the table are left out; None when they are applied.
    set_aside: str | None
    #: The destination table that the rows are in; None when an older version did not record it.
    target: TableId | None


_Copy = TypeVar("_Copy", bound=StoredCopy)


@dataclass(frozen=True, slots=True)
class Retargeting:
    """What the stored copies need after targets have changed in the pipeline's configuration."""

    #: Copies whose target was never recorded, with the target that the table has now.
    unrecorded: Mapping[TableId, TableId]
    #: Finished copies whose table has another target now. They no longer count: their rows are elsewhere, and the new
    #: target may hold rows of somebody else. If a table ever gets its old target back, it is copied again, since that
    #: target has missed changes.
    abandoned: Sequence[TableId]


def retargeting(copies: Iterable[StoredCopy], targets: Mapping[TableId, TableId]) -> Retargeting:
    """Compare stored copies with the targets of now, by source table."""
    unrecorded: dict[TableId, TableId] = {}
    abandoned: list[TableId] = []
    for copy in copies:
        target = targets.get(copy.table, copy.target)
        if target is not None and copy.target is None:
            unrecorded[copy.table] = target
        elif target != copy.target and copy.is_finished:
            abandoned.append(copy.table)
    return Retargeting(unrecorded, abandoned)


def in_place(copies: Iterable[_Copy], targets: Mapping[TableId, TableId]) -> list[_Copy]:
    """Return the copies whose table still has the target it was copied into, or has left the pipeline."""
    return [copy for copy in copies if targets.get(copy.table, copy.target) == copy.target]


def held_of(
    watermark: Watermark | None,
    noted: Lsn | None,
    copies: Sequence[StoredCopy],
    ranges: Mapping[TableId, Sequence[CopiedRange]],
) -> Held:
    """Return what the destination has applied of the stream."""
    return Held(
        watermark=watermark,
        copied={copy.table: copy.point for copy in copies if copy.is_finished},
        begun={
            copy.table: BegunCopy(table=copy.schema, ranges=frozenset(ranges.get(copy.table, ())))
            for copy in copies
            if not copy.is_finished
        },
        schemas={copy.table: copy.schema for copy in copies if copy.schema is not None},
        set_aside={copy.table: copy.set_aside for copy in copies if copy.set_aside is not None},
        noted=noted,
    )


def verify_stream(identity: StreamIdentity, system_identifier: str, slot_name: str) -> None:
    """Raise `SlotInvalid` when the stored watermark belongs to another cluster or slot."""
    if (system_identifier, slot_name) == (identity.system_identifier, identity.slot_name):
        return
    raise SlotInvalid(
        f"The destination continues pipeline {identity.pipeline} from slot {slot_name} of the cluster {system_identifier}, "
        f"but the source is slot {identity.slot_name} of the cluster {identity.system_identifier}.",
        "Point the pipeline back at that source, or give it another name so that it starts with a new copy.",
    )


def target_taken(table: TableId, target: TableId, writer: str) -> TableNotOurs:
    """Return the error for a target that another pipeline writes."""
    return TableNotOurs(
        f"Table {target} of the destination, the target of {table}, is written by pipeline {writer}.",
        "Give the table another target (pipeline_tables.target_schema, target_name), or take it out of pipeline "
        f"{writer} and resync that pipeline once.",
    )


def watermark_moved(pipeline: str) -> WatermarkMoved:
    """The error for a watermark that is not the one this run read or wrote last."""
    return WatermarkMoved(
        f"The watermark of pipeline {pipeline} was moved by another run.",
        "The run restarts by itself. If this goes on, look for a second Rosetta with the same pipeline.",
    )


def watermark_of(engine: object, transaction_lsn: Lsn, lsn: Lsn, ordinal: object, xid: object) -> Watermark:
    """Return the watermark that the stored columns describe."""
    position = Position(transaction_lsn, lsn, int(str(ordinal)))
    return Watermark(engine=Engine(str(engine)), position=position, xid=int(str(xid)))


def ranges_by_table(rows: Iterable[Sequence[object]]) -> dict[TableId, list[CopiedRange]]:
    """Group stored ranges by table; the columns are those of `range_values` without the pipeline."""
    ranges: dict[TableId, list[CopiedRange]] = {}
    for row in rows:
        namespace, name, relation_namespace, relation_name, filenode, first_page, end_page, xmin = row
        relation = Relation(TableId(str(relation_namespace), str(relation_name)), _number(filenode))
        pages = PageRange(relation, _number(first_page), None if end_page is None else _number(end_page))
        ranges.setdefault(TableId(str(namespace), str(name)), []).append(CopiedRange(pages, _number(xmin)))
    return ranges


def range_values(pipeline: str, table: TableId, copied: CopiedRange) -> list[object]:
    """Return the columns that a range of a source table is stored in."""
    (relation, first_page, end_page), xmin = copied
    return [pipeline, *table, *relation.id, relation.filenode, first_page, end_page, xmin]


def schema_to_json(table: TableSchema) -> str:
    """Return the stored form of a schema."""
    return _SCHEMA.dump_json(table).decode()


def schema_from_json(text: object) -> TableSchema | None:
    """Return the schema of a stored form; None when none was stored."""
    return None if text is None else _SCHEMA.validate_json(str(text))


def _number(value: object) -> int:
    """A driver may return a large number as a decimal."""
    return int(str(value))
