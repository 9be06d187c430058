"""Reads and writes what a Snowflake destination stores about a stream: its watermark, its noted LSN, and its copies.

All of it is in the schema ROSETTA of the destination's database.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.position import Lsn, Position, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.destination.base import Held, StreamIdentity
from rosetta_dagster.cdc.destination.snowflake import sql, state_sql
from rosetta_dagster.cdc.destination.snowflake.columns import read_columns
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.tables import has_schema
from rosetta_dagster.cdc.destination.snowflake.values import Touched
from rosetta_dagster.cdc.destination.state import (
    StoredCopy,
    held_of,
    in_place,
    range_values,
    ranges_by_table,
    retargeting,
    schema_from_json,
    schema_to_json,
    verify_stream,
    watermark_moved,
    watermark_of,
)
from rosetta_dagster.cdc.table_id import TableId

_NAMES = TypeAdapter(dict[int, str])

#: Rows of SUBSTITUTIONS from which on a start sums up those of before today: a flush adds one for each affected column.
SUBSTITUTIONS_KEPT = 10_000

#: Schemas and names that run ahead, by table.
Known: TypeAlias = tuple[dict[TableId, TableSchema], dict[TableId, dict[int, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy(StoredCopy):
    """A row of COPIES."""

    #: Column names at Snowflake that run ahead of the last applied change, by column number.
    names: Mapping[int, str]


def pipeline_token(pipeline: str) -> str:
    """Return the pipeline's part of unquoted names. A hash keeps similar pipeline names distinct.

    >>> pipeline_token("my shop")
    'MY_SHOP_21E02318'
    """
    mark = hashlib.sha256(pipeline.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]', '_', pipeline)[:60]}_{mark}".upper()


class StreamState:
    """The rows of one pipeline. The caller owns the transaction.

    A copy counts only while its table has the target that it was copied into.
    """

    def __init__(self, session: Session, identity: StreamIdentity, targets: Mapping[TableId, TableId]) -> None:
        """`targets` maps source tables to the targets they have now, as Snowflake spells them."""
        self._session = session
        self._identity = identity
        self._targets = targets
        token = pipeline_token(identity.pipeline)
        self._stream, self._note = f"{sql.SCHEMA}.STREAM_{token}", f"{sql.SCHEMA}.NOTED_{token}"
        self._fence = f"{sql.SCHEMA}.FENCE_{token}"
        self._watermark: Watermark | None = None
        self._noted: Lsn | None = None
        #: Each table's schema at the source as of its last applied change.
        self.schemas: dict[TableId, TableSchema] = {}
        #: Column names at Snowflake that run ahead of the last applied change, by column number.
        self.names: dict[TableId, dict[int, str]] = {}

    def read(self) -> Held:
        """Return what the destination has applied of the stream. Creates the state tables that are missing."""
        self._create()
        self._watermark = self._read_stream()
        self._noted = self._read_note()
        self._note_targets()
        copies = self._copies()
        is_copying = any(not copy.is_finished for copy in copies)
        rows = self._session.execute(state_sql.READ_RANGES, [self._identity.pipeline]) if is_copying else []
        ranges = ranges_by_table(rows)
        self.schemas = {copy.table: copy.schema for copy in copies if copy.schema is not None}
        self.names = {copy.table: dict(copy.names) for copy in copies if copy.names}
        return held_of(self._watermark, self._noted, copies, ranges)

    def lose(self, tables: Iterable[TableId]) -> None:
        """Forget the copied rows of these tables: their targets were dropped."""
        for table in tables:
            self._session.execute(state_sql.FORGET_RANGES, [self._identity.pipeline, *table])
            self.schemas.pop(table, None)

    def begun_copies(self) -> frozenset[TableId]:
        """Return the tables whose copy has started, complete or not: Rosetta wrote their rows."""
        return frozenset(copy.table for copy in self._copies())

    def forget_copy(self, table: TableId) -> None:
        """Forget what is copied of a table that is about to be emptied."""
        for statement in (state_sql.FORGET_COPY, state_sql.FORGET_RANGES):
            self._session.execute(statement, [self._identity.pipeline, *table])

    def start_copies(self, tables: Iterable[TableSchema], point: SnapshotPoint) -> None:
        for table in tables:
            self._start_copy(table, point)

    def _start_copy(self, table: TableSchema, point: SnapshotPoint) -> None:
        pipeline = self._identity.pipeline
        place = [str(int(point.lsn)), str(point.xids)]
        # The ranges of a copy that was broken off may be of another target.
        for statement in (state_sql.REMOVE_COPY, state_sql.FORGET_RANGES):
            self._session.execute(statement, [pipeline, *table.id])
        self._session.execute(
            state_sql.ADD_COPY,
            [pipeline, *table.id, *place, schema_to_json(table), *self._targets[table.id]],
        )
        self.schemas[table.id] = table
        self.names.pop(table.id, None)

    def resume_copies(self, tables: Iterable[TableId], point: SnapshotPoint) -> None:
        for table in tables:
            parameters = [str(int(point.lsn)), str(point.xids), self._identity.pipeline, *table]
            self._session.execute(state_sql.RESUME_COPY, parameters)

    def finish_copy(self, table: TableId) -> None:
        self._session.execute(state_sql.FINISH_COPY, [self._identity.pipeline, *table])
        self._session.execute(state_sql.FORGET_RANGES, [self._identity.pipeline, *table])

    def announce(self, table: TableId, names: Mapping[int, str]) -> None:
        """Record the names that columns are about to get, ahead of the changes that use them."""
        self._session.execute(state_sql.ANNOUNCE_NAMES, [_names_json(names), self._identity.pipeline, *table])
        self.names[table] = dict(names)

    def remember(self, table: TableSchema, names: Mapping[int, str]) -> None:
        """Record the schema that the next applied changes have; `names` are those of its columns at Snowflake."""
        ahead = {
            column.number: names[column.number]
            for column in table.columns
            if names.get(column.number, column.name) != column.name
        }
        parameters = [schema_to_json(table), _names_json(ahead), self._identity.pipeline, *table.id]
        self._session.execute(state_sql.REMEMBER_COLUMNS, parameters)
        self.schemas[table.id] = table
        self.names[table.id] = ahead

    def known(self) -> Known:
        """Return what is known of the tables' columns, to be restored before a transaction is repeated."""
        return dict(self.schemas), dict(self.names)

    def restore(self, known: Known) -> None:
        self.schemas, self.names = dict(known[0]), dict(known[1])

    def move(self, watermark: Watermark) -> None:
        """Write the watermark at the beginning of a transaction, which no other run writes in until its end.

        Raise `WatermarkMoved` when another run has written it.
        """
        self._session.execute(state_sql.take_fence(self._fence))
        parameters = [
            watermark.engine.value,
            *_texts(watermark.position),
            str(watermark.xid),
            *(_texts(self._watermark.position) if self._watermark else (None, None, None)),
        ]
        if self._session.change(state_sql.move_watermark(self._stream), parameters) != 1:
            raise watermark_moved(self._identity.pipeline)

    def verify_moved(self, watermark: Watermark) -> None:
        """Read the watermark at the end of the transaction. Raise `WatermarkMoved` when it is another run's."""
        rows = self._session.execute(state_sql.read_stream(self._stream))
        if [_watermark(list(row[2:])) for row in rows] != [watermark]:
            raise watermark_moved(self._identity.pipeline)

    def moved(self, watermark: Watermark) -> None:
        """Record that the transaction which wrote the watermark has committed."""
        self._watermark = watermark

    def note(self, lsn: Lsn) -> None:
        """Note the LSN, unless a higher one is noted. Runs outside any transaction and needs no warehouse."""
        if self._noted is None or lsn > self._noted:
            self._session.execute(state_sql.note(self._note, lsn, self._watermark))
            self._noted = lsn

    def _create(self) -> None:
        """Create the state tables that are missing, and extend those of an older version."""
        found = _state_tables(self._session, self._identity.pipeline)
        if not found >= state_sql.CURRENT:
            _extend(self._session)
        if self._fence.removeprefix(f"{sql.SCHEMA}.") not in found:
            self._session.execute(state_sql.create_fence(self._fence))
        if self._stream.removeprefix(f"{sql.SCHEMA}.") not in found:
            self._session.execute(state_sql.create_note(self._note))
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
            verify_stream(identity, system_identifier, slot_name)
        return _watermark(watermark)

    def _read_note(self) -> Lsn | None:
        views = self._session.describe(sql.show_views(*self._note.split(".")))
        comment = "".join(view["comment"] or "" for view in views if f"{sql.SCHEMA}.{view['name']}" == self._note)
        if comment:
            return state_sql.noted(comment, self._watermark)
        ((lsn,),) = self._session.execute(state_sql.read_note(self._note))
        return None if lsn is None else Lsn(lsn)

    def _note_targets(self) -> None:
        """Record the targets of copies from before targets were recorded; forget copies whose table has another target."""
        change = retargeting(self._read_copies(), self._targets)
        for table, target in change.unrecorded.items():
            self._session.execute(state_sql.NOTE_TARGET, [*target, self._identity.pipeline, *table])
        for table in change.abandoned:
            self._session.execute(state_sql.FORGET_COPY, [self._identity.pipeline, *table])

    def _copies(self) -> list[_Copy]:
        return in_place(self._read_copies(), self._targets)

    def _read_copies(self) -> list[_Copy]:
        return [_copy(row) for row in self._session.execute(state_sql.READ_COPIES, [self._identity.pipeline])]


def add_range(session: Session, pipeline: str, table: TableId, copied: CopiedRange) -> None:
    """Record in the open transaction that a range of the source table is copied."""
    session.execute(state_sql.ADD_RANGE, range_values(pipeline, table, copied))


def set_aside(session: Session, pipeline: str, table: TableId, reason: str) -> None:
    """Record that changes of the table are left out from now on."""
    session.execute(state_sql.SET_ASIDE, [reason, pipeline, *table])


def add_substitutions(session: Session, pipeline: str, touched: Counter[Touched]) -> None:
    """Record substituted values, in the transaction of the data."""
    for (place, reason), count in sorted(touched.items()):
        session.execute(state_sql.ADD_SUBSTITUTION, [pipeline, place, reason, count])


def drop_left_staging(session: Session, pipeline: str) -> None:
    """Drop the staging tables that earlier runs left behind."""
    prefix = sql.staging_prefix(pipeline_token(pipeline)).removeprefix(f"{sql.SCHEMA}.")
    for table in session.describe(sql.show_tables(sql.SCHEMA, prefix)):
        # No run overlaps with a successor for a day.
        if table["created_on"] < datetime.now(UTC) - timedelta(days=1):
            session.execute(sql.drop_staging(f"{sql.SCHEMA}.{table['name']}"))


def prune_substitutions(session: Session, pipeline: str) -> None:
    """Sum up the counts of substituted values once there are many of them."""
    shown = session.describe(sql.show_tables(sql.SCHEMA, "SUBSTITUTIONS"))
    if sum(table["rows"] or 0 for table in shown) > SUBSTITUTIONS_KEPT:
        with session.transaction():
            for statement in state_sql.prune_substitutions(pipeline, datetime.now(UTC).date()):
                session.execute(statement)


def forget_stream(session: Session, pipeline: str) -> None:
    """Forget the watermark, and that copies are complete. That they were begun stays recorded: Rosetta wrote their rows."""
    if not _has_state(session, pipeline):
        return
    token = pipeline_token(pipeline)
    with session.transaction():
        session.execute(state_sql.take_fence(f"{sql.SCHEMA}.FENCE_{token}"))
        session.execute(state_sql.forget_watermark(f"{sql.SCHEMA}.STREAM_{token}"))
        session.execute(state_sql.FORGET_COPIES, [pipeline])
        session.execute(state_sql.FORGET_ALL_RANGES, [pipeline])
    view = f"{sql.SCHEMA}.NOTED_{token}"
    for statement in (state_sql.create_note(view), state_sql.note(view, None)):
        session.execute(statement)


def forget_copies(session: Session, pipeline: str, tables: Iterable[TableId]) -> None:
    """Forget that the copies of these tables are complete."""
    if _has_state(session, pipeline):
        with session.transaction():
            for table in tables:
                session.execute(state_sql.FORGET_COPY, [pipeline, *table])
                session.execute(state_sql.FORGET_RANGES, [pipeline, *table])


def _has_state(session: Session, pipeline: str) -> bool:
    """Return whether the pipeline has state here. If so, the state tables are those of this version afterwards."""
    found = _state_tables(session, pipeline)
    if found and not found >= state_sql.CURRENT:
        _extend(session)
    token = pipeline_token(pipeline)
    has_stream = f"STREAM_{token}" in found
    if has_stream and f"FENCE_{token}" not in found:
        session.execute(state_sql.create_fence(f"{sql.SCHEMA}.FENCE_{token}"))
    return has_stream


def _extend(session: Session) -> None:
    if not has_schema(session, sql.SCHEMA):
        session.execute(sql.CREATE_SCHEMA)
    for statement in (sql.CREATE_STAGE, state_sql.CREATE_COPIES, state_sql.CREATE_SUBSTITUTIONS):
        session.execute(statement)
    copies = TableId(sql.SCHEMA, "COPIES")
    present = read_columns(session, copies)
    for name, type_ in state_sql.LATER_COLUMNS.items():
        if name not in present:
            session.execute(sql.add_column(copies, name, type_))
    # Created last: its existence means that the others are complete.
    session.execute(state_sql.CREATE_COPIED_RANGES)


def _state_tables(session: Session, pipeline: str) -> frozenset[str]:
    token = pipeline_token(pipeline)
    tables = (f"STREAM_{token}", f"FENCE_{token}", state_sql.LAST_TABLE)
    found = {name for name in tables if read_columns(session, TableId(sql.SCHEMA, name))}
    return frozenset(found | {state_sql.LAST_COLUMN} & read_columns(session, TableId(sql.SCHEMA, "COPIES")).keys())


def _copy(row: tuple[Any, ...]) -> _Copy:
    namespace, name, lsn, snapshot, is_finished, columns, names, reason, target_namespace, target_name = row
    return _Copy(
        table=TableId(namespace, name),
        point=SnapshotPoint(Lsn(lsn), XidSnapshot.parse(snapshot)),
        is_finished=bool(is_finished),
        schema=schema_from_json(columns),
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
    engine, transaction_lsn, lsn, ordinal, xid = values
    if engine is None:
        return None
    return watermark_of(engine, Lsn(str(transaction_lsn)), Lsn(str(lsn)), ordinal, xid)
