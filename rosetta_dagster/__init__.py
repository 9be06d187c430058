"""Change data capture for Dagster: PostgreSQL replicated to PostgreSQL and Snowflake, one run per pipeline.

`rosetta_dagster.cdc` is the engine and never imports Dagster; `rosetta_dagster.orchestration` is the Dagster face.
Nothing is exported here, so that importing the engine does not pay for importing Dagster.
"""

__version__ = "0.1.0"
