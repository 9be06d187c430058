"""How the command line prints what it found."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from rosetta_dagster.cdc.source.preflight import Finding
from rosetta_dagster.cdc.store.records import PipelineState

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def to_json(value: "DataclassInstance") -> dict[str, Any]:
    return asdict(value)


def print_states(states: Sequence[PipelineState]) -> None:
    """A line for each pipeline, and below it what is wrong."""
    table = Table("pipeline", "status", "run", "health", "lag", "WAL", "copied", "applied", "success", box=None)
    now = datetime.now(UTC)
    for state in states:
        table.add_row(
            state.name,
            state.status,
            state.run_status,
            state.health,
            "-" if state.lag_seconds is None else f"{state.lag_seconds:.2f} s",
            "-" if state.wal_size is None else f"{state.wal_size / 2**20:,.0f} MiB",
            f"{state.rows_copied:,}",
            f"{state.rows_applied:,}",
            "-" if state.last_success_time is None else f"{(now - state.last_success_time).total_seconds():.0f} s ago",
        )
    console = Console()
    console.print(table)
    for state in states:
        if state.last_error:
            console.print(f"{state.name}: {state.last_error}", markup=False, highlight=False, soft_wrap=True)


def finding_line(finding: Finding) -> str:
    return f"{finding.severity}: {finding}"
