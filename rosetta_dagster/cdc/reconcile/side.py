"""One table on one side of a reconciliation: hashes of its buckets and of the rows in them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import psycopg
from psycopg.sql import Composed

from rosetta_dagster.cdc.change.masking import compared
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.reconcile import sql
from rosetta_dagster.cdc.reconcile.sql import Key
from rosetta_dagster.cdc.source.catalog import is_partitioned
from rosetta_dagster.cdc.table_id import TableId

#: Keys that one query looks up.
KEYS_AT_ONCE = 5000


class BucketHash(NamedTuple):
    """The contents of a bucket. Two that are equal hold the same rows."""

    row_count: int
    total: str


class ComparedSide(Protocol):
    """What a comparison asks of one side. Used by one thread at a time."""

    @property
    def hashes_every_column(self) -> bool:
        """Return whether equal bucket hashes mean equal rows. Otherwise the rows of every bucket are read."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Read one state within the block, that of its first query, if the server can do so."""

    def see_now(self) -> None:
        """Read what is committed by now: the snapshot's first query, or a later state outside of one."""

    def buckets(self, bucket_count: int) -> dict[int, BucketHash]:
        """Return the buckets that hold rows. Reads the whole table."""

    def rows_in(self, buckets: Sequence[int], bucket_count: int) -> dict[Key, str]:
        """Return the hash of each row in these buckets. Reads the whole table."""

    def rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        """Return the hash of each existing row with one of these keys."""


class Side:
    """A table of PostgreSQL over one connection, which the caller owns."""

    hashes_every_column = True

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        table: TableId,
        schema: TableSchema,
        errors: Callable[[], AbstractContextManager[None]],
        *,
        row_filter: str | None = None,
        mask: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Read a table, or its rows with this condition. Masked columns are not compared. `mask` masks rows in COPY's text.

        `errors` returns a context that translates psycopg's errors to those of this side.
        """
        self._row_filter = row_filter
        self.connection = connection
        self.errors = errors
        self.table = table
        self.schema = schema
        self._compared = compared(schema)
        self._mask = mask

    def where(self, condition: str) -> "Side":
        """Return the rows of this side that also fulfil a condition of an operator, over the same connection."""
        # A comment at the end of the condition ends with its line.
        conditions = [f"(\n{condition}\n)", *([f"({self._row_filter})"] if self._row_filter else [])]
        row_filter = " AND ".join(conditions)
        return Side(self.connection, self.table, self.schema, self.errors, row_filter=row_filter, mask=self._mask)

    @cached_property
    def own_rows(self) -> Composed:
        """The table's own rows, for a FROM clause. A table may be partitioned on one side only."""
        with self.errors():
            is_tree = is_partitioned(self.connection, self.table)
            return sql.own_rows(self.table, is_partitioned=is_tree, row_filter=self._row_filter)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield

    def see_now(self) -> None:
        self.connection.execute("SELECT")

    def buckets(self, bucket_count: int) -> dict[int, BucketHash]:
        with self.errors():
            rows = self.connection.execute(sql.bucket_hashes(self.own_rows, self._compared, bucket_count))
            return {bucket: BucketHash(row_count, total) for bucket, row_count, total in rows}

    def rows_in(self, buckets: Sequence[int], bucket_count: int) -> dict[Key, str]:
        query = sql.bucket_rows(self.own_rows, self._compared, bucket_count, buckets)
        with self.errors():
            return {tuple(key): row_hash for key, row_hash in self.connection.execute(query)}

    def rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        found: dict[Key, str] = {}
        with self.errors():
            for part in parts(keys, KEYS_AT_ONCE):
                rows = self.connection.execute(sql.rows_of_keys(self.own_rows, self._compared, part))
                found |= {tuple(key): row_hash for key, row_hash in rows}
        return found

    def locked_rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        """Return the hash of each existing row with one of these keys. Lock the rows until the transaction ends."""
        query = sql.rows_of_keys(self.own_rows, self._compared, keys, lock=True)
        return {tuple(key): row_hash for key, row_hash in self.connection.execute(query)}

    def blocks_of(self, keys: Iterable[Key]) -> list[bytes]:
        """Return the rows with these keys in COPY's text format."""
        with self.errors(), self.connection.cursor().copy(sql.copy_keys(self.own_rows, self.schema, keys)) as copy:
            return [bytes(block) if self._mask is None else self._mask(bytes(block)) for block in copy]


_Item = TypeVar("_Item")


def parts(items: Iterable[_Item], size: int) -> Iterator[tuple[_Item, ...]]:
    """Yield the items in order, `size` at a time."""
    iterator = iter(items)
    while part := tuple(islice(iterator, size)):
        yield part


def differing_buckets(source: Mapping[int, BucketHash], destination: Mapping[int, BucketHash]) -> list[int]:
    """Return the buckets that do not hold the same rows on both sides."""
    return sorted(bucket for bucket in source.keys() | destination.keys() if source.get(bucket) != destination.get(bucket))


def differing_keys(source: Mapping[Key, str], destination: Mapping[Key, str]) -> set[Key]:
    """Return the keys whose rows are not the same on both sides."""
    return {key for key in source.keys() | destination.keys() if source.get(key) != destination.get(key)}
