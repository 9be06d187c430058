"""Loads copied rows: COPY's text becomes Parquet files of bounded size, and these become rows in one transaction."""

import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from rosetta_dagster.cdc.destination.snowflake import copy_text, sql
from rosetta_dagster.cdc.destination.snowflake.config import ValuePolicy
from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.destination.snowflake.layout import Layout, converters
from rosetta_dagster.cdc.destination.snowflake.names import is_plain, quoted
from rosetta_dagster.cdc.destination.snowflake.stage import Upload
from rosetta_dagster.cdc.destination.snowflake.state import add_substitutions, pipeline_token
from rosetta_dagster.cdc.destination.snowflake.tables import Targets
from rosetta_dagster.cdc.destination.snowflake.values import ColumnConverter, Touched
from rosetta_dagster.cdc.schema import TableSchema


class SnowflakeLoader:
    """Loads copied rows over a connection of its own. Keeps the contract of `Loader`.

    A load is there whole or not at all. When the answer to its COMMIT is lost, the copy of the table is not finished, so
    the next run empties the table and copies it anew: no file is ever loaded twice.
    """

    def __init__(self, session: Session, targets: Targets, policy: ValuePolicy, *, pipeline: str) -> None:
        self._session = session
        self._targets = targets
        self._policy = policy
        self._pipeline = pipeline

    def load(self, table: TableSchema, blocks: Iterable[bytes]) -> int:
        layout, touched = self._targets.layout(table), Counter[Touched]()
        columns = converters(table, layout, self._policy, touched)
        names = layout.columns if is_direct(layout) else [f"C{index}" for index in range(len(columns))]
        with Upload(self._session, pipeline_token(self._pipeline)) as upload:
            for texts in copy_text.tables(blocks, table.column_names, copy_text.PIECE_SIZE):
                upload.add(_converted(texts, columns, names))
            upload.finish()
            if upload.row_count:
                self._load(layout, upload, f"table {table.id}", touched)
            return upload.row_count

    def _load(self, layout: Layout, upload: Upload, place: str, touched: Counter[Touched]) -> None:
        if is_direct(layout):
            with self._session.transaction():
                upload.copy_into(quoted(*layout.id), place)
                add_substitutions(self._session, self._pipeline, touched)
            return
        staging = f"{sql.staging_prefix(pipeline_token(self._pipeline))}{uuid.uuid4().hex[:12].upper()}"
        self._session.execute(sql.create_staging(staging, layout))
        try:
            upload.copy_into(staging, place)
            with self._session.transaction():
                self._session.execute(sql.insert_staged(layout, staging), place=place)
                add_substitutions(self._session, self._pipeline, touched)
        finally:
            self._session.execute(sql.drop_staging(staging))


def is_direct(layout: Layout) -> bool:
    """Whether files can be loaded into the table itself: no value has to be parsed, and names tell columns apart.

    COPY matches the names of columns whatever their case.
    """
    plain = all(map(is_plain, (*layout.id, *layout.columns)))
    distinct = len({name.upper() for name in layout.columns}) == len(layout.columns)
    return plain and distinct and not any(target.is_parsed for target in layout.types)


def _converted(texts: Any, columns: Iterable[ColumnConverter], names: Iterable[str]) -> Any:
    arrays = [column.convert(array.combine_chunks()) for column, array in zip(columns, texts.columns, strict=True)]
    return pa.table(arrays, names=list(names))
