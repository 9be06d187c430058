"""What a code location defines and writes, as its call of `rosetta_definitions` says."""

from collections.abc import Sequence
from dataclasses import dataclass

from rosetta_dagster.orchestration.declarations import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """The choices of a code location."""

    #: The pipelines that its code declares.
    pipelines: Sequence[Pipeline] = ()
    #: Patterns of the names of pipelines that only the configuration database has; None: all.
    include: Sequence[str] | None = None
    #: Whether it has the jobs that create, change and remove pipelines.
    administration: bool = True
    #: Whether it defines the source tables.
    source_assets: bool = True
    #: Whether its definitions sensor writes what its code declares.
    apply: bool = True
