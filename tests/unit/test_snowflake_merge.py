"""Tables that are merged side by side."""

import threading

import pytest

from rosetta_dagster.cdc.destination.snowflake.merge import side_by_side
from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable


def test_results_keep_the_order_of_the_tables() -> None:
    assert [0, 1, 4, 9] == side_by_side(lambda n: n * n, range(4), 3)


def test_of_several_errors_the_one_that_a_person_has_to_see_is_raised() -> None:
    both = threading.Barrier(2)

    def fail(n: int) -> None:
        both.wait(10)
        raise (DestinationUnavailable, DestinationRejected)[n]("It failed.", "Look.")

    for _ in range(20):
        with pytest.raises(DestinationRejected):
            side_by_side(fail, range(2), 2)


def test_after_an_error_nothing_more_begins() -> None:
    begun = []

    def fail(n: int) -> None:
        begun.append(n)
        raise DestinationRejected("It failed.", "Look.")

    with pytest.raises(DestinationRejected):
        side_by_side(fail, range(100), 2)
    assert len(begun) < 50
