"""Wraps the parts of Dagster that Rosetta needs and that have no public API.

Definitions are generated from rows. A run has to see the rows that its definitions were generated from, without reading
the database (`shapes_for_this_process`). New rows have to become new definitions (`reload_code_location`). `LazyDefinitions`
is the type of a function that `dagster.definitions` decorates.
"""

from collections.abc import Callable, Sequence

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster.components.definitions import LazyDefinitions
from pydantic import TypeAdapter

from rosetta_dagster.cdc.store.records import PipelineShape

__all__ = ["LazyDefinitions", "location_name", "reload_code_location", "serialized", "shapes_for_this_process"]

#: Key of the rows in the metadata of a run's execution plan. They hold no secret.
_METADATA_KEY = "rosetta/pipelines"

_SHAPES: TypeAdapter[list[PipelineShape]] = TypeAdapter(list[PipelineShape])

#: Seconds that a reload may take.
_RELOAD_TIMEOUT = 60


def shapes_for_this_process(read: Callable[[], list[PipelineShape]]) -> list[PipelineShape]:
    """Return the pipelines that the definitions of this process are generated from.

    In a run's process they come from the run's execution plan. Elsewhere `read` returns them; they are kept for the runs.
    """
    context = DefinitionsLoadContext.get()
    if context.load_type is DefinitionsLoadType.RECONSTRUCTION and _METADATA_KEY in context.reconstruction_metadata:
        return _SHAPES.validate_json(context.reconstruction_metadata[_METADATA_KEY])
    shapes = read()
    if context.load_type is DefinitionsLoadType.INITIALIZATION:
        context.add_to_pending_reconstruction_metadata(_METADATA_KEY, serialized(shapes))
    return shapes


def serialized(shapes: Sequence[PipelineShape]) -> str:
    return _SHAPES.dump_json(list(shapes)).decode()


def location_name(context: dg.SensorEvaluationContext) -> str | None:
    """Return the name of the sensor's code location; None outside of Dagster's daemon."""
    origin = context.code_location_origin
    return None if origin is None else origin.location_name


def reload_code_location(context: dg.SensorEvaluationContext) -> None:
    """Make the sensor's code server load its definitions again. Runs continue with the old ones."""
    origin = context.code_location_origin
    if origin is not None:
        origin.create_client().reload_code(timeout=_RELOAD_TIMEOUT)  # type: ignore[attr-defined]
