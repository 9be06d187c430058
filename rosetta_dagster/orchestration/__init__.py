"""The Dagster face: pipelines as jobs, assets, checks and sensors. It runs the engine and knows none of its insides."""

from rosetta_dagster.orchestration.builder import rosetta_definitions
from rosetta_dagster.orchestration.declarations import Pipeline
from rosetta_dagster.orchestration.resources import PostgresDestination, PostgresSource

__all__ = ["Pipeline", "PostgresDestination", "PostgresSource", "rosetta_definitions"]
