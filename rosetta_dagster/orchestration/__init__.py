"""The Dagster face: pipelines as jobs, assets, checks and sensors. It uses the engine's public names only."""

from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.orchestration.automation import on_table_change
from rosetta_dagster.orchestration.builder import rosetta_definitions
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
    "on_table_change",
    "rosetta_definitions",
]
