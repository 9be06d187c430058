"""`rosetta status`: pipelines and their tables now, once or until Ctrl-C."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import typer

from rosetta_dagster.cdc.operate.status import PipelineStatus, is_failing, rates, read_status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cli.names import OptionalPipelineName
from rosetta_dagster.cli.output import (
    Json,
    explanation_lines,
    lines_of,
    pipeline_row,
    print_json,
    skipped_lines,
    status_json,
    table_row,
    terminal_width,
)
from rosetta_dagster.settings import open_store

#: Seconds between two readings of --watch. A run reports its progress every two seconds.
INTERVAL = 2.0

#: Clears the screen and puts the cursor at its top.
_CLEAR = "\x1b[2J\x1b[H"


def status(
    name: OptionalPipelineName = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, with rates, until Ctrl-C.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a pipeline is in error, for scripts.")] = False,
    as_json: Json = False,
) -> None:
    """Show pipelines: status, health, lag, tables and errors."""
    with open_store() as store:
        if watch:
            with suppress(KeyboardInterrupt):
                _watch(store, name)
            return
        statuses = read_status(store, name)
    if as_json:
        print_json([status_json(each) for each in statuses])
    else:
        typer.echo("\n".join(status_lines(statuses, terminal_width(), with_tables=name is not None)))
    if check and is_failing(statuses):
        raise typer.Exit(1)


def status_lines(statuses: Sequence[PipelineStatus], width: int, *, with_tables: bool) -> list[str]:
    """Format pipelines, what an operator has to know of them, and their tables."""
    if not statuses:
        return ["No pipelines. Add one with: rosetta pipeline add"]
    lines = lines_of([pipeline_row(status) for status in statuses], width)
    if explanations := explanation_lines(statuses):
        lines += ["", *explanations]
    for status in statuses if with_tables else ():
        lines += [
            "",
            *(lines_of([table_row(record) for record in status.tables], width) if status.tables else ["No tables."]),
            *skipped_lines(status),
        ]
    return lines


def _watch(store: Store, name: str | None) -> None:
    before, read_at = read_status(store, name), time.monotonic()
    while True:
        time.sleep(INTERVAL)
        statuses, now = read_status(store, name), time.monotonic()
        found = rates(before, statuses, now - read_at)
        shown = [replace(status, rate=found.get(status.state.name)) for status in statuses]
        lines = status_lines(shown, terminal_width(), with_tables=name is not None)
        typer.echo(_CLEAR + "\n".join(lines) + "\n\nCtrl-C ends this view.")
        before, read_at = statuses, now
