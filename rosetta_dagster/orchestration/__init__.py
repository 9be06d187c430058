"""The Dagster face: pipelines as jobs, assets, checks and sensors. It runs the engine and knows none of its insides."""

from rosetta_dagster.orchestration.builder import rosetta_definitions
from rosetta_dagster.orchestration.component import RosettaPipelineComponent
from rosetta_dagster.orchestration.declarations import Pipeline, Table
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource

__all__ = ["Pipeline", "PostgresDestination", "PostgresSource", "RosettaPipelineComponent", "Table", "rosetta_definitions"]
