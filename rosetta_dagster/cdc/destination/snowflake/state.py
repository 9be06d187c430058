"""What a Snowflake destination remembers of a stream: its watermark, how far the slot may move, and its copies.

All of it stands in the schema ROSETTA of the destination's database.
"""

import hashlib
import re
from collections import Counter

from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.values import Touched
from rosetta_dagster.cdc.errors import SlotInvalid, WatermarkMoved
from rosetta_dagster.cdc.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.schema import TableId
from rosetta_dagster.cdc.visibility import SnapshotPoint, XidSnapshot


def pipeline_token(pipeline: str) -> str:
    """A pipeline in names that SQL may write without quotes; a hash keeps similar ones apart.

    >>> pipeline_token("my shop")
    'MY_SHOP_21E02318'
    """
    mark = hashlib.sha256(pipeline.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]', '_', pipeline)[:60]}_{mark}".upper()


class StreamState:
    """The rows of one pipeline. The caller owns the transaction."""

    def __init__(self, session: Session, identity: StreamIdentity) -> None:
        self._session = session
        self._identity = identity
        token = pipeline_token(identity.pipeline)
        self._stream, self._note = f"{sql.SCHEMA}.STREAM_{token}", f"{sql.SCHEMA}.NOTED_{token}"
        self._watermark: Watermark | None = None
        self._noted: Lsn | None = None

    def read(self) -> Held:
        """What is held of the stream; the state tables are made when they are missing."""
        if not _exists(self._session, self._identity.pipeline):
            self._create()
        self._watermark = self._read_stream()
        ((noted,),) = self._session.execute(sql.read_note(self._note))
        self._noted = None if noted is None else Lsn(noted)
        return Held(watermark=self._watermark, copied=self._finished_copies(), noted=self._noted)

    def begun_copies(self) -> frozenset[TableId]:
        """Tables whose copy was started, finished or not: their rows are ours."""
        rows = self._session.execute(sql.READ_COPIES, [self._identity.pipeline])
        return frozenset(TableId(row[0], row[1]) for row in rows)

    def start_copy(self, table: TableId, point: SnapshotPoint) -> None:
        self._session.execute(sql.REMOVE_COPY, [self._identity.pipeline, *table])
        self._session.execute(sql.ADD_COPY, [self._identity.pipeline, *table, str(int(point.lsn)), str(point.xids)])

    def finish_copy(self, table: TableId) -> None:
        self._session.execute(sql.FINISH_COPY, [self._identity.pipeline, *table])

    def move(self, watermark: Watermark) -> None:
        """Write the watermark in the open transaction. `WatermarkMoved` when another run has written it."""
        parameters = [
            watermark.engine.value,
            *_texts(watermark.position),
            str(watermark.xid),
            *(_texts(self._watermark.position) if self._watermark else (None, None, None)),
        ]
        if self._session.change(sql.move_watermark(self._stream), parameters) != 1:
            raise WatermarkMoved(
                f"The watermark of pipeline {self._identity.pipeline} was moved by another run.",
                "The run restarts by itself. If this goes on, look for a second Rosetta with the same pipeline.",
            )

    def moved(self, watermark: Watermark) -> None:
        """The transaction that wrote the watermark is durable."""
        self._watermark = watermark

    def note(self, lsn: Lsn) -> None:
        """Note the LSN, unless a higher one is noted. It is not part of a transaction and wakes no warehouse."""
        if self._noted is None or lsn > self._noted:
            self._session.execute(sql.note(self._note, lsn))
            self._noted = lsn

    def _create(self) -> None:
        self._session.execute(sql.CREATE_SCHEMA)
        self._session.execute(sql.CREATE_STAGE)
        self._session.execute(sql.CREATE_COPIES)
        self._session.execute(sql.CREATE_SUBSTITUTIONS)
        # The table that tells whether the others exist is made last.
        self._session.execute(sql.note(self._note, None))
        self._session.execute(sql.create_stream(self._stream))

    def _read_stream(self) -> Watermark | None:
        identity = self._identity
        rows = self._session.execute(sql.read_stream(self._stream))
        if not rows:
            self._session.execute(
                sql.add_stream(self._stream), [identity.pipeline, identity.system_identifier, identity.slot_name]
            )
            return None
        system_identifier, slot_name, *watermark = rows[0]
        if not slot_name:
            self._session.execute(sql.identify_stream(self._stream), [identity.system_identifier, identity.slot_name])
        else:
            self._verify(system_identifier, slot_name)
        return _watermark(watermark)

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
        rows = self._session.execute(sql.READ_COPIES, [self._identity.pipeline])
        return {
            TableId(namespace, name): SnapshotPoint(Lsn(lsn), XidSnapshot.parse(snapshot))
            for namespace, name, lsn, snapshot, finished in rows
            if finished
        }


def add_substitutions(session: Session, pipeline: str, touched: Counter[Touched]) -> None:
    """Write down what policies were applied to, in the transaction of the data."""
    for (place, reason), count in sorted(touched.items()):
        session.execute(sql.ADD_SUBSTITUTION, [pipeline, place, reason, count])


def drop_left_staging(session: Session, pipeline: str) -> None:
    """Drop the staging tables that runs have left behind."""
    prefix = sql.staging_prefix(pipeline_token(pipeline)).removeprefix(f"{sql.SCHEMA}.")
    for (name,) in session.execute(sql.LEFT_STAGING, [sql.SCHEMA, prefix]):
        session.execute(sql.drop_staging(f"{sql.SCHEMA}.{name}"))


def forget_stream(session: Session, pipeline: str) -> None:
    """Forget the watermark, and which copies were finished. That they were begun stays known: their rows are ours."""
    if not _exists(session, pipeline):
        return
    token = pipeline_token(pipeline)
    with session.transaction():
        session.execute(sql.forget_watermark(f"{sql.SCHEMA}.STREAM_{token}"))
        session.execute(sql.FORGET_COPIES, [pipeline])
    session.execute(sql.note(f"{sql.SCHEMA}.NOTED_{token}", None))


def _exists(session: Session, pipeline: str) -> bool:
    return bool(session.execute(sql.TABLE_EXISTS, [sql.SCHEMA, f"STREAM_{pipeline_token(pipeline)}"]))


def _texts(position: Position) -> tuple[str, str, str]:
    """As texts: a driver may take a number for one of 64 bits with a sign."""
    return str(int(position.transaction_lsn)), str(int(position.lsn)), str(position.ordinal)


def _watermark(values: list[object]) -> Watermark | None:
    engine, *numbers, xid = values
    if engine is None:
        return None
    transaction_lsn, lsn, ordinal = (int(str(number)) for number in numbers)
    return Watermark(
        engine=Engine(str(engine)), position=Position(Lsn(transaction_lsn), Lsn(lsn), ordinal), xid=int(str(xid))
    )
