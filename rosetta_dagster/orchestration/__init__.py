"""The Dagster face: pipelines as jobs, assets, checks and sensors. It uses the engine's public names only."""

from dagster_shared.libraries import DagsterLibraryRegistry

from rosetta_dagster import __version__
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.orchestration.automation import on_table_change
from rosetta_dagster.orchestration.builder import build_rosetta_asset_specs, rosetta_definitions
from rosetta_dagster.orchestration.component import RosettaPipelineComponent
from rosetta_dagster.orchestration.declarations import Pipeline, Table
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource, SnowflakeDestination
from rosetta_dagster.orchestration.translator import DestinationTable, RosettaTranslator, SourceTable, Stream

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
    "build_rosetta_asset_specs",
    "on_table_change",
    "rosetta_definitions",
]

DagsterLibraryRegistry.register("rosetta-dagster", __version__, is_dagster_package=False)
