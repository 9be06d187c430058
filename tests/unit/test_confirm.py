"""Which rows are proved to differ, with sides that say what a test tells them to."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from rosetta_dagster.cdc.change.masking import masked_shape
from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.config.pipeline import DestinationConfig
from rosetta_dagster.cdc.reconcile.comparison import PROOFS, ROUNDS, Kind, confirm
from rosetta_dagster.cdc.reconcile.reconcile import obstacle
from rosetta_dagster.cdc.reconcile.side import BucketHash, differing_buckets, differing_keys, parts
from tests.support.replica import ITEMS

KEY = ("1",)


class Scripted:
    """A side that gives one answer after the other, and the last one for ever."""

    def __init__(self, *answers: str | None) -> None:
        self._answers = list(answers)

    def see_now(self) -> None:
        """Nothing: the answers are given."""

    def rows_of(self, keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return {} if answer is None else dict.fromkeys(keys, answer)


def confirmed(source: Scripted, destination: Scripted) -> tuple[list[tuple[Kind, str | None]], bool]:
    one: Any = source
    other: Any = destination
    differences, in_flight = confirm(one, other, [KEY], lambda: Lsn(0))
    return [(each.kind, each.found) for each in differences], KEY in in_flight


@pytest.mark.parametrize(
    ("source", "destination", "kind"),
    [("a", "b", Kind.CHANGED), ("a", None, Kind.MISSING), (None, "b", Kind.EXTRA)],
)
def test_a_row_that_stays_wrong_differs(source: str | None, destination: str | None, kind: Kind) -> None:
    assert ([(kind, destination)], False) == confirmed(Scripted(source), Scripted(destination))


def test_a_row_that_arrives_is_right() -> None:
    assert ([], False) == confirmed(Scripted("a"), Scripted("b", "a"))


def test_a_row_that_was_changed_and_changed_back_is_not_wrong_by_one_reading() -> None:
    # The destination shows the version in between, which the source has given up again.
    assert PROOFS > 1
    assert ([], False) == confirmed(Scripted("a"), Scripted("in between", "a"))


def test_a_row_that_never_stands_still_is_in_flight() -> None:
    versions = [str(n) for n in range(3 * ROUNDS)]
    assert ([], True) == confirmed(Scripted(*versions), Scripted("old"))


def test_proofs_have_to_follow_each_other() -> None:
    # Wrong, moving, wrong once, and right at last.
    source = Scripted("a", "a", "b", "c", "d", "d", "e")
    assert ([], False) == confirmed(source, Scripted("x", "x", "x", "e"))


def test_buckets_and_keys_differ_by_what_one_side_alone_has() -> None:
    one, other = BucketHash(1, "7"), BucketHash(2, "7")
    assert [1, 2, 3] == differing_buckets({0: one, 1: one, 2: one}, {0: one, 2: other, 3: one})
    assert {("a",), ("b",), ("c",)} == differing_keys({("a",): "1", ("b",): "1"}, {("b",): "2", ("c",): "1"})


def test_parts_are_in_order_and_the_last_one_is_short() -> None:
    found: Sequence[tuple[int, ...]] = list(parts(range(5), 2))
    assert [(0, 1), (2, 3), (4,)] == found


@pytest.mark.parametrize(("type_", "is_compared"), [("POSTGRES", True), ("SNOWFLAKE", False)])
def test_a_masked_table_is_compared_at_postgresql_only(type_: str, is_compared: bool) -> None:
    # A repair at Snowflake would write the source's values in clear.
    row = DestinationConfig(name="dw", type=type_, config={})
    assert (obstacle(row, masked_shape(ITEMS, {"name": "hash"})) is None) is is_compared
    assert obstacle(row, ITEMS) is None
