"""Columns must hold just the changes that were put into them, with their positions, wherever they are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.change.columns import ChangeColumns, Form, Kind
from rosetta_dagster.cdc.change.event import UNCHANGED, Change, Operation
from tests.support.changes import columns_of, delete, insert, row, table, truncate, update

ITEMS = table("id", "name")
INSERTED = Kind(Operation.INSERT, ITEMS, Form.WHOLE)


def put(columns: ChangeColumns, lsn: int, number: int) -> None:
    columns.kinds.append(INSERTED)
    columns.kept.append(row(str(number), "a"))
    columns.lsns.append(lsn.to_bytes(8))


#: Transactions as the numbers of the changes that share each of their LSNs, and how many changes are taken between two.
TRANSACTIONS = st.lists(st.lists(st.integers(min_value=1, max_value=3), max_size=3), max_size=4)


@given(TRANSACTIONS, st.randoms(use_true_random=False))
def test_changes_have_their_positions_wherever_they_are_taken(shape: list[list[int]], random: object) -> None:
    """Of a transaction that is taken in parts, too, and while others begin.

    They share their LSNs, which those of one log do not: nothing may depend on what came before.
    """
    columns, taken, expected = ChangeColumns(), list[Change](), list[Change]()
    for number, runs in enumerate(shape, 1):
        columns.begin(number * 100, number)
        for lsn, count in enumerate(runs, 50):
            for ordinal in range(count):
                put(columns, lsn, len(expected))
                values = row(str(len(expected)), "a")
                expected.append(Change(number * 100, lsn, ordinal, number, Operation.INSERT, ITEMS, values, None))
                if random.random() < 0.3:  # type: ignore[attr-defined]
                    taken += columns.take(random.randrange(len(columns) + 1))  # type: ignore[attr-defined]
    rest = columns
    assert expected == [*taken, *rest]
    assert list(rest) == [rest[index] for index in range(len(rest))] == rest[:]
    assert list(rest)[::-1] == [rest[-index] for index in range(1, len(rest) + 1)]
    assert all(before.position < after.position for before, after in pairwise(expected))


def test_what_is_taken_is_gone() -> None:
    columns = columns_of(insert(ITEMS, "1", "a"), insert(ITEMS, "2", "a"), insert(ITEMS, "3", "a"))
    first, second = columns.take(2), columns.take(1)
    assert (["1", "2"], ["3"], []) == tuple(
        [str((each.row or ())[0], "ascii") for each in some]  # type: ignore[arg-type]
        for some in (first, second, columns)
    )


def test_a_transaction_that_left_nothing_is_not_mixed_up_with_the_next() -> None:
    columns = ChangeColumns()
    columns.begin(100, 1)
    columns.begin(200, 2)
    put(columns, 150, 1)
    columns.begin(300, 3)
    columns.take(1)
    put(columns, 150, 2)
    assert [(300, 150, 0, 3)] == [each[:4] for each in columns]


def test_every_kind_of_change_is_kept() -> None:
    full = update(ITEMS, "1", UNCHANGED, old=row("0", None))
    changes = [insert(ITEMS, "1", "a"), update(ITEMS, "1", UNCHANGED), full, delete(ITEMS, "1"), truncate(ITEMS)]
    columns = columns_of(*changes)
    assert [change[4:] for change in changes] == [change[4:] for change in columns]
    forms = [kind.form for kind in columns.kinds]
    assert [Form.WHOLE, Form.PARTIAL, Form.BOTH, Form.OLD_ROW, Form.NOTHING] == forms
