"""Finds the rows that differ between the source and a destination, while the source is written and the stream runs.

The source is read in one snapshot; the destination in one of its own, as soon as it holds all that the first one shows. What
differs then either differs truly or has been changed since. So the keys that differ are looked at again, a few times: a row
that is the same at the source before and after the destination has caught up with it, and is another one there, differs. A
row that the source changes again and again meanwhile is in flight, and nothing is said of it.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.reconcile.side import Side, differing_buckets, differing_keys, parts
from rosetta_dagster.cdc.reconcile.sql import Key

#: Rows of one bucket, about; fewer make a longer list of buckets, more make more rows to look at for each difference.
ROWS_PER_BUCKET = 100

#: Differing buckets whose rows are held in memory at once.
BUCKETS_AT_ONCE = 2000

#: How often rows that differ are looked at, and how often in a row they must be found to.
ROUNDS, PROOFS = 6, 2


_Read = TypeVar("_Read")


class Kind(StrEnum):
    """How a destination's row differs from the source's."""

    CHANGED = "CHANGED"
    #: The destination lacks it.
    MISSING = "MISSING"
    #: The source lacks it.
    EXTRA = "EXTRA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row that differs."""

    key: Key
    kind: Kind
    #: The hash of the destination's row; None: it has none.
    found: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two sides of a table hold."""

    row_count: int
    bucket_count: int
    differing_bucket_count: int
    differences: tuple[Difference, ...]
    #: Rows that the source changed faster than they could be compared.
    in_flight: tuple[Key, ...]


def compare(source: Side, destination: Side, catch_up: Callable[[], Lsn]) -> Comparison:
    """Compare two sides of a table that has a key; `catch_up` waits until the destination holds what the source does now.

    Both connections are in autocommit mode. Two threads, which have ended on return, read the sides at once. Their snapshots
    are held for so long.
    """
    with source.connection.transaction(), destination.connection.transaction():
        source.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        destination.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # The first query takes a snapshot: the source's here, the destination's when it holds all that this one shows.
        bucket_count = _bucket_count(source)
        catch_up()
        destination.connection.execute("SELECT")
        with ThreadPoolExecutor(2, thread_name_prefix="reconcile") as pool:
            at_source, at_destination = _both(pool, lambda side: side.buckets(bucket_count), source, destination)
            buckets = differing_buckets(at_source, at_destination)
            suspects: set[Key] = set()
            for part in parts(buckets, BUCKETS_AT_ONCE):
                rows = _both(pool, partial(Side.rows_in, buckets=part, bucket_count=bucket_count), source, destination)
                suspects |= differing_keys(*rows)
        row_count = sum(bucket.row_count for bucket in at_source.values())
    differences, in_flight = confirm(source, destination, suspects, catch_up)
    return Comparison(
        row_count=row_count,
        bucket_count=bucket_count,
        differing_bucket_count=len(buckets),
        differences=tuple(sorted(differences, key=lambda each: each.key)),
        in_flight=tuple(sorted(in_flight)),
    )


def confirm(
    source: Side, destination: Side, suspects: Iterable[Key], catch_up: Callable[[], Lsn]
) -> tuple[list[Difference], set[Key]]:
    """Which of these keys truly differ, and which nothing can be said of."""
    open_keys = set(suspects)
    proofs: dict[Key, int] = {}
    differences: list[Difference] = []
    for _ in range(ROUNDS):
        if not open_keys:
            break
        before = source.rows_of(open_keys)
        catch_up()
        found = destination.rows_of(open_keys)
        after = source.rows_of(open_keys)
        for key in list(open_keys):
            if before.get(key) != after.get(key):
                proofs.pop(key, None)
            elif found.get(key) == after.get(key):
                open_keys.discard(key)
            else:
                # A row that was changed and changed back in between looks as if it had not been: once is no proof.
                proofs[key] = proofs.get(key, 0) + 1
                if proofs[key] == PROOFS:
                    open_keys.discard(key)
                    differences.append(_difference(key, after.get(key), found.get(key)))
    return differences, open_keys


def _difference(key: Key, wanted: str | None, found: str | None) -> Difference:
    kind = Kind.EXTRA if wanted is None else Kind.MISSING if found is None else Kind.CHANGED
    return Difference(key=key, kind=kind, found=found)


#: A table that was never analyzed has no estimate of its rows; then rows of this many bytes are assumed.
_ESTIMATE = """
SELECT greatest(sum(class.reltuples), sum(pg_relation_size(class.oid)) / 100)::bigint
FROM pg_class AS class
WHERE class.oid = to_regclass(format('%%I.%%I', %(namespace)s::text, %(name)s::text))
   OR class.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(format('%%I.%%I', %(namespace)s::text, %(name)s::text))))
"""


def _bucket_count(source: Side) -> int:
    parameters = {"namespace": source.table.namespace, "name": source.table.name}
    row = source.connection.execute(_ESTIMATE, parameters).fetchone()
    assert row is not None, "an aggregate returns one row"
    return max(16, int(row[0]) // ROWS_PER_BUCKET)


def _both(pool: ThreadPoolExecutor, read: Callable[[Side], _Read], source: Side, destination: Side) -> tuple[_Read, _Read]:
    """What is read of both sides, at once. Each connection is used by one thread at a time."""
    both = [pool.submit(read, side) for side in (source, destination)]
    return both[0].result(), both[1].result()
