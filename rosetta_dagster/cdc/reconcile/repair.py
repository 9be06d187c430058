"""Repairs rows of a destination that differ from the source's, while the stream runs.

A row is replaced only if it is still the wrong row that was found: a row that the stream has written meanwhile is newer than
the repair, and stays. What the stream writes later replaces the repair. A row that the source deletes during the repair
could come back; so every key is compared again afterwards, and repaired again if needed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.reconcile import sql
from rosetta_dagster.cdc.reconcile.comparison import Difference, Kind, confirm
from rosetta_dagster.cdc.reconcile.side import Side, parts
from rosetta_dagster.cdc.reconcile.sql import Key

#: Rows that are repaired in one transaction. It locks them, and the stream waits for it.
ROWS_AT_ONCE = 200

#: Attempts to repair rows that still differ.
ROUNDS = 4

#: Shorter than the server's deadlock_timeout, so that the repair gives way to the stream.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"


def repair(
    source: Side, destination: Side, differences: Sequence[Difference], catch_up: Callable[[], Lsn]
) -> tuple[Difference, ...]:
    """Repair these rows. Return those that still differ, and those in flight."""
    left: Sequence[Difference] = differences
    for _ in range(ROUNDS):
        for part in parts(left, ROWS_AT_ONCE):
            _repair_part(source, destination, part)
        found, in_flight = confirm(source, destination, [difference.key for difference in left], catch_up)
        left = found + [difference for difference in left if difference.key in in_flight]
        if not left:
            break
    return tuple(left)


def _repair_part(source: Side, destination: Side, differences: Sequence[Difference]) -> None:
    """Repair these rows, unless the stream has locked them: the comparison that follows finds them again."""
    with destination.errors(), suppress(psycopg.errors.LockNotAvailable), destination.connection.transaction():
        destination.connection.execute(_LOCK_TIMEOUT)
        wrong = _still_wrong(destination, differences)
        # Read while the destination's rows are locked, so that it is not older than what it replaces.
        _replace(destination, wrong, source.blocks_of([each.key for each in wrong]))


def _still_wrong(destination: Side, differences: Sequence[Difference]) -> list[Difference]:
    present = destination.locked_rows_of(difference.key for difference in differences)
    return [difference for difference in differences if present.get(difference.key) == difference.found]


def _replace(destination: Side, differences: Sequence[Difference], blocks: Sequence[bytes]) -> None:
    connection, table, schema = destination.connection, destination.table, destination.schema
    present: list[Key] = [difference.key for difference in differences if difference.kind is not Kind.MISSING]
    connection.execute(sql.create_staging(destination.own_rows, schema))
    with connection.cursor().copy(sql.copy_into_staging()) as copy:
        for block in blocks:
            copy.write(block)
    if present:
        connection.execute(sql.delete_keys(destination.own_rows, schema, present))
    connection.execute(sql.insert_staged(table, schema))
