"""Tests whether a source is ready to be replicated; each finding is a fact with a remedy, and nothing is changed.

It knows the source's catalog and what an engine cannot read. What follows from a finding is the run's to decide.
"""

from rosetta_dagster.cdc.source.preflight.beginning import condition_error
from rosetta_dagster.cdc.source.preflight.check import preflight, raise_findings
from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, Severity

__all__ = ["Check", "Finding", "Severity", "condition_error", "preflight", "raise_findings"]
