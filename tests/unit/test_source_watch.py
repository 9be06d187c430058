"""When an inspection of the source ends an attempt, and when it waits."""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import MagicMock

import pytest

from rosetta_dagster.cdc.change.fingerprint import Fingerprint, Leaf
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.run import source_watch
from rosetta_dagster.cdc.run.source_watch import SourceWatch
from rosetta_dagster.cdc.source.fingerprint import Found
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
    is_unidentified=True,
    counted_since="100.5 90.25",
)


def watch(*, is_copying: Callable[[], bool]) -> SourceWatch:
    return SourceWatch(
        PostgresConnection(host="localhost", database="shop", username="shop"),
        publications=["rosetta_shop"],
        tables=[KEYLESS],
        refused=(),
        known={KEYLESS: BEFORE},
        schemas={},
        follows_oid=True,
        ignores_dropped=False,
        record=lambda tables: None,
        is_copying=is_copying,
        requested_inspection=int,
        inspected=lambda request: None,
    )


@pytest.mark.parametrize("change", [{"unpublished_writes": 6}, {"counted_since": "200.5 90.25"}])
def test_unpublished_writes_wait_while_a_copy_runs_that_would_begin_again(change: dict[str, object]) -> None:
    now = replace(BEFORE, **change)  # type: ignore[arg-type]  # one field or another
    assert watch(is_copying=lambda: False)._needs_new_attempt(KEYLESS, now)
    assert not watch(is_copying=lambda: True)._needs_new_attempt(KEYLESS, now)


def test_everything_else_that_is_missed_does_not_wait() -> None:
    now = replace(BEFORE, oid=200, unpublished_writes=0)
    assert watch(is_copying=lambda: True)._needs_new_attempt(KEYLESS, now)


class Source:
    """Stands for the source of a watch: its digest, and the fingerprint of its table."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.digest = "1"
        self.now = BEFORE
        self.comparison_count = 0
        monkeypatch.setattr(source_watch, "connect", lambda source: MagicMock())
        monkeypatch.setattr(source_watch, "read_digest", lambda *arguments: self.digest)
        monkeypatch.setattr(source_watch, "read_fingerprints", self.read)
        monkeypatch.setattr(source_watch, "read_schemas", lambda *arguments: {})

    def read(self, *arguments: object) -> list[Found]:
        self.comparison_count += 1
        return [Found(KEYLESS, self.now)]


def test_fingerprints_are_compared_only_when_the_digest_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    source, watched = Source(monkeypatch), watch(is_copying=lambda: False)
    watched.inspect()
    watched.inspect()
    assert source.comparison_count == 1
    source.digest, source.now = "2", replace(BEFORE, oid=200)
    watched.inspect()
    assert source.comparison_count == 2
    assert watched.has_changed


def test_writes_that_wait_are_compared_again_although_the_digest_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    source, is_copying = Source(monkeypatch), True
    source.now = replace(BEFORE, unpublished_writes=6)
    watched = watch(is_copying=lambda: is_copying)
    watched.inspect()
    assert not watched.has_changed
    is_copying = False
    watched.inspect()
    assert watched.has_changed
