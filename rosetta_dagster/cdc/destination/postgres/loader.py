"""Loads copied rows into a PostgreSQL destination by COPY, each range in a transaction of its own."""

from collections.abc import Iterable

from psycopg.sql import Composed

from rosetta_dagster.cdc.change.pages import CopiedRange
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.destination.postgres import merge_sql, sql
from rosetta_dagster.cdc.destination.postgres.catalog import Connection
from rosetta_dagster.cdc.destination.postgres.state import add_range
from rosetta_dagster.cdc.destination.postgres.tables import Targets
from rosetta_dagster.cdc.postgres.errors import Translation, translated
from rosetta_dagster.cdc.table_id import TableId

#: Name of the temporary table for rows that cannot go straight into their table.
_STAGING = "rosetta_load"


class PostgresLoader:
    """Loads copied rows over a connection of its own. Keeps the contract of `Loader`."""

    def __init__(self, connection: Connection, targets: Targets, translation: Translation, pipeline: str) -> None:
        self._connection = connection
        self._targets = targets
        self._translation = translation
        self._pipeline = pipeline

    def takes_binary(self, table: TableSchema) -> bool:
        with translated(self._translation):
            return self._targets.takes_binary(self._connection, table)

    def load(
        self,
        table: TableSchema,
        copied: CopiedRange,
        blocks: Iterable[bytes],
        *,
        binary: bool = False,
        replacing: bool = False,
    ) -> int:
        with translated(self._translation), self._connection.transaction():
            if replacing or self._targets.unassignable(self._connection, table.id).generated:
                row_count = self._load_staged(table, blocks, binary=binary, replacing=replacing)
            else:
                row_count = self._copy(sql.copy_into(self._targets.of(table.id), table, binary=binary), blocks)
            add_range(self._connection, self._pipeline, table.id, copied)
        return row_count

    def keep(self, table: TableSchema, blocks: Iterable[bytes]) -> None:
        target = self._targets.of(table.id)
        with translated(self._translation), self._connection.transaction():
            self._connection.execute(merge_sql.create_load_staging(_STAGING, target))
            self._copy(sql.copy_keys_into(TableId("pg_temp", _STAGING), table), blocks)
            self._connection.execute(merge_sql.delete_others(_STAGING, target, table))

    def complete(self, table: TableSchema) -> None:
        with translated(self._translation), self._connection.transaction():
            self._targets.complete(self._connection, table)

    def _load_staged(self, table: TableSchema, blocks: Iterable[bytes], *, binary: bool, replacing: bool) -> int:
        target, fixed = self._targets.of(table.id), self._targets.unassignable(self._connection, table.id)
        self._connection.execute(merge_sql.create_load_staging(_STAGING, target))
        row_count = self._copy(sql.copy_into(TableId("pg_temp", _STAGING), table, binary=binary), blocks)
        reidentified = merge_sql.delete_reidentified(_STAGING, target, table, fixed) if replacing else None
        if reidentified is not None:
            self._connection.execute(reidentified)
        self._connection.execute(merge_sql.insert_loaded(_STAGING, target, table, fixed, replacing=replacing))
        return row_count

    def _copy(self, statement: Composed, blocks: Iterable[bytes]) -> int:
        with self._connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for block in blocks:
                    copy.write(block)
            return cursor.rowcount
