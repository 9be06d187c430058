"""Detects, while the stream runs, tables that the patterns of its pipeline stand for."""

import time
from typing import Any

import psycopg

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.report import Reporter
from rosetta_dagster.cdc.run.source_watch import INSPECTION_INTERVAL
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.discovery import discover


class PatternWatch:
    """Reports what the patterns of a pipeline stand for, while it streams.

    Used by the thread that replicates. Owns one connection, from the first inspection until `close`.
    """

    def __init__(self, config: PipelineConfig, reporter: Reporter) -> None:
        self._config = config
        self._reporter = reporter
        self._inspected_at = time.monotonic()
        self._connection: psycopg.Connection[Any] | None = None

    def inspect_if_due(self) -> None:
        """Report the tables that match now, when the last time was long enough ago."""
        if not self._config.patterns or time.monotonic() - self._inspected_at < INSPECTION_INTERVAL:
            return
        self._inspected_at = time.monotonic()
        source = self._config.source.connection
        with source_errors(source):
            self._connection = self._connection or connect(source)
            self._reporter.discovered(discover(self._connection, self._config))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
