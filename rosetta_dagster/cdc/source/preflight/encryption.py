"""Decides whether rows pass a network in clear: from the source as it is connected, to destinations as their rows say."""

from typing import Any

import psycopg

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.config.places import is_loopback
from rosetta_dagster.cdc.postgres.connections import is_exposed
from rosetta_dagster.cdc.source.preflight.finding import Check, Finding, warning

#: The modes under which libpq does not begin with TLS.
_CLEAR_MODES = ("disable", "allow")

_REMEDY = "Set sslmode to verify-full, or to require where the certificate cannot be verified."


def about_encryption(connection: "psycopg.Connection[Any]", config: PipelineConfig) -> list[Finding]:
    """Return a warning for each connection that is not encrypted, to a host other than this machine."""
    return [warning(Check.ENCRYPTION, message, _REMEDY) for message in exposures(connection, config)]


def exposures(connection: "psycopg.Connection[Any]", config: PipelineConfig) -> list[str]:
    """Return a sentence for each connection that is not encrypted, to a host other than this machine."""
    exposed = [f"source {config.source.name} at {config.source.connection.host}"] if is_exposed(connection) else []
    exposed += [
        f"destination {row.name} at {row.config.get('host')}"
        for row in config.destinations
        if row.config.get("sslmode") in _CLEAR_MODES and not is_loopback(str(row.config.get("host", "")))
    ]
    return [f"The connection to {place} is not encrypted." for place in exposed]
