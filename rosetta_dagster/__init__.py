"""Change data capture for Dagster: PostgreSQL replicated to PostgreSQL and Snowflake, one run per pipeline.

The public names are those listed here, and those of `rosetta_dagster.testing`. Anything else may change with any version.
Each name is loaded at its first use, so that importing the engine does not pay for importing Dagster.

`rosetta_dagster.cdc` is the engine and never imports Dagster; `rosetta_dagster.orchestration` is the Dagster face.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosetta_dagster.orchestration import (
        DestinationTable,
        Pipeline,
        PostgresDestination,
        PostgresSource,
        RosettaPipelineComponent,
        RosettaTranslator,
        SnowflakeDestination,
        SourceTable,
        Stream,
        Table,
        Thresholds,
        build_rosetta_asset_specs,
        on_table_change,
        rosetta_definitions,
    )

#: The version of the package: its metadata is built from this line.
__version__ = "0.1.0"

__all__ = [
    "DestinationTable",
    "Pipeline",
    "PostgresDestination",
    "PostgresSource",
    "RosettaPipelineComponent",
    "RosettaTranslator",
    "SnowflakeDestination",
    "SourceTable",
    "Stream",
    "Table",
    "Thresholds",
    "__version__",
    "build_rosetta_asset_specs",
    "on_table_change",
    "rosetta_definitions",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("rosetta_dagster.orchestration"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
