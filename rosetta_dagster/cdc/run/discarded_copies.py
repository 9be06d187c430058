"""Decides which copies a destination forgets or sets aside, because the stream cannot continue them."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from rosetta_dagster.cdc.config.pipeline import GapPolicy
from rosetta_dagster.cdc.destination.base import Held
from rosetta_dagster.cdc.run.copy_budget import COPY_LIMIT
from rosetta_dagster.cdc.table_id import TableId

#: What is added to the reason why a table that was copied too often is set aside.
_TOO_OFTEN: Final = (
    f"; it was copied {COPY_LIMIT} times within an hour for that. Add a primary key, or run ALTER TABLE … REPLICA IDENTITY "
    "FULL at the source"
)

_SUSPENDED: Final = "it was paused while the pipeline ran, and a copy would empty it, since it began without all of its rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded:
    """Copies of one destination that the stream cannot continue."""

    #: Tables that may have missed changes, and why, as a clause.
    missed: Mapping[TableId, str]
    #: Tables whose copies are forgotten, so that they are copied again when the pipeline replicates them.
    forgotten: Collection[TableId]


def discarded_copies(
    held: Held,
    *,
    declared: AbstractSet[TableId],
    replicated: Collection[TableId],
    refused: Mapping[TableId, str],
    missed: Mapping[TableId, str],
    reselected: AbstractSet[TableId],
    policy: GapPolicy,
    exhausted: AbstractSet[TableId] = frozenset(),
    exposed: AbstractSet[TableId] = frozenset(),
    partly_copied: AbstractSet[TableId] = frozenset(),
    suspended: AbstractSet[TableId] = frozenset(),
) -> Discarded:
    """Return which copies are forgotten, and which tables missed changes: those are set aside if that is the policy.

    A table of which other rows or columns are selected is copied again whatever the policy is. Exhausted tables, which were
    copied too often, are set aside. So are exposed ones, whose copy would bring values without a mask, and those of which
    not all rows are copied: a copy would not bring the others. `suspended` are such tables that are paused.
    """
    # Tables that left the pipeline, or cannot be replicated, miss changes: they are copied again when they are back.
    not_replicated = held.copied.keys() - replicated - held.set_aside.keys()
    missed = {**missed, **{table: reason for table, reason in refused.items() if table in not_replicated}}
    missed |= dict.fromkeys(not_replicated & suspended, _SUSPENDED)
    not_replicated -= suspended
    if policy is GapPolicy.STOP_TABLE:
        missed = {table: reason for table, reason in missed.items() if table not in held.set_aside}
        left = not_replicated - declared
        return Discarded(missed=missed, forgotten=left | ((reselected - partly_copied) & missed.keys()))
    missed |= {table: f"{missed[table]}{_TOO_OFTEN}" for table in exhausted}
    missed = {table: reason for table, reason in missed.items() if table not in partly_copied & held.set_aside.keys()}
    kept = exhausted | exposed | suspended | (partly_copied & declared)
    return Discarded(missed=missed, forgotten=(not_replicated | missed.keys()) - kept)
