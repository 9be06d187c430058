"""One table at the source and at Snowflake, with hashes that both compute from the same texts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import pyarrow as pa

from rosetta_dagster.cdc.destination.snowflake.connection import Session
from rosetta_dagster.cdc.reconcile.side import BucketHash, Side, parts
from rosetta_dagster.cdc.reconcile.snowflake import sql
from rosetta_dagster.cdc.reconcile.snowflake.columns import ComparedColumns
from rosetta_dagster.cdc.reconcile.snowflake.fetched import hash_of
from rosetta_dagster.cdc.reconcile.sql import Key

#: Keys that one query looks up at Snowflake, each of them a list of parameters.
KEYS_AT_ONCE = 1000

#: How the hash of several rows with one key begins. Snowflake enforces no key.
DOUBLED = "doubled "


class SourceSide(Side):
    """The source's table, with the hashes that Snowflake computes too. Fetched values are converted as for a batch."""

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        columns: ComparedColumns,
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        schema = columns.schema
        super().__init__(connection, schema.id, schema, errors, row_filter=schema.row_filter)
        self._columns = columns

    def buckets(self, bucket_count: int) -> dict[int, BucketHash]:
        with self.errors():
            rows = self.connection.execute(sql.source_buckets(self.own_rows, self._columns, bucket_count))
            return {bucket: BucketHash(row_count, total) for bucket, row_count, total in rows}

    def rows_in(self, buckets: Sequence[int], bucket_count: int) -> dict[Key, str]:
        return self._hashes(sql.source_bucket_rows(self.own_rows, self._columns, bucket_count, buckets))

    def rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        found: dict[Key, str] = {}
        for part in parts(keys, KEYS_AT_ONCE):
            found |= self._hashes(sql.source_rows_of(self.own_rows, self._columns, part))
        return found

    def _hashes(self, query: psycopg.sql.Composed) -> dict[Key, str]:
        with self.errors():
            rows = self.connection.execute(query).fetchall()
        types = self._columns.fetched_types
        written = [
            converter.convert(pa.array([values[number] for _, _, values in rows], pa.string())).to_pylist()
            for number, converter in enumerate(self._columns.converters)
        ]
        return {
            tuple(key): hash_of(hashed, [column[number] for column in written], types)
            for number, (key, hashed, _) in enumerate(rows)
        }


class SnowflakeSide:
    """The table at Snowflake over one session, which the caller owns.

    It has no snapshot: a row that changes between two statements is read again, as one that differs.
    """

    def __init__(self, session: Session, columns: ComparedColumns) -> None:
        self.session = session
        self.columns = columns

    @property
    def hashes_every_column(self) -> bool:
        return not self.columns.fetched

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        yield

    def see_now(self) -> None:
        # Under READ_CONSISTENCY_MODE = SESSION a session may not see what others have committed since it was opened.
        self.session.renew()

    def buckets(self, bucket_count: int) -> dict[int, BucketHash]:
        rows = self._run(sql.snowflake_buckets(self.columns, bucket_count))
        return {int(bucket): BucketHash(row_count, total) for bucket, row_count, total in rows}

    def rows_in(self, buckets: Sequence[int], bucket_count: int) -> dict[Key, str]:
        return self._hashes(self._run(sql.snowflake_bucket_rows(self.columns, bucket_count, buckets)))

    def rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        found: dict[Key, str] = {}
        for part in parts(keys, KEYS_AT_ONCE):
            statement = sql.snowflake_rows_of(self.columns, len(part))
            found |= self._hashes(self._run(statement, [text for key in part for text in key]))
        return found

    def _run(self, statement: str, parameters: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        return self.session.execute(statement, parameters, place=f"table {self.columns.schema.id}")

    def _hashes(self, rows: Iterable[tuple[Any, ...]]) -> dict[Key, str]:
        width, types = len(self.columns.layout.key), self.columns.fetched_types
        found: dict[Key, list[str]] = {}
        for row in rows:
            found.setdefault(row[:width], []).append(hash_of(row[width], row[width + 1 :], types))
        return {key: hashes[0] if len(hashes) == 1 else DOUBLED + " ".join(sorted(hashes)) for key, hashes in found.items()}
