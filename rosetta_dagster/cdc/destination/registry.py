"""Which kind of destination is made by which folder. A third kind is one folder and one line here."""

from collections.abc import Callable
from importlib import import_module

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig
from rosetta_dagster.cdc.destination.base import Destination
from rosetta_dagster.cdc.errors import ConfigurationError

#: Modules are named, not imported: a driver is loaded only by those who use it.
_FACTORIES = {
    "POSTGRES": "rosetta_dagster.cdc.destination.postgres.factory",
    "SNOWFLAKE": "rosetta_dagster.cdc.destination.snowflake.factory",
}


def make_destination(config: DestinationConfig, pipeline: PipelineConfig) -> Destination:
    """The destination of the pipeline, not connected yet."""
    module = _FACTORIES.get(config.type)
    if module is None:
        raise ConfigurationError(
            f"Destination {config.name} is of type {config.type}, which this version of Rosetta cannot write to.",
            f"Use one of: {', '.join(sorted(_FACTORIES))}.",
        )
    make: Callable[[DestinationConfig, PipelineConfig], Destination] = import_module(module).make
    return make(config, pipeline)
