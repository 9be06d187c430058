"""Merges a batch: stages every table's changes, then writes all of them in one transaction."""

import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from rosetta_dagster.cdc.change.batch import Batch, Merge, Recount, TableBatch, Truncate
from rosetta_dagster.cdc.change.position import Watermark
from rosetta_dagster.cdc.change.schema import TableSchema, following
from rosetta_dagster.cdc.destination.snowflake import sql
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.layout import Layout, converters, places
from rosetta_dagster.cdc.destination.snowflake.shape import Shape
from rosetta_dagster.cdc.destination.snowflake.stage import Upload
from rosetta_dagster.cdc.destination.snowflake.staged import Moves, fill_row, grouped, staged_rows, to_table, unsent
from rosetta_dagster.cdc.destination.snowflake.state import StreamState, add_substitutions, pipeline_token
from rosetta_dagster.cdc.destination.snowflake.state_sql import add_unparsed, unparsed
from rosetta_dagster.cdc.destination.snowflake.tables import Targets
from rosetta_dagster.cdc.destination.snowflake.values import Touched
from rosetta_dagster.cdc.errors import RosettaError, TerminalError, breaking
from rosetta_dagster.cdc.table_id import TableId

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Part(NamedTuple):
    """The changes of one table under one schema, before they are staged."""

    batch: TableBatch
    staging: str
    shape: Shape
    #: Numbers of the columns whose values in older rows it writes first.
    come: frozenset[int]


@dataclass(frozen=True, slots=True)
class Staged:
    """The changes of one table, staged, and the statements that write them."""

    table: TableSchema
    statements: list[str]
    #: Queries that count documents which Snowflake cannot parse.
    unparsed: list[str]
    touched: Counter[Touched]


class Merger:
    """Applies batches over one session; its staging tables are kept from batch to batch, until `close`."""

    def __init__(
        self,
        session: Session,
        targets: Targets,
        state: StreamState,
        config: SnowflakeDestinationConfig,
        *,
        pipeline: str,
        destination: str,
    ) -> None:
        self._session = session
        self._targets = targets
        self._state = state
        self._policy, self._parallelism = config.values, config.merge_parallelism
        self._pipeline = pipeline
        self._destination = destination
        # A run that was presumed dead may still write. It must not share staging tables with its successor.
        self._prefix = f"{sql.staging_prefix(pipeline_token(pipeline))}{uuid.uuid4().hex[:12].upper()}"
        #: The staging table of each table in a batch, by the number of its earlier appearances in the batch.
        self._names: dict[tuple[TableId, int], str] = {}
        #: The schema that each staging table was created for.
        self._staging: dict[str, TableSchema] = {}
        #: Tables whose columns have the announced names; each is checked once.
        self._settled: set[TableId] = set()

    def merge(self, batch: Batch, watermark: Watermark) -> None:
        """Stage the batch, then write it and the watermark in one transaction. Staging may be repeated."""
        shapes = self._shape(batch)
        staged = side_by_side(self._stage, self._plan(batch, shapes), self._parallelism)
        of_table: dict[TableId, list[Staged]] = {}
        for part in staged:
            of_table.setdefault(part.table.id, []).append(part)

        def write() -> None:
            self._state.restore(known)
            # First, so that a run that has lost its turn writes nothing and waits while it holds nothing.
            self._state.move(watermark)
            side_by_side(self._write, list(of_table.values()), self._parallelism)
            self._record(staged)
            self._remember(batch, shapes)
            self._state.verify_moved(watermark)

        known = self._state.known()
        self._session.transact(write)
        self._state.moved(watermark)

    def _plan(self, batch: Batch, shapes: Mapping[TableId, Shape]) -> list[_Part]:
        """Return the parts of the batch, each with its staging table and the columns that it fills first."""
        seen: Counter[TableId] = Counter()
        filled: dict[TableId, frozenset[int]] = {}
        parts = []
        for table in batch.tables:
            id_ = table.table.id
            staging = self._staging_name(table, seen[id_])
            seen[id_] += 1
            shape, before = shapes.get(id_, Shape()), filled.get(id_, frozenset())
            come = shape.fills & {column.number for column in table.table.columns} - before
            filled[id_] = before | come
            parts.append(_Part(table, staging, shape, come))
        return parts

    def _write(self, parts: Sequence[Staged]) -> None:
        """Write the changes of one table, in their order."""
        for part in parts:
            with breaking(part.table.id, self._destination):
                for statement in part.statements:
                    self._session.execute(statement, place=f"table {part.table.id}")

    def _record(self, staged: Sequence[Staged]) -> None:
        """Count the values that Snowflake could not hold."""
        if counts := [count for part in staged for count in part.unparsed]:
            self._session.execute(add_unparsed(self._pipeline, counts))
        touched: Counter[Touched] = Counter()
        for part in staged:
            touched.update(part.touched)
        add_substitutions(self._session, self._pipeline, touched)

    def _shape(self, batch: Batch) -> dict[TableId, Shape]:
        """Give the tables the columns that the batch needs. Changes that cannot be followed are refused first."""
        chains: dict[TableId, list[TableSchema]] = {}
        for part in batch.tables:
            chains.setdefault(part.table.id, []).append(part.table)
        shapes = {}
        for table, schemas in chains.items():
            before = self._state.schemas.get(table)
            ahead = self._state.names.get(table, {})
            is_unsettled = bool(ahead) and table not in self._settled
            if before is not None and (is_unsettled or any(schema != before for schema in schemas)):
                with breaking(table, self._destination):
                    shapes[table] = self._targets.shape(self._session, [before, *schemas], ahead)
        for table, shape in shapes.items():
            with breaking(table, self._destination):
                self._follow(table, shape)
        return shapes

    def _follow(self, table: TableId, shape: Shape) -> None:
        if shape.renames:
            self._state.announce(table, shape.names)
        for statement in shape.statements:
            self._session.execute(statement, place=f"table {table}")
        self._settled.add(table)

    def _remember(self, batch: Batch, shapes: Mapping[TableId, Shape]) -> None:
        last = {part.table.id: part.table for part in batch.tables}
        for id_, table in last.items():
            before = self._state.schemas.get(id_)
            if before != table:
                known = table if before is None else following(before, table)
                self._state.remember(known, shapes[id_].names if id_ in shapes else {})

    def close(self) -> None:
        """Drop the staging tables. If that fails, a later run drops them."""
        with suppress(RosettaError):
            for staging in self._staging:
                self._session.execute(sql.drop_staging(staging))

    def _stage(self, part: _Part) -> Staged:
        with breaking(part.batch.table.id, self._destination):
            return self._staged(part)

    def _staged(self, part: _Part) -> Staged:
        table, staging, touched = part.batch.table, part.staging, Counter[Touched]()
        layout = self._targets.layout(table, part.shape.names or self._state.names.get(table.id))
        steps = list(enumerate(grouped(part.batch.steps, layout)))
        fills = [index for index, column in enumerate(table.columns) if column.number in part.come]
        rows = [fill_row(table, fills)] if fills else []
        rows += [row for number, step in steps for row in staged_rows(number, step, layout)]
        values = to_table(rows, layout, converters(table, layout, self._policy, touched)) if rows else None
        self._make_staging(staging, table, layout)
        if values is not None:
            with Upload(self._session, pipeline_token(self._pipeline)) as upload:
                upload.add(values)
                upload.finish()
                upload.copy_into(staging, f"table {table.id}")
        statements = [sql.fill(layout, staging, fills)] if fills else []
        statements += [each for number, step in steps for each in _statements(layout, staging, number, step)]
        counts = unparsed(layout, staging, places(table)) if values is not None else []
        return Staged(table, statements, counts, touched)

    def _make_staging(self, staging: str, table: TableSchema, layout: Layout) -> None:
        """Create the staging table at first use and when its columns have changed; otherwise empty it."""
        if self._staging.get(staging) is table:
            self._session.execute(sql.empty_staging(staging))
            return
        self._session.execute(sql.create_staging(staging, layout))
        self._staging[staging] = table

    def _staging_name(self, batch: TableBatch, number: int) -> str:
        """Return the name for one schema of a table: a batch has a part, and a staging table, for each schema."""
        return self._names.setdefault((batch.table.id, number), f"{self._prefix}_{len(self._names)}")


def _statements(layout: Layout, staging: str, number: int, step: object) -> list[str]:
    match step:
        case Truncate():
            return [sql.truncate(layout)]
        case Merge(rows, deleted):
            missing = unsent(rows)
            return [sql.merge(layout, staging, number, missing, in_part=bool(missing), deletes=bool(deleted))]
        case Moves(moves):
            return sql.move(layout, staging, number, unsent(move.row for move in moves))
        case Recount(_, deleted):
            if not deleted:
                return [sql.insert_copies(layout, staging, number)]
            return [
                sql.keep_copies(layout, staging, number),
                sql.delete_copies(layout, staging, number),
                sql.insert_copies(layout, staging, number),
            ]
    raise AssertionError("every kind of step is one of these")


def side_by_side(do: Callable[[_Item], _Result], items: Sequence[_Item], parallelism: int) -> list[_Result]:
    """Return the result for each item, several at a time. Raise an error once none of them runs any longer.

    A terminal error comes first: it names the table that is to be set aside, and others may fail because of it.
    Their statements share the session, and its transaction if one is open. A statement that outlived the transaction
    would be committed alone.
    """
    if min(parallelism, len(items)) < 2:
        return [do(item) for item in items]
    with ThreadPoolExecutor(parallelism, "merge") as threads:
        results = [threads.submit(do, item) for item in items]
        if wait(results, return_when=FIRST_EXCEPTION).not_done:
            threads.shutdown(cancel_futures=True)
    errors = [error for each in results if not each.cancelled() and (error := each.exception()) is not None]
    if errors:
        raise next((error for error in errors if isinstance(error, TerminalError)), errors[0])
    return [each.result() for each in results]
