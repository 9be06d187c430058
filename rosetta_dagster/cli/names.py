"""Arguments that name a row, which the shell completes."""

from collections.abc import Callable
from typing import Annotated

import typer

from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.inventory import connections
from rosetta_dagster.settings import configured_store


def _completed(names: Callable[[Store], list[str]]) -> Callable[[str], list[str]]:
    """Return a completion of names. Where the rows cannot be read, nothing is completed and nothing is said."""

    def complete(incomplete: str) -> list[str]:
        try:
            with configured_store() as store:
                return [name for name in names(store) if name.startswith(incomplete)]
        except RosettaError:
            return []

    return complete


_PIPELINES = _completed(lambda store: [state.name for state in store.states()])
_SOURCES = _completed(lambda store: [each.name for each in connections(store, "source")])
_DESTINATIONS = _completed(lambda store: [each.name for each in connections(store, "destination")])

PipelineName = Annotated[str, typer.Argument(help="Name of the pipeline.", autocompletion=_PIPELINES)]
SourceName = Annotated[str, typer.Argument(help="Name of the source.", autocompletion=_SOURCES)]
DestinationName = Annotated[str, typer.Argument(help="Name of the destination.", autocompletion=_DESTINATIONS)]
OptionalPipelineName = Annotated[
    str | None,
    typer.Argument(help="Name of one pipeline; it is shown with its tables.", autocompletion=_PIPELINES),
]
