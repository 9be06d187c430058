"""Applies changes to a database in memory. Keeps the whole contract of `Destination`, in the plainest way."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rosetta_dagster.cdc.change.batch import Batch
from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import TableSchema, with_fingerprint
from rosetta_dagster.cdc.change.types import TypeReader, no_types
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableOptions
from rosetta_dagster.cdc.destination.base import BegunCopy, Drift, FlushPolicy, Held, StreamIdentity
from rosetta_dagster.cdc.destination.memory import merge
from rosetta_dagster.cdc.destination.memory.database import Contents, Copy, MemoryDatabase, Stream, Table
from rosetta_dagster.cdc.destination.memory.texts import parse
from rosetta_dagster.cdc.errors import (
    DestinationRejected,
    DestinationUnavailable,
    SlotInvalid,
    TableNotOurs,
    WatermarkMoved,
    breaking,
    resync_remedy,
)
from rosetta_dagster.cdc.table_id import TableId


class MemoryLoader:
    """Loads copied rows. Keeps the contract of `Loader`."""

    def __init__(self, database: MemoryDatabase, targets: Mapping[TableId, TableId], pipeline: str) -> None:
        self._database = database
        self._targets = targets
        self._pipeline = pipeline

    def takes_binary(self, table: TableSchema) -> bool:  # noqa: ARG002
        return False

    def load(
        self,
        table: TableSchema,
        copied: CopiedRange,
        blocks: Iterable[bytes],
        *,
        binary: bool = False,
        replacing: bool = False,
    ) -> int:
        assert not binary, "the text format was asked for"
        rows = parse(blocks)
        with self._database.transaction() as contents:
            write = merge.upsert if replacing else merge.insert
            write(contents.tables[self._targets[table.id]], table, rows)
            stream = contents.stream(self._pipeline)
            begun = stream.copies[table.id]
            stream.change(table.id, replace(begun, ranges=begun.ranges | {copied}))
        return len(rows)

    def keep(self, table: TableSchema, blocks: Iterable[bytes]) -> None:
        kept = set(parse(blocks))
        with self._database.transaction() as contents:
            held = contents.tables[self._targets[table.id]]
            held.rows = [row for key, row in held.by_key(table.key).items() if key in kept]

    def complete(self, table: TableSchema) -> None:
        """There is no index to build."""


class MemoryDestination:
    """A database in memory that changes are applied to. Keeps the contract of `Destination`."""

    def __init__(
        self,
        name: str,
        database: MemoryDatabase,
        targets: Mapping[TableId, TableId],
        *,
        pipeline: PipelineConfig,
        options: Mapping[TableId, TableOptions],
    ) -> None:
        self.name = name
        self.flush = FlushPolicy()
        self._database = database
        self._targets = targets
        self._pipeline = pipeline.name
        self._policy = pipeline.on_schema_change
        self._options = options
        self._watermark: Watermark | None = None
        self._is_unwanted: Callable[[], bool] = bool

    def open(
        self,
        identity: StreamIdentity,
        is_unwanted: Callable[[], bool] = bool,
        read_types: TypeReader = no_types,  # noqa: ARG002 - there are no types here
    ) -> Held:
        self._is_unwanted = is_unwanted
        with self._transaction() as contents:
            stream = contents.stream(self._pipeline)
            _verify_identity(stream, identity)
            self._note_targets(contents, stream)
            copies = self._copies(stream)
            self._watermark = stream.watermark
            return Held(
                watermark=stream.watermark,
                copied={table: each.point for table, each in copies.items() if each.is_finished},
                begun={
                    table: BegunCopy(table=each.schema, ranges=each.ranges)
                    for table, each in copies.items()
                    if not each.is_finished
                },
                schemas={table: each.schema for table, each in copies.items() if each.schema is not None},
                set_aside={table: each.set_aside for table, each in copies.items() if each.set_aside is not None},
                noted=stream.noted,
            )

    def prepare(self, tables: Sequence[TableSchema]) -> None:
        contents = self._database.read()
        copies = self._copies(contents.stream(self._pipeline))
        for table in tables:
            if table.id in copies and copies[table.id].is_finished:
                with breaking(table.id, self.name):
                    self._present(contents, table)

    def start_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        with self._transaction() as contents:
            stream = contents.stream(self._pipeline)
            ours = self._copies(stream).keys()
            for table in tables:
                with breaking(table.id, self.name):
                    self._make_or_empty(contents, table, ours=table.id in ours)
                copied = Copy(point=point, target=self._targets[table.id], schema=table)
                stream.change(table.id, copied)

    def resume_copy(self, tables: Sequence[TableSchema], point: SnapshotPoint) -> None:
        with self._transaction() as contents:
            stream = contents.stream(self._pipeline)
            for table in tables:
                stream.change(table.id, replace(stream.copies[table.id], point=point))

    @contextmanager
    def loader(self) -> Iterator[MemoryLoader]:
        yield MemoryLoader(self._database, self._targets, self._pipeline)

    def finish_copy(self, table: TableSchema) -> None:
        with self._transaction() as contents:
            stream = contents.stream(self._pipeline)
            stream.change(table.id, replace(stream.copies[table.id], is_finished=True, ranges=frozenset()))

    def apply(self, batch: Batch, watermark: Watermark) -> None:
        with self._transaction() as contents:
            stream = contents.stream(self._pipeline)
            if stream.watermark != self._watermark:
                raise WatermarkMoved(
                    f"The watermark of pipeline {self._pipeline} was moved by another run.", "The run restarts by itself."
                )
            for each in batch.tables:
                with breaking(each.table.id, self.name):
                    target = self._present(contents, each.table)
                    self._follow(stream, target, each.table)
                    merge.apply(target, each)
            stream.watermark = watermark
        self._watermark = watermark

    def note(self, lsn: Lsn) -> None:
        with self._transaction() as contents:
            stream = contents.stream(self._pipeline)
            stream.noted = Lsn(max(lsn, stream.noted or lsn))

    def record_fingerprints(self, tables: Sequence[TableSchema]) -> None:
        with self._transaction() as contents:
            stream = contents.stream(self._pipeline)
            for table in tables:
                copied = stream.copies.get(table.id)
                if copied is not None and copied.schema is not None and (marked := with_fingerprint(copied.schema, table)):
                    stream.change(table.id, replace(copied, schema=marked))

    def set_aside(self, table: TableId, reason: str) -> None:
        with self._database.transaction() as contents:
            stream = contents.stream(self._pipeline)
            copied = stream.copies.get(table)
            if copied is not None and copied.is_finished:
                stream.change(table, replace(copied, set_aside=reason))

    def forget(self, tables: Sequence[TableId] | None = None) -> None:
        with self._database.transaction() as contents:
            stream = contents.stream(self._pipeline)
            stream.forget(list(stream.copies) if tables is None else tables)
            if tables is None:
                stream.identity = stream.watermark = stream.noted = None

    def row_counts(self, tables: Sequence[TableId]) -> dict[TableId, int]:
        present = self._database.read().tables
        targets = {table: present.get(self._targets[table]) for table in tables}
        return {table: len(target.rows) if target else 0 for table, target in targets.items()}

    def drift(self, tables: Sequence[TableSchema]) -> list[Drift]:
        present = self._database.read().tables
        return [
            Drift(table=schema.id, target=str(target), problem=problem, statement="", breaks=False)
            for schema in tables
            for target in (self._targets[schema.id],)
            for problem in _differences(schema, target, present.get(target))
        ]

    def close(self) -> None:
        """There is no connection to release."""

    @contextmanager
    def _transaction(self) -> Iterator[Contents]:
        if self._is_unwanted():
            raise DestinationUnavailable("The run was told to stop.", "")
        with self._database.transaction() as contents:
            yield contents

    def _copies(self, stream: Stream) -> dict[TableId, Copy]:
        """Return the copies that are in the targets of now; of tables that the pipeline does not have, too."""
        return {table: each for table, each in stream.copies.items() if self._targets.get(table, each.target) == each.target}

    def _note_targets(self, contents: Contents, stream: Stream) -> None:
        """Forget finished copies in other targets, since changes pass these by, and begun ones whose table is gone."""
        for table, each in list(stream.copies.items()):
            target = self._targets.get(table, each.target)
            if target != each.target and each.is_finished:
                stream.change(table, each.forgotten())
            elif table in self._targets and target not in contents.tables and not each.is_finished:
                stream.change(table, replace(each.forgotten(), schema=None))

    def _present(self, contents: Contents, table: TableSchema) -> Table:
        target = self._targets[table.id]
        if target not in contents.tables:
            raise DestinationRejected(
                f"Table {target} of the destination is gone, and with it the rows of {table.id}.",
                resync_remedy(self._pipeline, table.id),
            )
        return contents.tables[target]

    def _make_or_empty(self, contents: Contents, schema: TableSchema, *, ours: bool) -> None:
        target = self._targets[schema.id]
        table = contents.tables.setdefault(target, Table(columns={}))
        if table.rows and not ours:
            raise TableNotOurs(
                f"Table {target} of the destination holds rows that Rosetta did not write.", "Empty it, or choose another."
            )
        table.rows = []
        table.columns |= {column.name: column.type for column in schema.columns}
        if self._options[schema.id].comments:
            table.comment = schema.comment
            table.column_comments = {each.name: each.comment for each in schema.columns if each.comment is not None}

    def _follow(self, stream: Stream, target: Table, schema: TableSchema) -> None:
        copied = stream.copies[schema.id]
        if copied.schema is not None and copied.schema.columns != schema.columns:
            merge.follow(target, copied.schema, schema, self._policy)
        stream.change(schema.id, replace(copied, schema=schema))


def _verify_identity(stream: Stream, identity: StreamIdentity) -> None:
    own = (identity.system_identifier, identity.slot_name)
    if stream.identity not in (None, own):
        raise SlotInvalid(
            f"The destination continues pipeline {identity.pipeline} from another slot or cluster.",
            "Point the pipeline back at that source, or give it another name so that it starts with a new copy.",
        )
    stream.identity = own


def _differences(schema: TableSchema, target: TableId, table: Table | None) -> Iterator[str]:
    if table is None:
        yield f"Table {target} is missing."
        return
    for column in schema.columns:
        present = table.columns.get(column.name)
        if present is None:
            yield f"Column {column.name} is missing."
        elif present != column.type:
            yield f"Column {column.name} is {present}, and {column.type} at the source."
    for name in table.columns.keys() - {*schema.column_names}:
        yield f"Column {name} is not at the source."
