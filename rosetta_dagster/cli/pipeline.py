"""The commands `list`, `show` and `rm` of pipelines, and `drop`."""

from typing import Annotated

import typer

from rosetta_dagster.cdc.operate.drop import drop_pipeline, removal
from rosetta_dagster.cdc.operate.status import PipelineStatus, read_status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.cli.add import pipeline
from rosetta_dagster.cli.names import PipelineName
from rosetta_dagster.cli.output import Json, print_json, print_rows, skipped_lines, status_json, table_row
from rosetta_dagster.settings import open_store

__all__ = ["drop", "pipeline"]


@pipeline.command(name="list")
def list_pipelines(*, as_json: Json = False) -> None:
    """List the pipelines: what each replicates from where to where."""
    with open_store() as store:
        statuses, shapes = read_status(store), _shapes(store)
    if as_json:
        print_json([status_json(status) for status in statuses])
        return
    rows = [
        {
            "name": status.state.name,
            "source": status.state.source,
            "destinations": ", ".join(status.state.destinations),
            "tables": status.state.table_count,
            "engine": shapes[status.state.name].engine,
            "status": status.state.status,
            "health": status.state.health,
        }
        for status in statuses
        if status.state.name in shapes
    ]
    print_rows(rows, empty="No pipelines. Add one with: rosetta pipeline add")


@pipeline.command(name="show")
def show_pipeline(name: PipelineName, *, as_json: Json = False) -> None:
    """Show a pipeline: what it replicates, and how it is."""
    with open_store() as store:
        (status,), shape = read_status(store, name), store.shape(name)
    if as_json:
        print_json({**status_json(status), "engine": shape.engine})
        return
    fields = _fields(status, shape)
    longest = max(map(len, fields))
    typer.echo("\n".join(f"{field.ljust(longest)}  {value}" for field, value in fields.items() if value) + "\n")
    print_rows([table_row(record) for record in status.tables], empty="No tables.")
    for line in skipped_lines(status):
        typer.echo(line)


def drop(
    name: PipelineName,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this, show what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a paused pipeline with its slot and publication. Its tables at the destinations stay."""
    with open_store() as store:
        found = drop_pipeline(store, name) if yes else removal(store, name)
    if as_json:
        print_json({"removed": yes, "parts": found.lines(), "left": found.left_lines()})
        return
    lines = [f"removed{':' if yes else ' by --yes, nothing yet:'}", *(f"  {line}" for line in found.lines())]
    if left := found.left_lines():
        lines += ["left:", *(f"  {line}" for line in left)]
    typer.echo("\n".join(lines))


pipeline.command(name="rm")(drop)


def _fields(status: PipelineStatus, shape: PipelineShape) -> dict[str, object]:
    state, source = status.state, shape.source
    return {
        "name": state.name,
        "source": f"{state.source} ({source.username}@{source.host}:{source.port}/{source.database})",
        "destinations": ", ".join(f"{each.name} ({each.type})" for each in shape.destinations),
        "engine": shape.engine,
        "status": state.status,
        "run": state.run_status,
        "health": state.health,
        "problem": status.explanation,
    }


def _shapes(store: Store) -> dict[str, PipelineShape]:
    return {shape.name: shape for shape in store.shapes()}
