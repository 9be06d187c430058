"""Mends rows of a destination that differ from the source's, while the stream runs.

A row is replaced only while it is still the wrong one that was found: what the stream has written meanwhile is newer than
what is brought here, and stays. What the stream writes later replaces what is brought here. A row that the source deletes
just then could be brought back by this; so every key is compared again afterwards, and mended again if need be.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.reconcile import sql
from rosetta_dagster.cdc.reconcile.comparison import Difference, Kind, confirm
from rosetta_dagster.cdc.reconcile.side import Side, parts
from rosetta_dagster.cdc.reconcile.sql import Key

#: Rows that are mended in one transaction: it locks them, and the stream waits for it.
ROWS_AT_ONCE = 200

#: How often rows that could not be mended are tried again.
ROUNDS = 4

#: Shorter than the server's deadlock_timeout: between the stream and a repair it is the repair that gives way.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"


def repair(
    source: Side, destination: Side, differences: Sequence[Difference], catch_up: Callable[[], Lsn]
) -> tuple[Difference, ...]:
    """Mend these rows; those that still differ afterwards, with those that cannot be told."""
    left: Sequence[Difference] = differences
    for _ in range(ROUNDS):
        for part in parts(left, ROWS_AT_ONCE):
            _mend(source, destination, part)
        found, in_flight = confirm(source, destination, [difference.key for difference in left], catch_up)
        left = found + [difference for difference in left if difference.key in in_flight]
        if not left:
            break
    return tuple(left)


def _mend(source: Side, destination: Side, differences: Sequence[Difference]) -> None:
    """Nothing happens while the stream writes these rows. The comparison that follows tells what is left to do."""
    with destination.errors(), suppress(psycopg.errors.LockNotAvailable), destination.connection.transaction():
        destination.connection.execute(_LOCK_TIMEOUT)
        wrong = _still_wrong(destination, differences)
        # Read while the destination's rows are locked, so that this is no older than what is replaced.
        _replace(destination, wrong, source.blocks_of([each.key for each in wrong]))


def _still_wrong(destination: Side, differences: Sequence[Difference]) -> list[Difference]:
    keys = [difference.key for difference in differences]
    query = sql.rows_of_keys(destination.table, destination.schema, keys, lock=True)
    present = {tuple(key): row_hash for key, row_hash in destination.connection.execute(query)}
    return [difference for difference in differences if present.get(difference.key) == difference.found]


def _replace(destination: Side, differences: Sequence[Difference], blocks: Sequence[bytes]) -> None:
    connection, table, schema = destination.connection, destination.table, destination.schema
    present: list[Key] = [difference.key for difference in differences if difference.kind is not Kind.MISSING]
    connection.execute(sql.create_staging(table, schema))
    with connection.cursor().copy(sql.copy_into_staging()) as copy:
        for block in blocks:
            copy.write(block)
    if present:
        connection.execute(sql.delete_keys(table, schema, present))
    connection.execute(sql.insert_staged(table, schema))
