"""What Rosetta needs of Dagster and has no public API, each behind one name.

Definitions are generated from rows. So a run must see the rows that its definitions were made of, without the database
(`shapes_for_this_process`), and new rows must make new definitions (`reload_code_location`). `AssetJob` is the type of what
the public `define_asset_job` returns, `LazyDefinitions` that of what `dagster.definitions` decorates.
"""

from collections.abc import Callable, Sequence

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition as AssetJob
from dagster.components.definitions import LazyDefinitions
from pydantic import TypeAdapter

from rosetta_dagster.cdc.store.records import PipelineShape

__all__ = ["AssetJob", "LazyDefinitions", "location_name", "reload_code_location", "serialized", "shapes_for_this_process"]

#: Where the rows are kept with a run's execution plan. They hold no secret.
_METADATA_KEY = "rosetta/pipelines"

_SHAPES: TypeAdapter[list[PipelineShape]] = TypeAdapter(list[PipelineShape])

#: How long a reload may take, in seconds.
_RELOAD_TIMEOUT = 60


def shapes_for_this_process(read: Callable[[], list[PipelineShape]]) -> list[PipelineShape]:
    """In the process of a run the shapes that the run was made of; elsewhere what `read` returns, kept for the runs."""
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
    """The name of the code location that this sensor is of; None outside Dagster's daemon."""
    origin = context.code_location_origin
    return None if origin is None else origin.location_name


def reload_code_location(context: dg.SensorEvaluationContext) -> None:
    """Let the code server that this sensor is of load its definitions anew. Runs go on in the old one."""
    origin = context.code_location_origin
    if origin is not None:
        origin.create_client().reload_code(timeout=_RELOAD_TIMEOUT)  # type: ignore[attr-defined]
