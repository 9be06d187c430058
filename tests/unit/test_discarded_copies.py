"""Which copies of a destination are forgotten, and which tables have missed changes, by the policy `on_gap`."""

import pytest

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.cdc.change.visibility import SnapshotPoint, XidSnapshot
from rosetta_dagster.cdc.config.pipeline import GapPolicy
from rosetta_dagster.cdc.destination.base import Held
from rosetta_dagster.cdc.run.discarded_copies import discarded_copies
from rosetta_dagster.cdc.table_id import TableId

KEPT, MISSED, REFUSED, LEFT, ASIDE = (TableId("public", name) for name in ("kept", "missed", "refused", "left", "aside"))
POINT = SnapshotPoint(Lsn(1), XidSnapshot.parse("1:1:"))
HELD = Held(
    watermark=None,
    copied=dict.fromkeys((KEPT, MISSED, REFUSED, LEFT, ASIDE), POINT),
    schemas={},
    set_aside={ASIDE: "It broke."},
)


@pytest.mark.parametrize(
    ("policy", "missed", "forgotten"),
    [
        # A refused table and one that left the pipeline are copied again when they are back.
        (GapPolicy.COPY, {MISSED, REFUSED, ASIDE}, {MISSED, REFUSED, ASIDE, LEFT}),
        # What is set aside already keeps its reason, and nothing of the pipeline is copied again without a resync.
        (GapPolicy.STOP_TABLE, {MISSED, REFUSED}, {LEFT}),
    ],
)
def test_copies_that_the_stream_cannot_continue(policy: GapPolicy, missed: set[TableId], forgotten: set[TableId]) -> None:
    discarded = discarded_copies(
        HELD,
        declared={KEPT, MISSED, REFUSED, ASIDE},
        replicated={KEPT, MISSED, ASIDE},
        refused={REFUSED: "it is unlogged"},
        missed={MISSED: "it was renamed", ASIDE: "it was dropped"},
        reselected=set(),
        policy=policy,
    )
    assert (missed, forgotten) == (set(discarded.missed), set(discarded.forgotten))


@pytest.mark.parametrize("policy", list(GapPolicy))
def test_a_table_of_which_not_all_rows_are_copied_is_set_aside_by_either_policy(policy: GapPolicy) -> None:
    """A copy would remove what the stream has brought, and not bring it back."""
    discarded = discarded_copies(
        HELD,
        declared={KEPT, MISSED, REFUSED, ASIDE},
        replicated={KEPT, MISSED, ASIDE},
        refused={REFUSED: "it is unlogged"},
        missed={MISSED: "other rows of it are published", ASIDE: "it was dropped"},
        reselected={MISSED},
        policy=policy,
        partly_copied={MISSED, REFUSED, LEFT, ASIDE},
    )
    assert ({MISSED, REFUSED}, {LEFT}) == (set(discarded.missed), set(discarded.forgotten))


@pytest.mark.parametrize("policy", list(GapPolicy))
def test_a_table_with_another_selection_is_copied_again_by_either_policy(policy: GapPolicy) -> None:
    discarded = discarded_copies(
        HELD,
        declared=HELD.copied.keys(),
        replicated=HELD.copied.keys(),
        refused={},
        missed={MISSED: "other rows of it are published"},
        reselected={MISSED},
        policy=policy,
    )
    assert {MISSED} == set(discarded.forgotten)


@pytest.mark.parametrize("policy", list(GapPolicy))
def test_a_paused_table_of_which_not_all_rows_are_copied_keeps_those_that_it_has(policy: GapPolicy) -> None:
    discarded = discarded_copies(
        HELD,
        declared={KEPT},
        replicated={KEPT},
        refused={},
        missed={},
        reselected=set(),
        policy=policy,
        suspended={LEFT},
    )
    assert {LEFT} == set(discarded.missed)
    assert LEFT not in discarded.forgotten


def test_a_table_whose_mask_lost_its_column_is_not_copied_again() -> None:
    discarded = discarded_copies(
        HELD,
        declared=HELD.copied.keys(),
        replicated=HELD.copied.keys(),
        refused={},
        missed={MISSED: "a masked column was renamed"},
        reselected=set(),
        exposed={MISSED},
        policy=GapPolicy.COPY,
    )
    assert ({MISSED}, set()) == (set(discarded.missed), set(discarded.forgotten))
