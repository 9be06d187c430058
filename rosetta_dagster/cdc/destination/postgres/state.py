"""What a PostgreSQL destination remembers of a stream: its watermark and the points of its copies."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import psycopg
from pydantic import TypeAdapter

from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import BegunCopy, Held, StreamIdentity
from rosetta_dagster.cdc.destination.postgres import state_sql
from rosetta_dagster.cdc.errors import SlotInvalid, WatermarkMoved
from rosetta_dagster.cdc.table_id import TableId

#: Every connection here returns plain tuples.
_Connection: TypeAlias = "psycopg.Connection[tuple[object, ...]]"

_SCHEMA = TypeAdapter(TableSchema)


class _Copy(NamedTuple):
    """A row of `rosetta.copies`."""

    table: TableId
    point: SnapshotPoint
    is_finished: bool
    schema: TableSchema | None
    set_aside: str | None
    #: The table that it went into; None when that was not noted.
    target: TableId | None


class StreamState:
    """The rows of one pipeline in the namespace `rosetta` of the destination. The caller owns the transaction.

    What is noted of a table is of the target that it had then. A table that has another target by now has no copy: its rows
    are elsewhere, and rows in the new target are not ours.
    """

    def __init__(self, connection: _Connection, identity: StreamIdentity, targets: Mapping[TableId, TableId]) -> None:
        """The targets are those of now, by source table."""
        self._connection = connection
        self._identity = identity
        self._targets = targets
        self._watermark: Watermark | None = None
        #: What the tables looked like at the source when their last change was applied.
        self.schemas: dict[TableId, TableSchema] = {}
        #: Tables whose copy was started and is not finished.
        self.unfinished: set[TableId] = set()

    def read(self) -> Held:
        """What is held of the stream; the state tables are made when they are missing."""
        with self._connection.transaction():
            if not _is_current(self._connection):
                self._connection.execute(state_sql.LOCK_CREATION)
                self._connection.execute(state_sql.STATE_TABLES)
            self._watermark, noted = self._read_stream()
            self._note_targets()
            copies, ranges = self._copies(), self._ranges()
        self.schemas = {copy.table: copy.schema for copy in copies if copy.schema is not None}
        self.unfinished = {copy.table for copy in copies if not copy.is_finished}
        return Held(
            watermark=self._watermark,
            copied={copy.table: copy.point for copy in copies if copy.is_finished},
            begun={
                copy.table: BegunCopy(table=copy.schema, ranges=frozenset(ranges.get(copy.table, ())))
                for copy in copies
                if not copy.is_finished
            },
            schemas=dict(self.schemas),
            set_aside={copy.table: copy.set_aside for copy in copies if copy.set_aside is not None},
            noted=noted,
        )

    def lose(self, tables: Iterable[TableId]) -> None:
        """What was copied of these tables is not there any more: somebody has dropped the target."""
        for table in tables:
            self._connection.execute(state_sql.FORGET_RANGES, [self._identity.pipeline, *table])
            self.schemas.pop(table, None)

    def begun_copies(self) -> frozenset[TableId]:
        """Tables whose copy was started, finished or not: their rows are ours."""
        return frozenset(copy.table for copy in self._copies())

    def start_copy(self, table: TableSchema, point: SnapshotPoint) -> None:
        pipeline = self._identity.pipeline
        parameters = [pipeline, *table.id, str(point.lsn), str(point.xids), _json(table), *self._targets[table.id]]
        self._connection.execute(state_sql.START_COPY, parameters)
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
        """Changes that are applied from now on are of a table that looks like this."""
        self._connection.execute(state_sql.REMEMBER_COLUMNS, [_json(table), self._identity.pipeline, *table.id])
        self.schemas[table.id] = table

    def move(self, watermark: Watermark) -> None:
        """Write the watermark in the open transaction. `WatermarkMoved` when another run has written it."""
        cursor = self._connection.execute(
            state_sql.MOVE_WATERMARK,
            [
                watermark.engine,
                *_position_texts(watermark.position),
                watermark.xid,
                self._identity.pipeline,
                *(_position_texts(self._watermark.position) if self._watermark else (None, None, None)),
            ],
        )
        if cursor.rowcount != 1:
            raise WatermarkMoved(
                f"The watermark of pipeline {self._identity.pipeline} was moved by another run.",
                "The run restarts by itself. If this goes on, look for a second Rosetta with the same pipeline.",
            )

    def note(self, lsn: Lsn) -> None:
        self._connection.execute(state_sql.NOTE, [str(lsn), self._identity.pipeline])

    def moved(self, watermark: Watermark) -> None:
        """The transaction that wrote the watermark is durable."""
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
        self._verify(str(row[0]), str(row[1]))
        return _watermark(row[3:]), None if row[2] is None else Lsn.parse(str(row[2]))

    def _verify(self, system_identifier: str, slot_name: str) -> None:
        if (system_identifier, slot_name) == (self._identity.system_identifier, self._identity.slot_name):
            return
        raise SlotInvalid(
            f"The destination continues pipeline {self._identity.pipeline} from slot {slot_name} of the cluster "
            f"{system_identifier}, but the source is slot {self._identity.slot_name} of the cluster "
            f"{self._identity.system_identifier}.",
            "Point the pipeline back at that source, or give it another name so that it starts with a new copy.",
        )

    def _note_targets(self) -> None:
        """Changes pass by a target that the table has no more: if it ever comes back, it is copied into anew."""
        for copy in self._read_copies():
            target = self._targets.get(copy.table, copy.target)
            if target is not None and copy.target is None:
                self._connection.execute(state_sql.NOTE_TARGET, [*target, self._identity.pipeline, *copy.table])
            elif target != copy.target and copy.is_finished:
                self._connection.execute(state_sql.FORGET_COPY, [self._identity.pipeline, *copy.table])

    def _copies(self) -> list[_Copy]:
        """The copies of what is where it was; of tables that the pipeline has no more, too."""
        return [copy for copy in self._read_copies() if self._targets.get(copy.table, copy.target) == copy.target]

    def _read_copies(self) -> list[_Copy]:
        return [_copy(row) for row in self._connection.execute(state_sql.READ_COPIES, [self._identity.pipeline])]

    def _ranges(self) -> dict[TableId, list[CopiedRange]]:
        ranges: dict[TableId, list[CopiedRange]] = {}
        for row in self._connection.execute(state_sql.READ_RANGES, [self._identity.pipeline]):
            namespace, name, relation_namespace, relation_name, filenode, first_page, end_page, xmin = map(str, row)
            relation = Relation(TableId(relation_namespace, relation_name), int(filenode))
            pages = PageRange(relation, int(first_page), None if row[6] is None else int(end_page))
            ranges.setdefault(TableId(namespace, name), []).append(CopiedRange(pages, int(xmin)))
        return ranges


def add_range(connection: _Connection, pipeline: str, table: TableId, copied: CopiedRange) -> None:
    """Note that a range of the source's table is copied, in the open transaction."""
    (relation, first_page, end_page), xmin = copied
    values = [pipeline, *table, *relation.id, relation.filenode, first_page, end_page, xmin]
    connection.execute(state_sql.ADD_RANGE, values)


def set_aside(connection: _Connection, pipeline: str, table: TableId, reason: str) -> None:
    """Note that changes of the table are left out from now on."""
    connection.execute(state_sql.SET_ASIDE, [reason, pipeline, *table])


def forget_stream(connection: _Connection, pipeline: str) -> None:
    """Forget the watermark, and which copies were finished. That they were begun stays known: their rows are ours."""
    if _has_state(connection):
        with connection.transaction():
            for statement in (state_sql.FORGET_WATERMARK, state_sql.FORGET_COPIES, state_sql.FORGET_ALL_RANGES):
                connection.execute(statement, [pipeline])


def forget_copies(connection: _Connection, pipeline: str, tables: Iterable[TableId]) -> None:
    """Forget that the copies of these tables were finished."""
    if _has_state(connection):
        with connection.transaction():
            for table in tables:
                connection.execute(state_sql.FORGET_COPY, [pipeline, *table])
                connection.execute(state_sql.FORGET_RANGES, [pipeline, *table])


def _has_state(connection: _Connection) -> bool:
    return connection.execute("SELECT to_regclass('rosetta.copied_ranges')").fetchone() != (None,)


def _is_current(connection: _Connection) -> bool:
    """Whether the state tables have every column that is read."""
    return _has_state(connection) and connection.execute(state_sql.HAS_TARGETS).fetchone() == (True,)


def _copy(row: tuple[object, ...]) -> _Copy:
    namespace, name, lsn, snapshot, is_finished, columns, set_aside, target_namespace, target_name = row
    return _Copy(
        table=TableId(str(namespace), str(name)),
        point=SnapshotPoint(Lsn.parse(str(lsn)), XidSnapshot.parse(str(snapshot))),
        is_finished=bool(is_finished),
        schema=None if columns is None else _SCHEMA.validate_json(str(columns)),
        set_aside=None if set_aside is None else str(set_aside),
        target=None if target_name is None else TableId(str(target_namespace), str(target_name)),
    )


def _json(table: TableSchema) -> str:
    return _SCHEMA.dump_json(table).decode()


def _position_texts(position: Position) -> tuple[str, str, int]:
    return str(Lsn(position.transaction_lsn)), str(Lsn(position.lsn)), position.ordinal


def _watermark(row: tuple[object, ...]) -> Watermark | None:
    engine, transaction_lsn, lsn, ordinal, xid = row
    if engine is None:
        return None
    position = Position(Lsn.parse(str(transaction_lsn)), Lsn.parse(str(lsn)), int(str(ordinal)))
    return Watermark(engine=Engine(str(engine)), position=position, xid=int(str(xid)))
