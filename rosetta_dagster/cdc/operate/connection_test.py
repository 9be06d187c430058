"""Tests a pipeline's connections step by step, from the name of the host to a write. Nothing that it makes remains.

Steps come in the order in which a connection is made. After a step that fails, those that depend on it are skipped.
"""

import time
from collections.abc import Iterator, Sequence
from uuid import uuid4

import psycopg

from rosetta_dagster.cdc.config.pipeline import DestinationConfig, PipelineConfig, PostgresConnection, TableConfig
from rosetta_dagster.cdc.connection_steps import Outcome, Step, failed, has_failed, skipped
from rosetta_dagster.cdc.destination.registry import kind_of
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.postgres.steps import log_in_failure, network_steps, session_steps
from rosetta_dagster.cdc.source import connections
from rosetta_dagster.cdc.source.preflight import Severity, preflight
from rosetta_dagster.cdc.source.slots import create_slot

#: Seconds that a slot may take.
SLOT_TIMEOUT = 10.0


def run_connection_test(config: PipelineConfig) -> Iterator[Step]:
    """Yield each step when it is done: those of the source first, then those of each destination."""
    yield from _source_steps(config)
    for row in config.destinations:
        yield from _destination_steps(row, config.tables)


def _destination_steps(row: DestinationConfig, tables: Sequence[TableConfig]) -> Iterator[Step]:
    try:
        yield from kind_of(row.type, row.name).steps(row, tables)
    except RosettaError as error:
        yield failed(f"destination {row.name}", "config", error)


def _source_steps(config: PipelineConfig) -> Iterator[Step]:
    source, place = config.source.connection, f"source {config.source.name}"
    later = ("tls", "log-in", "pooler", "replication", "slot", "privileges")
    yield from (network := list(network_steps(place, source.host, source.port)))
    if has_failed(network):
        yield from skipped(place, later)
        return
    try:
        with connections.connect(source) as connection:
            yield from session_steps(place, connection)
    except RosettaError as error:
        yield (failure := log_in_failure(place, error))
        yield from skipped(place, [name for name in later[2:] if name != failure.name])
        return
    yield from _replication_steps(place, source)
    yield from _preflight_steps(place, config)


def _replication_steps(place: str, source: PostgresConnection) -> Iterator[Step]:
    name = f"rosetta_test_{uuid4().hex[:12]}"
    try:
        with connections.source_errors(source), connections.connect_for_replication(source) as replication:
            yield Step(place=place, name="replication", outcome=Outcome.OK, detail="a walsender answers")
            deadline = time.monotonic() + SLOT_TIMEOUT
            replication.is_unwanted = lambda: time.monotonic() > deadline
            try:
                replication.execute(create_slot(name, temporary=True, server_version=replication.info.server_version))
            except psycopg.errors.QueryCanceled:
                yield Step(
                    place=place, name="slot", outcome=Outcome.WARNING,
                    detail=f"A slot was not ready within {SLOT_TIMEOUT:.0f} s: the server waits for open transactions.",
                    remedy="End long transactions: SELECT pid, xact_start FROM pg_stat_activity ORDER BY xact_start",
                )  # fmt: skip
                return
            yield Step(place=place, name="slot", outcome=Outcome.OK, detail="a temporary slot was made")
    except RosettaError as error:
        yield failed(place, "replication", error)
        yield from skipped(place, ("slot",))


def _preflight_steps(place: str, config: PipelineConfig) -> Iterator[Step]:
    try:
        findings = preflight(config)
    except RosettaError as error:
        yield failed(place, "privileges", error)
        return
    for finding in findings:
        outcome = Outcome.FAILED if finding.severity is Severity.ERROR else Outcome.WARNING
        yield Step(place=place, name=finding.check, outcome=outcome, detail=finding.message, remedy=finding.remedy)
    if not findings:
        yield Step(place=place, name="privileges", outcome=Outcome.OK, detail=f"{len(config.tables)} tables can be read")
