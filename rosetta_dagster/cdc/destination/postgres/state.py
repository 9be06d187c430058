"""Reads and writes what a PostgreSQL destination stores about a stream: its watermark and its copies."""

from collections.abc import Iterable, Mapping, Sequence

import psycopg

from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.position import Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.postgres import state_sql
from rosetta_dagster.cdc.destination.postgres.catalog import Connection
from rosetta_dagster.cdc.destination.postgres.privileges import ensure_namespace, verify_usage
from rosetta_dagster.cdc.destination.state import (
    StoredCopy,
    held_of,
    in_place,
    range_values,
    ranges_by_table,
    retargeting,
    schema_from_json,
    schema_to_json,
    target_taken,
    verify_stream,
    watermark_moved,
    watermark_of,
)
from rosetta_dagster.cdc.table_id import TableId


class StreamState:
    """The rows of one pipeline in the namespace `rosetta` of the destination. The caller owns the transaction.

    A copy counts only while its table has the target that it was copied into.
    """

    def __init__(self, connection: Connection, identity: StreamIdentity, targets: Mapping[TableId, TableId]) -> None:
        """`targets` maps source tables to the targets they have now."""
        self._connection = connection
        self._identity = identity
        self._targets = targets
        self._watermark: Watermark | None = None
        #: Each table's schema at the source as of its last applied change.
        self.schemas: dict[TableId, TableSchema] = {}
        #: Tables whose copy has started and is not complete.
        self.unfinished: set[TableId] = set()
        #: Tables whose target was dropped, and has another table in its place: that one does not hold the copy.
        self.replaced: frozenset[TableId] = frozenset()

    def read(self) -> Held:
        """Return what the destination has applied of the stream. Creates the state tables that are missing."""
        with self._connection.transaction():
            verify_usage(self._connection, state_sql.NAMESPACE, creating=False)
            if not _is_current(self._connection):
                ensure_namespace(self._connection, state_sql.NAMESPACE)
                self._connection.execute(state_sql.LOCK_CREATION)
                self._connection.execute(state_sql.STATE_TABLES)
            self._watermark, noted = self._read_stream()
            self._note_targets()
            copies = self._copies()
            self.replaced = self._read_replaced()
            ranges = ranges_by_table(self._connection.execute(state_sql.READ_RANGES, [self._identity.pipeline]))
        self.schemas = {copy.table: copy.schema for copy in copies if copy.schema is not None}
        self.unfinished = {copy.table for copy in copies if not copy.is_finished}
        return held_of(self._watermark, noted, copies, ranges)

    def lose(self, tables: Iterable[TableId]) -> None:
        """Forget the copied rows of these tables: their targets were dropped or replaced."""
        for table in tables:
            self._connection.execute(state_sql.FORGET_RANGES, [self._identity.pipeline, *table])
            self.schemas.pop(table, None)

    def begun_copies(self) -> frozenset[TableId]:
        """Return the tables whose copy has started, complete or not: Rosetta wrote the rows of their targets."""
        return frozenset(copy.table for copy in self._copies()) - self._read_replaced()

    def verify_target(self, table: TableId) -> None:
        """Raise `TableNotOurs` when another pipeline writes the table's target. Others wait until the transaction ends."""
        target = self._targets[table]
        self._connection.execute(state_sql.LOCK_TARGET, target)
        writer = self._connection.execute(state_sql.READ_WRITER, [*target, self._identity.pipeline]).fetchone()
        if writer is not None:
            raise target_taken(table, target, str(writer[0]))

    def start_copy(self, table: TableSchema, point: SnapshotPoint) -> None:
        pipeline = self._identity.pipeline
        parameters = [pipeline, *table.id, str(point.lsn), str(point.xids), schema_to_json(table), *self._targets[table.id]]
        self._connection.execute(state_sql.START_COPY, parameters)
        self._connection.execute(state_sql.RECORD_OIDS, [pipeline])
        self._connection.execute(state_sql.FORGET_RANGES, [pipeline, *table.id])
        self.schemas[table.id] = table
        self.unfinished.add(table.id)

    def resume_copy(self, table: TableId, point: SnapshotPoint) -> None:
        self._connection.execute(state_sql.RESUME_COPY, [str(point.lsn), str(point.xids), self._identity.pipeline, *table])

    def finish_copy(self, table: TableId) -> None:
        self._connection.execute(state_sql.FINISH_COPY, [self._identity.pipeline, *table])
        self._connection.execute(state_sql.FORGET_RANGES, [self._identity.pipeline, *table])
        self.unfinished.discard(table)

    def remember(self, table: TableSchema) -> None:
        """Record the schema that the next applied changes have."""
        self._connection.execute(state_sql.REMEMBER_COLUMNS, [schema_to_json(table), self._identity.pipeline, *table.id])
        self.schemas[table.id] = table

    def move(self, watermark: Watermark) -> None:
        """Write the watermark in the open transaction. Raise `WatermarkMoved` when another run has written it."""
        cursor = self._connection.execute(state_sql.MOVE_WATERMARK, self._move_values(watermark))
        if cursor.rowcount != 1:
            raise watermark_moved(self._identity.pipeline)

    def move_in_one_message(self, watermark: Watermark) -> bytes:
        """Return the statement that writes the watermark, or fails when another run has written it."""
        cursor = psycopg.ClientCursor(self._connection)
        return cursor.mogrify(state_sql.MOVE_WATERMARK_OR_FAIL, self._move_values(watermark)).encode()

    def _move_values(self, watermark: Watermark) -> Sequence[object]:
        return [
            watermark.engine,
            *_position_texts(watermark.position),
            watermark.xid,
            self._identity.pipeline,
            *(_position_texts(self._watermark.position) if self._watermark else (None, None, None)),
        ]

    def note(self, lsn: Lsn) -> None:
        self._connection.execute(state_sql.NOTE, [str(lsn), self._identity.pipeline])

    def moved(self, watermark: Watermark) -> None:
        """Record that the transaction which wrote the watermark has committed."""
        self._watermark = watermark

    def _read_stream(self) -> tuple[Watermark | None, Lsn | None]:
        identity = self._identity
        self._connection.execute(
            state_sql.IDENTIFY_STREAM, [identity.system_identifier, identity.slot_name, identity.pipeline]
        )
        row = self._connection.execute(state_sql.READ_STREAM, [self._identity.pipeline]).fetchone()
        if row is None:
            self._connection.execute(
                state_sql.ADD_STREAM, [identity.pipeline, identity.system_identifier, identity.slot_name]
            )
            return None, None
        verify_stream(identity, str(row[0]), str(row[1]))
        return _watermark(row[3:]), None if row[2] is None else Lsn.parse(str(row[2]))

    def _note_targets(self) -> None:
        """Record the targets of copies from older versions. Forget copies whose table has another target."""
        change = retargeting(self._read_copies(), self._targets)
        for table, target in change.unrecorded.items():
            self._connection.execute(state_sql.NOTE_TARGET, [*target, self._identity.pipeline, *table])
        for table in change.abandoned:
            self._connection.execute(state_sql.FORGET_COPY, [self._identity.pipeline, *table])
        self._connection.execute(state_sql.RECORD_OIDS, [self._identity.pipeline])

    def _read_replaced(self) -> frozenset[TableId]:
        rows = self._connection.execute(state_sql.READ_REPLACED, [self._identity.pipeline])
        return frozenset(TableId(str(namespace), str(name)) for namespace, name in rows)

    def _copies(self) -> list[StoredCopy]:
        return in_place(self._read_copies(), self._targets)

    def _read_copies(self) -> list[StoredCopy]:
        return [_copy(row) for row in self._connection.execute(state_sql.READ_COPIES, [self._identity.pipeline])]


def add_range(connection: Connection, pipeline: str, table: TableId, copied: CopiedRange) -> None:
    """Record in the open transaction that a range of the source table is copied."""
    connection.execute(state_sql.ADD_RANGE, range_values(pipeline, table, copied))


def set_aside(connection: Connection, pipeline: str, table: TableId, reason: str) -> None:
    """Record that changes of the table are left out from now on."""
    connection.execute(state_sql.SET_ASIDE, [reason, pipeline, *table])


def forget_stream(connection: Connection, pipeline: str) -> None:
    """Forget the watermark, and that copies are complete. That they were begun stays recorded: Rosetta wrote their rows."""
    if _has_state(connection):
        with connection.transaction():
            for statement in (state_sql.FORGET_WATERMARK, state_sql.FORGET_COPIES, state_sql.FORGET_ALL_RANGES):
                connection.execute(statement, [pipeline])


def forget_copies(connection: Connection, pipeline: str, tables: Iterable[TableId]) -> None:
    """Forget that the copies of these tables are complete."""
    if _has_state(connection):
        with connection.transaction():
            for table in tables:
                connection.execute(state_sql.FORGET_COPY, [pipeline, *table])
                connection.execute(state_sql.FORGET_RANGES, [pipeline, *table])


def _has_state(connection: Connection) -> bool:
    return connection.execute("SELECT to_regclass('rosetta.copied_ranges')").fetchone() != (None,)


def _is_current(connection: Connection) -> bool:
    """Return whether the state tables have every column that this version reads."""
    return _has_state(connection) and connection.execute(state_sql.HAS_OIDS).fetchone() == (True,)


def _copy(row: tuple[object, ...]) -> StoredCopy:
    namespace, name, lsn, snapshot, is_finished, columns, set_aside, target_namespace, target_name = row
    return StoredCopy(
        table=TableId(str(namespace), str(name)),
        point=SnapshotPoint(Lsn.parse(str(lsn)), XidSnapshot.parse(str(snapshot))),
        is_finished=bool(is_finished),
        schema=schema_from_json(columns),
        set_aside=None if set_aside is None else str(set_aside),
        target=None if target_name is None else TableId(str(target_namespace), str(target_name)),
    )


def _position_texts(position: Position) -> tuple[str, str, int]:
    return str(Lsn(position.transaction_lsn)), str(Lsn(position.lsn)), position.ordinal


def _watermark(row: tuple[object, ...]) -> Watermark | None:
    engine, transaction_lsn, lsn, ordinal, xid = row
    if engine is None:
        return None
    return watermark_of(engine, Lsn.parse(str(transaction_lsn)), Lsn.parse(str(lsn)), ordinal, xid)
