"""What a Snowflake destination remembers of a stream: its watermark, how far the slot may move, and its copies.

All of it stands in the schema ROSETTA of the destination's database.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from rosetta_dagster.cdc.change.pages import CopiedRange, PageRange, Relation
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import BegunCopy, Held, StreamIdentity
from rosetta_dagster.cdc.destination.snowflake import sql, state_sql
from rosetta_dagster.cdc.destination.snowflake.columns import read_columns
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.values import Touched
from rosetta_dagster.cdc.errors import SlotInvalid, WatermarkMoved
from rosetta_dagster.cdc.table_id import TableId

_SCHEMA = TypeAdapter(TableSchema)
_NAMES = TypeAdapter(dict[int, str])


class _Copy(NamedTuple):
    """A row of COPIES."""

    table: TableId
    point: SnapshotPoint
    is_finished: bool
    schema: TableSchema | None
    names: dict[int, str]
    set_aside: str | None
    #: The table that it went into, as Snowflake spells it; None when that was not noted.
    target: TableId | None


def pipeline_token(pipeline: str) -> str:
    """A pipeline in names that SQL may write without quotes; a hash keeps similar ones apart.

    >>> pipeline_token("my shop")
    'MY_SHOP_21E02318'
    """
    mark = hashlib.sha256(pipeline.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]', '_', pipeline)[:60]}_{mark}".upper()


class StreamState:
    """The rows of one pipeline. The caller owns the transaction.

    What is noted of a table is of the target that it had then. A table that has another target by now has no copy: its rows
    are elsewhere, and rows in the new target are not ours.
    """

    def __init__(self, session: Session, identity: StreamIdentity, targets: Mapping[TableId, TableId]) -> None:
        """The targets are those of now, by source table."""
        self._session = session
        self._identity = identity
        self._targets = targets
        token = pipeline_token(identity.pipeline)
        self._stream, self._note = f"{sql.SCHEMA}.STREAM_{token}", f"{sql.SCHEMA}.NOTED_{token}"
        self._watermark: Watermark | None = None
        self._noted: Lsn | None = None
        #: What the tables looked like at the source when their last change was applied.
        self.schemas: dict[TableId, TableSchema] = {}
        #: By their numbers, the names that columns have here already and had not when the last change was applied.
        self.names: dict[TableId, dict[int, str]] = {}

    def read(self) -> Held:
        """What is held of the stream; the state tables are made when they are missing."""
        self._create()
        self._watermark = self._read_stream()
        ((noted,),) = self._session.execute(state_sql.read_note(self._note))
        self._noted = None if noted is None else Lsn(noted)
        self._note_targets()
        copies = self._copies()
        ranges = {} if all(copy.is_finished for copy in copies) else self._ranges()
        self.schemas = {copy.table: copy.schema for copy in copies if copy.schema is not None}
        self.names = {copy.table: copy.names for copy in copies if copy.names}
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
            noted=self._noted,
        )

    def lose(self, tables: Iterable[TableId]) -> None:
        """What was copied of these tables is not there any more: somebody has dropped the target."""
        for table in tables:
            self._session.execute(state_sql.FORGET_RANGES, [self._identity.pipeline, *table])
            self.schemas.pop(table, None)

    def begun_copies(self) -> frozenset[TableId]:
        """Tables whose copy was started, finished or not: their rows are ours."""
        return frozenset(copy.table for copy in self._copies())

    def forget_copy(self, table: TableId) -> None:
        """The table is about to be emptied: nothing of it is copied."""
        for statement in (state_sql.FORGET_COPY, state_sql.FORGET_RANGES):
            self._session.execute(statement, [self._identity.pipeline, *table])

    def start_copy(self, table: TableSchema, point: SnapshotPoint) -> None:
        pipeline = self._identity.pipeline
        place = [str(int(point.lsn)), str(point.xids)]
        # The ranges of a copy that was broken off may be of another target.
        for statement in (state_sql.REMOVE_COPY, state_sql.FORGET_RANGES):
            self._session.execute(statement, [pipeline, *table.id])
        self._session.execute(
            state_sql.ADD_COPY,
            [pipeline, *table.id, *place, _SCHEMA.dump_json(table).decode(), *self._targets[table.id]],
        )
        self.schemas[table.id] = table
        self.names.pop(table.id, None)

    def resume_copy(self, table: TableId, point: SnapshotPoint) -> None:
        parameters = [str(int(point.lsn)), str(point.xids), self._identity.pipeline, *table]
        self._session.execute(state_sql.RESUME_COPY, parameters)

    def finish_copy(self, table: TableId) -> None:
        self._session.execute(state_sql.FINISH_COPY, [self._identity.pipeline, *table])
        self._session.execute(state_sql.FORGET_RANGES, [self._identity.pipeline, *table])

    def announce(self, table: TableId, names: Mapping[int, str]) -> None:
        """Columns are about to get these names, before changes that know them so are applied."""
        self._session.execute(state_sql.ANNOUNCE_NAMES, [_names_json(names), self._identity.pipeline, *table])
        self.names[table] = dict(names)

    def remember(self, table: TableSchema, names: Mapping[int, str]) -> None:
        """Changes that are applied from now on are of a table that looks like this; columns have these names here."""
        ahead = {
            column.number: names[column.number]
            for column in table.columns
            if names.get(column.number, column.name) != column.name
        }
        parameters = [_SCHEMA.dump_json(table).decode(), _names_json(ahead), self._identity.pipeline, *table.id]
        self._session.execute(state_sql.REMEMBER_COLUMNS, parameters)
        self.schemas[table.id] = table
        self.names[table.id] = ahead

    def move(self, watermark: Watermark) -> None:
        """Write the watermark in the open transaction. `WatermarkMoved` when another run has written it."""
        parameters = [
            watermark.engine.value,
            *_texts(watermark.position),
            str(watermark.xid),
            *(_texts(self._watermark.position) if self._watermark else (None, None, None)),
        ]
        if self._session.change(state_sql.move_watermark(self._stream), parameters) != 1:
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
            self._session.execute(state_sql.note(self._note, lsn))
            self._noted = lsn

    def _create(self) -> None:
        """Make the state tables that are missing; what an older version has made is extended."""
        found = _state_tables(self._session, self._identity.pipeline)
        if not found >= state_sql.CURRENT:
            _extend(self._session)
        if self._stream.removeprefix(f"{sql.SCHEMA}.") not in found:
            self._session.execute(state_sql.note(self._note, None))
            self._session.execute(state_sql.create_stream(self._stream))

    def _read_stream(self) -> Watermark | None:
        identity = self._identity
        rows = self._session.execute(state_sql.read_stream(self._stream))
        if not rows:
            self._session.execute(
                state_sql.add_stream(self._stream), [identity.pipeline, identity.system_identifier, identity.slot_name]
            )
            return None
        system_identifier, slot_name, *watermark = rows[0]
        if not slot_name:
            self._session.execute(state_sql.identify_stream(self._stream), [identity.system_identifier, identity.slot_name])
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

    def _note_targets(self) -> None:
        """Changes pass by a target that the table has no more: if it ever comes back, it is copied into anew."""
        for copy in self._read_copies():
            target = self._targets.get(copy.table, copy.target)
            if target is not None and copy.target is None:
                self._session.execute(state_sql.NOTE_TARGET, [*target, self._identity.pipeline, *copy.table])
            elif target != copy.target and copy.is_finished:
                self._session.execute(state_sql.FORGET_COPY, [self._identity.pipeline, *copy.table])

    def _copies(self) -> list[_Copy]:
        """The copies of what is where it was; of tables that the pipeline has no more, too."""
        return [copy for copy in self._read_copies() if self._targets.get(copy.table, copy.target) == copy.target]

    def _read_copies(self) -> list[_Copy]:
        return [_copy(row) for row in self._session.execute(state_sql.READ_COPIES, [self._identity.pipeline])]

    def _ranges(self) -> dict[TableId, list[CopiedRange]]:
        ranges: dict[TableId, list[CopiedRange]] = {}
        for row in self._session.execute(state_sql.READ_RANGES, [self._identity.pipeline]):
            namespace, name, relation_namespace, relation_name, filenode, first_page, end_page, xmin = row
            relation = Relation(TableId(relation_namespace, relation_name), int(filenode))
            pages = PageRange(relation, int(first_page), None if end_page is None else int(end_page))
            ranges.setdefault(TableId(namespace, name), []).append(CopiedRange(pages, int(xmin)))
        return ranges


def add_range(session: Session, pipeline: str, table: TableId, copied: CopiedRange) -> None:
    """Note that a range of the source's table is copied, in the open transaction."""
    (relation, first_page, end_page), xmin = copied
    session.execute(state_sql.ADD_RANGE, [pipeline, *table, *relation.id, relation.filenode, first_page, end_page, xmin])


def set_aside(session: Session, pipeline: str, table: TableId, reason: str) -> None:
    """Note that changes of the table are left out from now on."""
    session.execute(state_sql.SET_ASIDE, [reason, pipeline, *table])


def add_substitutions(session: Session, pipeline: str, touched: Counter[Touched]) -> None:
    """Write down what policies were applied to, in the transaction of the data."""
    for (place, reason), count in sorted(touched.items()):
        session.execute(state_sql.ADD_SUBSTITUTION, [pipeline, place, reason, count])


def drop_left_staging(session: Session, pipeline: str) -> None:
    """Drop the staging tables that runs have left behind."""
    prefix = sql.staging_prefix(pipeline_token(pipeline)).removeprefix(f"{sql.SCHEMA}.")
    for (name,) in session.execute(sql.LEFT_STAGING, [sql.SCHEMA, prefix]):
        session.execute(sql.drop_staging(f"{sql.SCHEMA}.{name}"))


def forget_stream(session: Session, pipeline: str) -> None:
    """Forget the watermark, and which copies were finished. That they were begun stays known: their rows are ours."""
    if not _has_state(session, pipeline):
        return
    token = pipeline_token(pipeline)
    with session.transaction():
        session.execute(state_sql.forget_watermark(f"{sql.SCHEMA}.STREAM_{token}"))
        session.execute(state_sql.FORGET_COPIES, [pipeline])
        session.execute(state_sql.FORGET_ALL_RANGES, [pipeline])
    session.execute(state_sql.note(f"{sql.SCHEMA}.NOTED_{token}", None))


def forget_copies(session: Session, pipeline: str, tables: Iterable[TableId]) -> None:
    """Forget that the copies of these tables were finished."""
    if _has_state(session, pipeline):
        with session.transaction():
            for table in tables:
                session.execute(state_sql.FORGET_COPY, [pipeline, *table])
                session.execute(state_sql.FORGET_RANGES, [pipeline, *table])


def _has_state(session: Session, pipeline: str) -> bool:
    """Whether anything is known of the pipeline; then the state tables are those of this version on return."""
    found = _state_tables(session, pipeline)
    if found and not found >= state_sql.CURRENT:
        _extend(session)
    return f"STREAM_{pipeline_token(pipeline)}" in found


def _extend(session: Session) -> None:
    for statement in (sql.CREATE_SCHEMA, sql.CREATE_STAGE, state_sql.CREATE_COPIES, state_sql.CREATE_SUBSTITUTIONS):
        session.execute(statement)
    copies = TableId(sql.SCHEMA, "COPIES")
    present = read_columns(session, copies)
    for name, type_ in state_sql.LATER_COLUMNS.items():
        if name not in present:
            session.execute(sql.add_column(copies, name, type_))
    # The table that tells whether the others are as they should be is made last.
    session.execute(state_sql.CREATE_COPIED_RANGES)


def _state_tables(session: Session, pipeline: str) -> frozenset[str]:
    stream = f"STREAM_{pipeline_token(pipeline)}"
    rows = session.execute(state_sql.STATE_TABLES, [sql.SCHEMA, stream, sql.SCHEMA])
    return frozenset(name for (name,) in rows)


def _copy(row: tuple[Any, ...]) -> _Copy:
    namespace, name, lsn, snapshot, is_finished, columns, names, reason, target_namespace, target_name = row
    return _Copy(
        table=TableId(namespace, name),
        point=SnapshotPoint(Lsn(lsn), XidSnapshot.parse(snapshot)),
        is_finished=bool(is_finished),
        schema=None if columns is None else _SCHEMA.validate_json(columns),
        names={} if names is None else _NAMES.validate_json(names),
        set_aside=reason,
        target=None if target_name is None else TableId(target_namespace, target_name),
    )


def _names_json(names: Mapping[int, str]) -> str | None:
    return _NAMES.dump_json(dict(names)).decode() if names else None


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
