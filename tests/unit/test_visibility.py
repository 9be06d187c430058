import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta_dagster.cdc.change.visibility import XidSnapshot

XID_SPACE = 1 << 32


@st.composite
def snapshots(draw: st.DrawFn) -> XidSnapshot:
    xmin = draw(st.integers(min_value=3, max_value=1 << 40))
    span = draw(st.integers(min_value=0, max_value=1000))
    in_progress = draw(st.frozensets(st.integers(min_value=xmin, max_value=xmin + span - 1))) if span else frozenset()
    return XidSnapshot(xmin, xmin + span, in_progress)


@given(snapshots())
def test_a_snapshot_is_read_back_as_it_was_printed(snapshot: XidSnapshot) -> None:
    assert snapshot == XidSnapshot.parse(str(snapshot))


def test_a_snapshot_is_read_in_the_form_of_postgresql() -> None:
    assert XidSnapshot(750, 768, frozenset({751, 760})) == XidSnapshot.parse("750:768:751,760")
    assert XidSnapshot(750, 750, frozenset()) == XidSnapshot.parse("750:750:")


def test_a_snapshot_prints_its_transactions_in_order() -> None:
    assert "9:200:9,20,100" == str(XidSnapshot(9, 200, frozenset({100, 20, 9})))
    assert "9:9:" == str(XidSnapshot(9, 9, frozenset()))


@pytest.mark.parametrize("text", ["", "750", "750:768", "a:768:", "750:768:x", "1:2:3:4"])
def test_a_text_that_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        XidSnapshot.parse(text)


@pytest.mark.parametrize(
    ("xid", "held"),
    [(749, True), (750, False), (751, True), (760, False), (767, True), (768, False), (769, False)],
)
def test_a_snapshot_holds_what_had_ended_and_nothing_in_progress_or_later(xid: int, held: bool) -> None:
    assert held is XidSnapshot(750, 768, frozenset({750, 760})).holds(xid)


def test_without_transactions_in_progress_everything_below_is_held() -> None:
    snapshot = XidSnapshot(768, 768, frozenset())
    assert [True, False] == [snapshot.holds(767), snapshot.holds(768)]


@given(snapshots(), st.integers(min_value=-5000, max_value=5000))
def test_the_low_half_of_a_transaction_id_is_unlike_its_neighbours_in_any_epoch(
    snapshot: XidSnapshot, distance: int
) -> None:
    xid = max(3, snapshot.xmax + distance)
    expected = xid < snapshot.xmax and xid not in snapshot.in_progress
    assert expected is snapshot.holds(xid % XID_SPACE)


def test_a_transaction_from_before_the_32_bits_wrapped_is_held() -> None:
    snapshot = XidSnapshot(XID_SPACE + 5, XID_SPACE + 10, frozenset({XID_SPACE + 5}))
    assert snapshot.holds(XID_SPACE - 1)
    assert snapshot.holds(6)
    assert not snapshot.holds(5)


def test_a_transaction_from_after_the_32_bits_wrapped_is_not_held() -> None:
    snapshot = XidSnapshot(XID_SPACE - 10, XID_SPACE - 5, frozenset({XID_SPACE - 10}))
    assert not snapshot.holds(3)
    assert not snapshot.holds(XID_SPACE - 10)
    assert snapshot.holds(XID_SPACE - 9)


def test_a_transaction_in_progress_across_the_wrap_is_not_held() -> None:
    snapshot = XidSnapshot(XID_SPACE - 1, XID_SPACE + 4, frozenset({XID_SPACE - 1, XID_SPACE + 3}))
    assert not snapshot.holds(XID_SPACE - 1)
    assert not snapshot.holds(3)
    assert snapshot.holds(2)


def test_half_the_space_decides_between_past_and_future() -> None:
    xmax = 3 * XID_SPACE
    snapshot = XidSnapshot(xmax, xmax, frozenset())
    assert snapshot.holds(XID_SPACE // 2)
    assert not snapshot.holds(XID_SPACE // 2 - 1)
