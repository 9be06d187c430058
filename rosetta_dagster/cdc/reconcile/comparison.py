"""Finds the rows that differ between the source and a destination, while the source is written and the stream runs.

The source is read in one snapshot. The destination is read in a later one, after the stream has applied all that the first
snapshot shows. A row that differs between the two either truly differs or has changed since. So the keys that differ are
read again, up to ROUNDS times. A row truly differs if it is the same at the source before and after the destination has
caught up, and the destination's row is another. A row that the source keeps changing is in flight: it is not reported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple, TypeVar

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.reconcile.side import BucketHash, ComparedSide, Side, differing_buckets, differing_keys, parts
from rosetta_dagster.cdc.reconcile.sql import Key

#: Approximate rows in a bucket. Fewer make a longer list of buckets, more make more rows to read for each difference.
ROWS_PER_BUCKET = 100

#: Differing buckets whose rows are held in memory at once.
BUCKETS_AT_ONCE = 2000

#: Readings of rows that differ, and how many readings in a row have to find the difference.
ROUNDS, PROOFS = 6, 2


_Read = TypeVar("_Read")


class Kind(StrEnum):
    """How a destination's row differs from the source's."""

    CHANGED = "CHANGED"
    #: The destination does not have the row.
    MISSING = "MISSING"
    #: The source does not have the row.
    EXTRA = "EXTRA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row that differs."""

    key: Key
    kind: Kind
    #: The hash of the destination's row; None when it has none.
    found: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing a table at the source and at a destination."""

    row_count: int
    bucket_count: int
    differing_bucket_count: int
    differences: tuple[Difference, ...]
    #: Rows that the source changed faster than they could be compared.
    in_flight: tuple[Key, ...]


class Outcome(NamedTuple):
    """A comparison, and the rows that still differ after the repair; all that differ if none was requested."""

    comparison: Comparison
    left: tuple[Difference, ...]


def compare(source: Side, destination: ComparedSide, catch_up: Callable[[], Lsn]) -> Comparison:
    """Compare two sides of a table that has a key.

    `catch_up` waits until the destination has all that the source has now. Both connections are in autocommit mode. Two
    threads read the sides at the same time, and have ended on return. Both snapshots are held meanwhile.
    """
    with source.snapshot(), destination.snapshot():
        # The first query takes the snapshot: the source's here, the destination's after it has caught up.
        bucket_count = _bucket_count(source)
        catch_up()
        destination.see_now()
        with ThreadPoolExecutor(2, thread_name_prefix="reconcile") as pool:
            at_source, at_destination = _both(pool, lambda side: side.buckets(bucket_count), source, destination)
            buckets = _suspected(destination, at_source, at_destination)
            suspects: set[Key] = set()
            for part in parts(buckets, BUCKETS_AT_ONCE):
                read = partial(_rows_in, buckets=part, bucket_count=bucket_count)
                suspects |= differing_keys(*_both(pool, read, source, destination))
        row_count = sum(bucket.row_count for bucket in at_source.values())
    differences, in_flight = confirm(source, destination, suspects, catch_up)
    return Comparison(
        row_count=row_count,
        bucket_count=bucket_count,
        differing_bucket_count=len(buckets),
        differences=tuple(sorted(differences, key=lambda each: each.key)),
        in_flight=tuple(sorted(in_flight)),
    )


def _suspected(
    destination: ComparedSide, at_source: Mapping[int, BucketHash], at_destination: Mapping[int, BucketHash]
) -> list[int]:
    """Return the buckets whose rows have to be read."""
    if destination.hashes_every_column:
        return differing_buckets(at_source, at_destination)
    return sorted(at_source.keys() | at_destination.keys())


def confirm(
    source: ComparedSide, destination: ComparedSide, suspects: Iterable[Key], catch_up: Callable[[], Lsn]
) -> tuple[list[Difference], set[Key]]:
    """Return the rows that truly differ, and the keys that are in flight."""
    open_keys = set(suspects)
    proofs: dict[Key, int] = {}
    differences: list[Difference] = []
    for _ in range(ROUNDS):
        if not open_keys:
            break
        before = source.rows_of(open_keys)
        catch_up()
        destination.see_now()
        found = destination.rows_of(open_keys)
        after = source.rows_of(open_keys)
        for key in list(open_keys):
            if before.get(key) != after.get(key):
                proofs.pop(key, None)
            elif found.get(key) == after.get(key):
                open_keys.discard(key)
            else:
                # A row that was changed and changed back meanwhile looks unchanged, so one reading proves nothing.
                proofs[key] = proofs.get(key, 0) + 1
                if proofs[key] == PROOFS:
                    open_keys.discard(key)
                    differences.append(_difference(key, after.get(key), found.get(key)))
    return differences, open_keys


def _difference(key: Key, wanted: str | None, found: str | None) -> Difference:
    kind = Kind.EXTRA if wanted is None else Kind.MISSING if found is None else Kind.CHANGED
    return Difference(key=key, kind=kind, found=found)


#: A table that was never analyzed has no estimate of its rows; rows of 100 bytes are assumed then. The tree holds partitions
#: only: inheritance children are not in it.
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


def _rows_in(side: ComparedSide, *, buckets: Sequence[int], bucket_count: int) -> dict[Key, str]:
    return side.rows_in(buckets, bucket_count)


def _both(
    pool: ThreadPoolExecutor, read: Callable[[ComparedSide], _Read], source: ComparedSide, destination: ComparedSide
) -> tuple[_Read, _Read]:
    """Read both sides at the same time. Each connection is used by one thread at a time."""
    both = [pool.submit(read, side) for side in (source, destination)]
    return both[0].result(), both[1].result()
