"""Detects, while the stream runs, catalog changes that require a new attempt."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg

from rosetta_dagster.cdc.change.fingerprint import (
    Fingerprint,
    leaf_changes,
    missed_changes_reason,
    unpublished_writes_reason,
)
from rosetta_dagster.cdc.change.schema import TableSchema, has_reused_name
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.source.catalog import read_schemas
from rosetta_dagster.cdc.source.catalog_digest import read_digest
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.fingerprint import read_fingerprints
from rosetta_dagster.cdc.source.selections import withdraw
from rosetta_dagster.cdc.table_id import TableId

#: Seconds between two inspections. Each is one query, which costs the source half a millisecond for fifty tables, and a
#: second one when the catalog has changed.
INSPECTION_INTERVAL = 10.0


class SourceWatch:
    """Compares the tables of a pipeline with what they were when the attempt began.

    Used by the thread that replicates. Owns one connection, from the first inspection until `close`.
    """

    def __init__(
        self,
        source: PostgresConnection,
        *,
        publications: Sequence[str],
        own_publications: Sequence[str] = (),
        tables: Sequence[TableId],
        growing: Collection[TableId] = (),
        refused: Collection[TableId],
        known: Mapping[TableId, Fingerprint],
        schemas: Mapping[TableId, TableSchema],
        follows_oid: bool,
        ignores_dropped: bool,
        record: Callable[[Sequence[TableSchema]], None],
        is_copying: Callable[[], bool],
        requested_inspection: Callable[[], int],
        inspected: Callable[[int], None],
    ) -> None:
        """`known` holds the tables that existed. `record` gets those that differ without having missed changes.

        While `is_copying()`, unpublished writes wait: a new attempt would begin the copies of other tables again.

        `inspected` gets the number of the last request that an inspection has met which found no need of a new attempt.

        A table that is published with a selection of Rosetta's own is taken out of `own_publications` as soon as the source
        refuses its updates. `growing` are tables whose later columns are to be published, too.

        A refused table, or one that is set aside, needs a new attempt once its definition differs. So does a table that
        lost its replica identity: while it is published, the source refuses its updates. `schemas` are the columns that the
        engine knows: it does not see that another column has the name of a dropped one.
        """
        self._source = source
        self._publications = publications
        self._own_publications = own_publications
        self._tables = tables
        self._growing = growing
        self._refused = refused
        self._known = dict(known)
        self._schemas = schemas
        self._follows_oid = follows_oid
        self._ignores_dropped = ignores_dropped
        self._record = record
        self._is_copying = is_copying
        self._requested_inspection = requested_inspection
        self._inspected = inspected
        #: The last request that was met. None yet: one may have come since the attempt read the catalog.
        self._met_request = 0
        self._inspected_at = time.monotonic()
        self._connection: psycopg.Connection[Any] | None = None
        #: The digest of the catalog when a comparison found everything as it was; None when the next one has to compare.
        self._compared: str | None = None
        #: Whether the run has to be attempted again.
        self.has_changed = False

    def inspect_if_due(self) -> None:
        """Inspect the source when the last time was long enough ago, or when somebody asks for it."""
        is_requested = self._requested_inspection() > self._met_request
        if is_requested or time.monotonic() - self._inspected_at >= INSPECTION_INTERVAL:
            self.inspect()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def inspect(self) -> None:
        """Inspect the source now."""
        self._inspected_at = time.monotonic()
        request = self._met_request = self._requested_inspection()
        with source_errors(self._source):
            connection = self._connection = self._connection or self._connect()
            # Read before the comparison: what changes in between shows in the next digest.
            digest = read_digest(connection, self._publications, self._tables, self._known)
            if digest != self._compared:
                self._compared = digest if self._compare(connection) else None
        if self._compared is not None:
            self._inspected(request)

    def _connect(self) -> "psycopg.Connection[Any]":
        connection = connect(self._source)
        # Planning costs more than the query itself, and compiling it much more.
        connection.execute("SET plan_cache_mode = force_generic_plan; SET jit = off")
        return connection

    def _compare(self, connection: "psycopg.Connection[Any]") -> bool:
        """Compare all fingerprints. Return whether nothing needs a new attempt, now or when copies have ended."""
        withdrawn = withdraw(connection, self._own_publications) if self._own_publications else []
        found = dict(read_fingerprints(connection, self._publications, self._tables))
        self.has_changed |= bool(withdrawn) or any(self._needs_new_attempt(each, found.get(each)) for each in self._tables)
        if self.has_changed:
            return False
        waiting = self._waiting_writes(found)
        moved = self._moved(found, waiting)
        schemas = read_schemas(connection, list(moved), self._publications) if moved else {}
        if any(has_reused_name(self._schemas.get(table, schema), schema) for table, schema in schemas.items()):
            self.has_changed = True
            return False
        if moved:
            # As it was compared, not as it was read again.
            self._record([replace(schema, fingerprint=moved[table]) for table, schema in schemas.items()])
            self._known |= moved
        return not waiting

    def _moved(self, found: Mapping[TableId, Fingerprint], waiting: Collection[TableId]) -> dict[TableId, Fingerprint]:
        """Return what differs without a gap. The counts of writes that wait stay to be compared."""
        now = {
            table: fingerprint.counted_as(self._known[table]) if table in waiting else fingerprint
            for table, fingerprint in found.items()
            if table in self._known
        }
        return {table: fingerprint for table, fingerprint in now.items() if self._known[table] != fingerprint}

    def _waiting_writes(self, found: Mapping[TableId, Fingerprint]) -> frozenset[TableId]:
        """Return the tables whose unpublished writes wait until other copies have ended."""
        compared = [table for table in self._known.keys() & found if table not in self._refused]
        return frozenset(table for table in compared if unpublished_writes_reason(self._known[table], found[table]))

    def _needs_new_attempt(self, table: TableId, now: Fingerprint | None) -> bool:
        """Return whether the table came, went, or may have had changes that the stream did not carry."""
        before = self._known.get(table)
        if before is None or now is None:
            return before is not now
        if table in self._refused:
            return before.definition != now.definition
        if before.is_unidentified != now.is_unidentified:
            return True
        if table in self._growing and now.column_count > before.column_count:
            return True
        if unpublished_writes_reason(before, now) is not None and not self._is_copying():
            return True
        counted = now.counted_as(before)
        return missed_changes_reason(before, counted, follows_oid=self._follows_oid) is not None or bool(
            leaf_changes(before, now, ignores_dropped=self._ignores_dropped)
        )
