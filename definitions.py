"""The code location: every pipeline of the configuration database. Pipelines declared in code are given to the call."""

import dagster as dg

from rosetta_dagster import rosetta_definitions


@dg.definitions
def defs() -> dg.Definitions:
    return rosetta_definitions()
