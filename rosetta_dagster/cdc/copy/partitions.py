"""Copies single partitions of tables again, after they came, went or were rewritten without row changes in the stream.

The rows of the changed partitions replace those with the same keys, as of one point of the stream, and rows whose keys the
table no longer has at that point are removed. So the destination must hold exactly what the stream carried up to the point
before the first row is loaded, and nothing after it: `ConcurrentCopies` sees to that.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from rosetta_dagster.cdc.change.fingerprint import Fingerprint, leaf_changes
from rosetta_dagster.cdc.change.pages import PageRange, Relation
from rosetta_dagster.cdc.change.schema import TableSchema, with_fingerprint
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.copy.parts import Part
from rosetta_dagster.cdc.copy.snapshot import Copier, CopyObserver, altered, as_of_snapshot, current_snapshot
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.heartbeat import MESSAGE_PREFIX
from rosetta_dagster.cdc.source.slots import ConsistentPoint
from rosetta_dagster.cdc.table_id import TableId

_RELATIONS = """
SELECT class.oid::bigint, namespace.nspname::text, class.relname::text, class.relfilenode::bigint
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.oid = ANY (%s::bigint[]::oid[])
"""


class PartitionCopy(NamedTuple):
    """A table whose partitions changed, and what the destination knows of it."""

    table: TableSchema
    #: What the destination's rows stand for, but for the changes of the stream.
    before: Fingerprint
    #: Whether rows that the table no longer has are removed at the destination.
    removes: bool


def copy_partitions(
    copier: Copier,
    copies: Sequence[PartitionCopy],
    point: ConsistentPoint,
    observer: CopyObserver,
) -> None:
    """Copy the changed partitions as of the point, which must stay exported meanwhile.

    `TableAltered` when the columns of a table have changed since; `SnapshotStopped` when the run is stopped.
    """
    with source_errors(copier.source), connect(copier.source) as connection:
        # A stream that is quiet would not get to the point.
        connection.execute("SELECT pg_logical_emit_message(true, %s, '')", [f"{MESSAGE_PREFIX}copy"])
        with as_of_snapshot(connection, point.snapshot_name):
            now = copier.read_schemas(connection, [copy.table.id for copy in copies])
            seen = SnapshotPoint(point.lsn, current_snapshot(connection))
            parts = [part for copy in copies for part in _parts(connection, copy, now)]
            observer.start([], [], seen)
            copier.copy(parts, point.snapshot_name, seen.xids.xmin, observer)


def _parts(connection: "psycopg.Connection[Any]", copy: PartitionCopy, now: Mapping[TableId, TableSchema]) -> list[Part]:
    """Return the partitions to be read; at least one part, since the last one removes rows."""
    table = now.get(copy.table.id)
    if table is None or table.fingerprint is None or with_fingerprint(copy.table, table) is None:
        raise altered(copy.table)
    changes = leaf_changes(copy.before, table.fingerprint)
    rows = connection.execute(_RELATIONS, [[leaf.oid for leaf in changes.changed]]).fetchall()
    ranges = [PageRange(Relation(TableId(namespace, name), filenode), 0, None) for _, namespace, name, filenode in rows]
    removes = copy.removes and any(leaf.oid in copy.before.storage for leaf in (*changes.changed, *changes.gone))
    # The partitioned table itself has no rows and no file.
    ranges = ranges or [PageRange(Relation(table.id, 0), 0, None)]
    return [Part(table=table, pages=pages, replacing=True, removes=removes) for pages in ranges]
