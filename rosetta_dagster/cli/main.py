"""The command `rosetta`. Prints a failure as one line with its remedy, and exits with 1."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rosetta_dagster import __version__
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.operate.resync import resync
from rosetta_dagster.cdc.operate.status import read_status
from rosetta_dagster.cdc.source.preflight import Severity, preflight
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.alerts import alerts
from rosetta_dagster.cli.doctor import doctor
from rosetta_dagster.cli.ends import destination, source
from rosetta_dagster.cli.export import YAML, apply, export, planned_by, print_differences
from rosetta_dagster.cli.grants import grants_command
from rosetta_dagster.cli.keys import keys
from rosetta_dagster.cli.logs import logs
from rosetta_dagster.cli.metrics import serve_metrics
from rosetta_dagster.cli.names import PipelineName
from rosetta_dagster.cli.output import (
    explanation_lines,
    finding_line,
    pipeline_row,
    print_json,
    print_rows,
    status_json,
    to_json,
)
from rosetta_dagster.cli.pipeline import drop, pipeline
from rosetta_dagster.cli.reconcile import reconcile_command
from rosetta_dagster.cli.secrets import secrets
from rosetta_dagster.cli.status import status
from rosetta_dagster.cli.table import table
from rosetta_dagster.cli.test import connections_command
from rosetta_dagster.settings import configured_store, open_store, read_settings

app = typer.Typer(
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    # Plain text: no boxes that a narrow terminal breaks, and no colours in a pipe.
    rich_markup_mode=None,
    help="Change data capture from PostgreSQL, under Dagster.",
)
app.add_typer(source, name="source")
app.add_typer(destination, name="destination")
app.add_typer(pipeline, name="pipeline")
app.add_typer(table, name="table")
app.add_typer(keys, name="keys")
app.add_typer(secrets, name="secrets")
app.add_typer(alerts, name="alerts")

app.command()(status)
app.command(name="test")(connections_command)
app.command()(drop)
app.command()(logs)
app.command(name="grants")(grants_command)
app.command(name="reconcile")(reconcile_command)
app.command()(export)
app.command()(apply)
app.command()(doctor)
app.command()(serve_metrics)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@app.callback()
def rosetta(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Change data capture from PostgreSQL, under Dagster."""
    if version:
        typer.echo(f"rosetta {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; the entry point."""
    try:
        app(prog_name="rosetta")
    except RosettaError as error:
        if _wants_traces():
            raise
        typer.echo(f"rosetta: {error}", err=True)
        sys.exit(1)


@app.command()
def demo(
    check: Annotated[bool, typer.Option("--check", help="Run a pipeline through its life, print figures, and end.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of Dagster's UI; a free one unless given.")] = None,
    postgres_port: Annotated[int | None, typer.Option(help="Port of PostgreSQL; a free one unless given.")] = None,
) -> None:
    """Replicate a small shop to a warehouse, on embedded parts."""
    # Production does without the demo's parts, and they are slow to load.
    from rosetta_dagster.demo.environment import DemoFailed
    from rosetta_dagster.embedded.binaries import EmbeddedPostgresError

    try:
        if not check:
            from rosetta_dagster.demo.watch import watch

            watch(port=port, postgres_port=postgres_port)
            return
        from rosetta_dagster.demo.check import check as run_check

        if not run_check(port=port, postgres_port=postgres_port):
            raise typer.Exit(1)
    except (DemoFailed, EmbeddedPostgresError) as error:
        typer.echo(f"rosetta: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def migrate(
    seed: Annotated[bool, typer.Option("--seed", help="Apply the sample data, too.")] = False,
) -> None:
    """Apply the missing migrations to the configuration database."""
    with configured_store() as store:
        applied = store.migrate(seed=seed)
    typer.echo("\n".join(f"applied {name}" for name in applied) or "The configuration database is up to date.")


@app.command()
def pipelines(*, as_json: Json = False) -> None:
    """List the pipelines with status, health and lag. Says what is wrong."""
    with open_store() as store:
        statuses = read_status(store)
    if as_json:
        print_json([status_json(each) for each in statuses])
        return
    print_rows([pipeline_row(each) for each in statuses], empty="No pipelines. Add one with: rosetta pipeline add")
    for line in explanation_lines(statuses):
        typer.echo(line)


@app.command()
def start(name: PipelineName) -> None:
    """Start the pipeline."""
    _set_status(name, Status.START)


@app.command()
def pause(name: PipelineName) -> None:
    """Stop the pipeline. When it is started again, it continues from there."""
    _set_status(name, Status.PAUSE)


@app.command()
def refresh(name: PipelineName) -> None:
    """Restart the pipeline's run."""
    _set_status(name, Status.REFRESH)


@app.command(name="resync")
def resync_command(
    name: PipelineName,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table, as namespace.name, while the others go on.")
    ] = None,
) -> None:
    """Copy tables again.

    All tables of a paused pipeline at its next start, or single ones while it runs.
    """
    if table:
        _resync_tables(name, [TableId.parse(text) for text in table])
        return
    with open_store() as store:
        config = resync(store, name)
    typer.echo(f"{len(config.tables)} tables of {name} are copied again when it starts: rosetta start {name}")


@app.command()
def plan(
    target: Annotated[
        str, typer.Argument(help="A file or module with Dagster definitions, or a YAML file for `rosetta apply`.")
    ] = "definitions.py",
    *,
    location: Annotated[
        str | None, typer.Option(help="Name of the code location. Default: the one that declared these pipelines last.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what code or a YAML file would change. Nothing is changed."""
    if target.endswith(YAML):
        none = "Nothing to change: the rows are as the file says."
        print_differences(planned_by(Path(target)), none, as_json=as_json)
        return
    # Dagster takes a second to load.
    from rosetta_dagster.cli.plan import planned

    none = "Nothing to change: the rows are as the code declares them."
    print_differences(planned(target, location), none, as_json=as_json)


@app.command()
def check(name: PipelineName, *, as_json: Json = False) -> None:
    """Check that the pipeline's source is ready. Nothing is changed."""
    with open_store() as store:
        findings = preflight(store.pipeline(name))
    if as_json:
        print_json([to_json(finding) for finding in findings])
    else:
        typer.echo("\n".join(map(finding_line, findings)) or f"{name} is ready.")
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(1)


def _resync_tables(name: str, tables: Sequence[TableId]) -> None:
    with open_store() as store:
        for table in tables:
            store.ask_resync(name, table)
            typer.echo(f"{table} of {name} is copied again as soon as the pipeline runs.")


def _wants_traces() -> bool:
    try:
        return read_settings().debug
    except RosettaError:
        # The caller reports that the environment is wrong.
        return False


def _set_status(name: str, status: Status) -> None:
    with open_store() as store:
        store.set_status(name, status)
    typer.echo(f"{name}: {status}")
