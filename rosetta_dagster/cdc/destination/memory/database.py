"""A database in memory: tables, what pipelines note of themselves, and transactions that are done wholly or not at all."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

from rosetta_dagster.cdc.change.event import UNCHANGED, Key, Row, Value
from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.position import Lsn, Watermark
from rosetta_dagster.cdc.change.schema import Column, TableSchema
from rosetta_dagster.cdc.change.visibility import SnapshotPoint
from rosetta_dagster.cdc.table_id import TableId

#: The values of a row, by column.
Values: TypeAlias = dict[str, Value]


@dataclass(slots=True)
class Table:
    """A table. Its rows are replaced and never altered, so that a copy of the list is a copy of the table."""

    #: The type of each column, in the table's order.
    columns: dict[str, str]
    rows: list[Values] = field(default_factory=list)
    comment: str | None = None
    column_comments: dict[str, str] = field(default_factory=dict)

    def duplicate(self) -> Self:
        return replace(self, columns=dict(self.columns), rows=list(self.rows), column_comments=dict(self.column_comments))

    def values(self, schema: TableSchema, row: Row) -> Values:
        """Return the sent values of a row; columns that the source does not have are left out."""
        return {name: value for name, value in zip(schema.column_names, row, strict=True) if value is not UNCHANGED}

    def by_key(self, key: Sequence[str]) -> dict[Key, Values]:
        return {tuple(row.get(name) for name in key): row for row in self.rows}

    def add_column(self, column: Column) -> None:
        """Add a column, with the value that rows from before it hold."""
        self.columns[column.name] = column.type
        fill = None if column.fill_value is None else column.fill_value.encode()
        self.rows = [{**row, column.name: fill} for row in self.rows]

    def rename_columns(self, names: dict[str, str]) -> None:
        """Rename columns, all at once: they may take each other's names."""
        self.columns = {names.get(name, name): type_ for name, type_ in self.columns.items()}
        self.rows = [{names.get(name, name): value for name, value in row.items()} for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The copy of one table of a pipeline."""

    point: SnapshotPoint
    target: TableId
    schema: TableSchema | None
    ranges: frozenset[CopiedRange] = frozenset()
    is_finished: bool = False
    set_aside: str | None = None

    def forgotten(self) -> "Copy":
        return replace(self, is_finished=False, ranges=frozenset(), set_aside=None)


@dataclass(slots=True)
class Stream:
    """What the database keeps of one pipeline."""

    #: System identifier and slot; None when any stream may continue.
    identity: tuple[str, str] | None = None
    watermark: Watermark | None = None
    noted: Lsn | None = None
    copies: dict[TableId, Copy] = field(default_factory=dict)

    def change(self, table: TableId, changed: Copy) -> None:
        self.copies[table] = changed

    def forget(self, tables: Iterable[TableId]) -> None:
        for table in tables:
            if table in self.copies:
                self.copies[table] = self.copies[table].forgotten()


@dataclass(slots=True)
class Contents:
    """Everything in a database."""

    tables: dict[TableId, Table] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)

    def duplicate(self) -> "Contents":
        streams = {name: replace(stream, copies=copy(stream.copies)) for name, stream in self.streams.items()}
        return Contents({name: table.duplicate() for name, table in self.tables.items()}, streams)

    def stream(self, pipeline: str) -> Stream:
        return self.streams.setdefault(pipeline, Stream())


_DATABASES: dict[str, "MemoryDatabase"] = {}
_LOCK = threading.Lock()


class MemoryDatabase:
    """A database of this process. Threads may share it; their transactions take turns."""

    def __init__(self) -> None:
        self._contents = Contents()
        self._lock = threading.RLock()

    @classmethod
    def named(cls, name: str) -> "MemoryDatabase":
        """Return the database of this name, which begins empty."""
        with _LOCK:
            return _DATABASES.setdefault(name, cls())

    @contextmanager
    def transaction(self) -> Iterator[Contents]:
        """Return contents to alter. They replace those of the database when the block ends without an error."""
        with self._lock:
            altered = self._contents.duplicate()
            yield altered
            self._contents = altered

    def read(self) -> Contents:
        """Return the contents. They must not be altered."""
        with self._lock:
            return self._contents
