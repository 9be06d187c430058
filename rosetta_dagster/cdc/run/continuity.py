"""Decides which copies the stream can continue, by comparing stored and current fingerprints.

A difference means that the stream may not have carried everything. What follows is the pipeline's policy (`on_gap`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rosetta_dagster.cdc.change.fingerprint import leaf_changes, missed_changes_reason, unpublished_writes_reason
from rosetta_dagster.cdc.change.masking import keeps_masks
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.schema import TableSchema, with_fingerprint
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.copy.partitions import PartitionCopy
from rosetta_dagster.cdc.destination.base import Held
from rosetta_dagster.cdc.errors import SlotInvalid, resync_remedy
from rosetta_dagster.cdc.source.slots import SlotState
from rosetta_dagster.cdc.source.timeline import Timelines
from rosetta_dagster.cdc.table_id import TableId

_EXPOSED: Final = (
    "a masked column was dropped, renamed or replaced at the source, and a copy would bring its values without a mask: "
    "correct mask of the table first"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuity:
    """What one destination's copies need before the stream continues them."""

    #: Tables that may have missed changes, and why, as a clause.
    gaps: Mapping[TableId, str]
    #: Those of them of which other rows or columns are published than were copied: somebody wants it so.
    reselected: frozenset[TableId]
    #: Those of which only changes are missing that the source does not publish.
    unpublished: frozenset[TableId]
    #: Those of which a masked column has another name than before: a copy would bring its values in clear.
    exposed: frozenset[TableId]
    #: Tables of which only partitions came, went or were rewritten.
    partitions: Sequence[PartitionCopy]
    #: Tables that have missed nothing although their fingerprint differs, as they are now.
    moved: Sequence[TableSchema]


def gap_message(pipeline: str, table: TableId, reason: str) -> str:
    """Return what an operator reads of a table that is set aside because of a gap."""
    return f"Changes of table {table} may be missing at the destination: {reason}. {resync_remedy(pipeline, table)}"


def verify_timeline(held: Held, timelines: Timelines) -> None:
    """Raise `SlotInvalid` if the destination holds changes that the source lost when it was promoted."""
    known, lsn = _timeline(held), _last_lsn(held)
    if known and timelines.loses(known, lsn):
        raise SlotInvalid(
            f"The source was promoted to timeline {timelines.current} without everything that its predecessor had written: "
            f"the destination holds changes up to {lsn}, and the source has its predecessor's up to "
            f"{timelines.end_of(known)}.",
            "The destination has rows that the source does not have. To give up these, pause the pipeline and run rosetta "
            "resync: it copies all tables again.",
        )


def verify_slot(config: PipelineConfig, slot: SlotState | None, held: Sequence[Held]) -> None:
    """Raise `SlotInvalid` if the stream would begin after a gap: a destination continues only from the slot it came from."""
    remedy = f"Pause the pipeline and run: rosetta resync {config.name}. It copies all tables again, with a new slot."
    if slot is None and any(each.watermark or each.copied for each in held):
        raise SlotInvalid(
            f"Replication slot {config.slot_name} is missing. Changes since the last run are lost to the stream.",
            remedy,
        )
    if slot is not None and not all(each.is_continued_by(slot.confirmed_flush_lsn) for each in held):
        raise SlotInvalid(
            f"Replication slot {config.slot_name} is ahead of what the destination holds: it was created again, "
            "another client has read from it, or the destination was restored to an earlier state. The changes in between "
            "are lost to the stream.",
            remedy,
        )


def on_timeline(held: Held, timeline: int) -> list[TableSchema]:
    """Return the held tables as of another timeline, if they are not of it; none when it is not known which they are of."""
    if _timeline(held) in (0, timeline):
        return []
    return [schema.on_timeline(timeline) for schema in held.schemas.values()]


def _timeline(held: Held) -> int:
    """Return the last timeline that the destination has applied changes of."""
    copied = [held.schemas[table] for table in held.copied if table in held.schemas]
    return max((schema.fingerprint.timeline for schema in copied if schema.fingerprint is not None), default=0)


def _last_lsn(held: Held) -> Lsn:
    """Return up to where the destination has changes of the source's log, at most."""
    points = [int(point.lsn) for point in held.copied.values()]
    applied = [] if held.watermark is None else [held.watermark.position.transaction_lsn, held.watermark.position.lsn]
    return Lsn(max([*points, *applied], default=0))


def continuity(held: Held, schemas: Mapping[TableId, TableSchema], *, follows_oid: bool, removes: bool = True) -> Continuity:
    """Compare what the destination holds with the tables of now. Copies from before fingerprints were kept are trusted.

    `removes`: whether rows of partitions that went are to go at the destination, too.
    """
    gaps: dict[TableId, str] = {}
    partitions: list[PartitionCopy] = []
    moved: list[TableSchema] = []
    exposed: set[TableId] = set()
    for table in sorted(held.copied.keys() & held.schemas.keys() & schemas.keys()):
        known, schema = held.schemas[table], schemas[table]
        before, now = known.fingerprint, schema.fingerprint
        if before is None or now is None:
            continue
        reason = missed_changes_reason(before, now, follows_oid=follows_oid)
        is_exposed = not keeps_masks(known, schema)
        if table in held.set_aside:
            # It is copied again when somebody asks for it; but another table of its name was never set aside.
            reason = reason if now.oid != before.oid and not is_exposed else None
        elif is_exposed:
            exposed.add(table)
            reason = _EXPOSED
        elif reason is None and (changes := leaf_changes(before, now, ignores_dropped=not removes)):
            if schema.key and with_fingerprint(known, schema) is not None:
                partitions.append(PartitionCopy(schema, before, removes))
            else:
                reason = str(changes)
        elif reason is None and before != now:
            moved.append(schema)
        if reason is not None:
            gaps[table] = reason
    reselected = frozenset(table for table in gaps if _is_reselected(held.schemas[table], schemas[table]))
    unpublished = frozenset(table for table in gaps if _is_unpublished(held.schemas[table], schemas[table], gaps[table]))
    return Continuity(
        gaps=gaps,
        reselected=reselected - exposed,
        unpublished=unpublished,
        exposed=frozenset(exposed),
        partitions=partitions,
        moved=moved,
    )


def _is_reselected(known: TableSchema, now: TableSchema) -> bool:
    before, after = known.fingerprint, now.fingerprint
    return before is not None and after is not None and not after.is_selected_as(before)


def _is_unpublished(known: TableSchema, now: TableSchema, reason: str) -> bool:
    before, after = known.fingerprint, now.fingerprint
    return before is not None and after is not None and unpublished_writes_reason(before, after) == reason
