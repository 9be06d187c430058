"""Loads copied rows: COPY's text becomes Parquet files of bounded size, and these become rows in one transaction."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import pyarrow as pa

from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.snowflake import copy_text, sql
from rosetta_dagster.cdc.destination.snowflake.columns import PresentColumn, read_columns
from rosetta_dagster.cdc.destination.snowflake.config import ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.layout import Layout, converters, places
from rosetta_dagster.cdc.destination.snowflake.names import is_plain, quoted
from rosetta_dagster.cdc.destination.snowflake.stage import Upload
from rosetta_dagster.cdc.destination.snowflake.state import add_range, add_substitutions, pipeline_token
from rosetta_dagster.cdc.destination.snowflake.state_sql import add_unparsed, unparsed
from rosetta_dagster.cdc.destination.snowflake.tables import Targets
from rosetta_dagster.cdc.destination.snowflake.values import ColumnConverter, Touched
from rosetta_dagster.cdc.errors import RosettaError


class SnowflakeLoader:
    """Loads copied rows over a connection of its own. Keeps the contract of `Loader`.

    A load and the record of its range are committed together: when the answer to the COMMIT is lost, the next run finds both
    or neither. No file is ever loaded twice.
    """

    def __init__(
        self, session: Session, targets: Targets, policy: ValuePolicy, *, pipeline: str, on_commit: Callable[[], None]
    ) -> None:
        """`on_commit` is called after each commit of rows."""
        self._session = session
        self._targets = targets
        self._policy = policy
        self._pipeline = pipeline
        self._on_commit = on_commit
        #: Whether files are loaded into the table itself, for each layout.
        self._direct: dict[Layout, bool] = {}

    def takes_binary(self, table: TableSchema) -> bool:  # noqa: ARG002 - no table's
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
        assert not binary, "it was not offered"
        layout, touched = self._targets.layout(table), Counter[Touched]()
        with Upload(self._session, pipeline_token(self._pipeline)) as upload:
            direct = not replacing and self._is_direct(layout)
            names = layout.columns if direct else [f"C{index}" for index in range(len(layout.columns))]
            columns = converters(table, layout, self._policy, touched)
            for texts in copy_text.tables(blocks, table.column_names, copy_text.PIECE_SIZE):
                values = _converted(texts, columns, names)
                upload.add(_as_upserts(values) if replacing else values)
            upload.finish()
            staged = nullcontext() if direct else self._staged(upload, sql.create_staging, layout, f"table {table.id}")

            def write(staging: str | None) -> None:
                if upload.row_count:
                    self._write(layout, upload, staging, f"table {table.id}", replacing=replacing)
                    if staging and (counts := unparsed(layout, staging, places(table))):
                        self._session.execute(add_unparsed(self._pipeline, counts))
                add_substitutions(self._session, self._pipeline, touched)
                add_range(self._session, self._pipeline, table.id, copied)

            with staged as staging:
                self._session.transact(partial(write, staging))
            self._on_commit()
            if direct:
                upload.remove()
            return upload.row_count

    def keep(self, table: TableSchema, blocks: Iterable[bytes]) -> None:
        layout, place = self._targets.layout(table), f"table {table.id}"
        columns = converters(table, layout, self._policy, Counter())
        with Upload(self._session, pipeline_token(self._pipeline)) as upload:
            for texts in copy_text.tables(blocks, table.key, copy_text.PIECE_SIZE):
                keys = [columns[index] for index in layout.key]
                upload.add(_converted(texts, keys, [f"C{index}" for index in layout.key]))
            upload.finish()
            with self._staged(upload, sql.create_key_staging, layout, place) as staging:
                # Without any key no row stays.
                statement = sql.delete_others(layout, staging) if upload.row_count else sql.empty(layout.id)
                self._session.execute(statement, place=place)
        self._on_commit()

    def complete(self, table: TableSchema) -> None:
        """Do nothing: Snowflake tables have no index."""

    def _is_direct(self, layout: Layout) -> bool:
        if layout not in self._direct:
            self._direct[layout] = is_direct(layout, read_columns(self._session, layout.id))
        return self._direct[layout]

    def _write(self, layout: Layout, upload: Upload, staging: str | None, place: str, *, replacing: bool) -> None:
        if staging is None:
            upload.copy_into(quoted(*layout.id), place, in_transaction=True)
        elif replacing and layout.key:
            merge = sql.merge(layout, staging, 0, (), in_part=False, deletes=False)
            self._session.execute(merge, place=place)
        else:
            self._session.execute(sql.insert_staged(layout, staging), place=place)

    @contextmanager
    def _staged(self, upload: Upload, create: Callable[[str, Layout], str], layout: Layout, place: str) -> Iterator[str]:
        """Create a staging table with the uploaded rows for the block. Yield an empty name when there are none."""
        if not upload.row_count:
            yield ""
            return
        staging = f"{sql.staging_prefix(pipeline_token(self._pipeline))}{uuid.uuid4().hex[:12].upper()}"
        self._session.execute(create(staging, layout))
        try:
            upload.copy_into(staging, place)
            yield staging
        finally:
            with suppress(RosettaError):
                self._session.execute(sql.drop_staging(staging))


def is_direct(layout: Layout, present: Mapping[str, PresentColumn]) -> bool:
    """Return whether files can be loaded into the table itself: no value has to be parsed or converted.

    COPY does not validate conversions, and writes NULL into columns that a file does not have, whatever their default.
    """
    plain = all(map(is_plain, (*layout.id, *layout.columns)))
    typed = all(
        name in present and present[name].holds(target) and not target.is_parsed
        for name, target in zip(layout.columns, layout.types, strict=True)
    )
    return plain and typed and not any(column.has_default for name, column in present.items() if name not in layout.columns)


def _as_upserts(values: Any) -> Any:
    """Return the rows in the form of a merge's staging table."""
    count = values.num_rows
    return values.append_column("STEP", pa.array([0] * count, pa.int64())).append_column("OP", pa.array(["u"] * count))


def _converted(texts: Any, columns: Iterable[ColumnConverter], names: Iterable[str]) -> Any:
    arrays = [column.convert(array.combine_chunks()) for column, array in zip(columns, texts.columns, strict=True)]
    return pa.table(arrays, names=list(names))
