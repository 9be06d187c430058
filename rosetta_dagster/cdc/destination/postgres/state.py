"""What a PostgreSQL destination remembers of a stream: its watermark and the points of its copies."""

import psycopg

from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.postgres import sql
from rosetta_dagster.cdc.errors import SlotInvalid, WatermarkMoved
from rosetta_dagster.cdc.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.visibility import SnapshotPoint, XidSnapshot


class StreamState:
    """The rows of one pipeline in the namespace `rosetta` of the destination. The caller owns the transaction."""

    def __init__(self, connection: "psycopg.Connection[tuple[object, ...]]", identity: StreamIdentity) -> None:
        self._connection = connection
        self._identity = identity
        self._watermark: Watermark | None = None

    def read(self) -> Held:
        """What is held of the stream; the state tables are made when they are missing."""
        with self._connection.transaction():
            if self._connection.execute("SELECT to_regclass('rosetta.copies')").fetchone() == (None,):
                self._connection.execute(sql.LOCK_CREATION)
                self._connection.execute(sql.STATE_TABLES)
            self._watermark, noted = self._read_stream()
        return Held(watermark=self._watermark, copied=self._finished_copies(), noted=noted)

    def begun_copies(self) -> frozenset[TableId]:
        """Tables whose copy was started, finished or not: their rows are ours."""
        rows = self._connection.execute(sql.READ_COPIES, [self._identity.pipeline])
        return frozenset(TableId(str(row[0]), str(row[1])) for row in rows)

    def start_copy(self, table: TableId, point: SnapshotPoint) -> None:
        parameters = [self._identity.pipeline, *table, str(point.lsn), str(point.xids)]
        self._connection.execute(sql.START_COPY, parameters)

    def finish_copy(self, table: TableId) -> None:
        self._connection.execute(sql.FINISH_COPY, [self._identity.pipeline, *table])

    def move(self, watermark: Watermark) -> None:
        """Write the watermark in the open transaction. `WatermarkMoved` when another run has written it."""
        cursor = self._connection.execute(
            sql.MOVE_WATERMARK,
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
        self._connection.execute(sql.NOTE, [str(lsn), self._identity.pipeline])

    def moved(self, watermark: Watermark) -> None:
        """The transaction that wrote the watermark is durable."""
        self._watermark = watermark

    def _read_stream(self) -> tuple[Watermark | None, Lsn | None]:
        identity = self._identity
        self._connection.execute(sql.IDENTIFY_STREAM, [identity.system_identifier, identity.slot_name, identity.pipeline])
        row = self._connection.execute(sql.READ_STREAM, [self._identity.pipeline]).fetchone()
        if row is None:
            self._connection.execute(sql.ADD_STREAM, [identity.pipeline, identity.system_identifier, identity.slot_name])
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

    def _finished_copies(self) -> dict[TableId, SnapshotPoint]:
        rows = self._connection.execute(sql.READ_COPIES, [self._identity.pipeline])
        return {
            TableId(str(namespace), str(name)): SnapshotPoint(Lsn.parse(str(lsn)), XidSnapshot.parse(str(snapshot)))
            for namespace, name, lsn, snapshot, finished in rows
            if finished
        }


def forget_stream(connection: "psycopg.Connection[tuple[object, ...]]", pipeline: str) -> None:
    """Forget the watermark, and which copies were finished. That they were begun stays known: their rows are ours."""
    if connection.execute("SELECT to_regclass('rosetta.copies')").fetchone() == (None,):
        return
    with connection.transaction():
        connection.execute(sql.FORGET_WATERMARK, [pipeline])
        connection.execute(sql.FORGET_COPIES, [pipeline])


def _position_texts(position: Position) -> tuple[str, str, int]:
    return str(Lsn(position.transaction_lsn)), str(Lsn(position.lsn)), position.ordinal


def _watermark(row: tuple[object, ...]) -> Watermark | None:
    engine, transaction_lsn, lsn, ordinal, xid = row
    if engine is None:
        return None
    position = Position(Lsn.parse(str(transaction_lsn)), Lsn.parse(str(lsn)), int(str(ordinal)))
    return Watermark(engine=Engine(str(engine)), position=position, xid=int(str(xid)))
