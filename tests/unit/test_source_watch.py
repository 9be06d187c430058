"""When an inspection of the source ends an attempt, and when it waits."""

from dataclasses import replace

import pytest

from rosetta_dagster.cdc.change.fingerprint import Fingerprint, Leaf
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.run.source_watch import SourceWatch
from rosetta_dagster.cdc.table_id import TableId

KEYLESS = TableId("public", "keyless")
BEFORE = Fingerprint(
    oid=100,
    is_partitioned=False,
    row_type="7",
    column_count=1,
    leaves=(Leaf(oid=100, filenode=100),),
    membership="1 5 2 5",
    unpublished_writes=5,
    counted_since="100.5 90.25",
)


def watch(*, is_copying: bool) -> SourceWatch:
    return SourceWatch(
        PostgresConnection(host="localhost", database="shop", username="shop"),
        publications=["rosetta_shop"],
        tables=[KEYLESS],
        refused=(),
        unidentified={KEYLESS},
        known={KEYLESS: BEFORE},
        follows_oid=True,
        ignores_dropped=False,
        record=lambda tables: None,
        is_copying=lambda: is_copying,
        requested_inspection=int,
        inspected=lambda request: None,
    )


@pytest.mark.parametrize("change", [{"unpublished_writes": 6}, {"counted_since": "200.5 90.25"}])
def test_unpublished_writes_wait_while_a_copy_runs_that_would_begin_again(change: dict[str, object]) -> None:
    now = replace(BEFORE, **change)  # type: ignore[arg-type]  # one field or another
    assert watch(is_copying=False)._needs_new_attempt(KEYLESS, now)
    assert not watch(is_copying=True)._needs_new_attempt(KEYLESS, now)


def test_everything_else_that_is_missed_does_not_wait() -> None:
    now = replace(BEFORE, oid=200, unpublished_writes=0)
    assert watch(is_copying=True)._needs_new_attempt(KEYLESS, now)
