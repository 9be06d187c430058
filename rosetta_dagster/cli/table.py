"""`rosetta table`: adds tables to a pipeline, takes them out, pauses them, and copies them again."""

from typing import Annotated, Any

import typer

from rosetta_dagster.cdc.config.pipeline import Status, TableOptions, checked
from rosetta_dagster.cdc.reconcile.backfill import Backfill, backfill
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import Target, add_table
from rosetta_dagster.cdc.store.inventory import remove_table
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.names import PipelineName
from rosetta_dagster.cli.options import checked_options, with_options
from rosetta_dagster.cli.output import Json, print_json, to_json
from rosetta_dagster.settings import open_store

table = typer.Typer(no_args_is_help=True, help="Tables of a pipeline.")

Tables = Annotated[
    list[str], typer.Argument(help="Tables, as namespace.name, or patterns such as 'shop.*'; a name alone is of public.")
]


@table.command(name="add")
@with_options(TableOptions)
def add(
    pipeline: PipelineName,
    tables: Tables,
    *,
    target_schema: Annotated[str | None, typer.Option(help="Schema at the destinations; as usual unless given.")] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Add tables. A running pipeline copies them at once, a paused one when it starts."""
    table_options = checked(TableOptions, options, f"Pipeline {pipeline}", "Correct the option.")
    table_options = checked_options(TableOptions, options, f"Table {', '.join(tables)}")
    with open_store() as store:
        for each in _parsed(tables):
            add_table(store, pipeline, each, Target(target_schema, None), table_options)
        _report(store, pipeline, "added", tables, f"copied {_when(store, pipeline)}", as_json=as_json)


@table.command(name="rm")
def remove(pipeline: PipelineName, tables: Tables, *, as_json: Json = False) -> None:
    """Take tables out of a pipeline. Their replicas stay, and are no longer updated."""
    with open_store() as store:
        for each in _parsed(tables):
            remove_table(store, pipeline, each)
        _report(store, pipeline, "removed", tables, "the replicas stay", as_json=as_json)


@table.command(name="resync")
def resync(pipeline: PipelineName, tables: Tables, *, as_json: Json = False) -> None:
    """Copy tables again, while the others of the pipeline go on."""
    with open_store() as store:
        for each in _parsed(tables):
            store.ask_resync(pipeline, each)
        partly = {each.id for each in store.table_configs(store.state(pipeline).id) if each.copied_rows is not None}
        again = "emptied, and begun again as initial and copy_where say," if partly & {*_parsed(tables)} else "copied again"
        _report(store, pipeline, "to resync", tables, f"{again} {_when(store, pipeline)}", as_json=as_json)


@table.command(name="backfill")
def backfill_table(
    pipeline: PipelineName,
    name: Annotated[str, typer.Argument(help="The table, as namespace.name; a name alone is of public.")],
    *,
    where: Annotated[str, typer.Option(help='Condition of the rows to bring, such as "id BETWEEN 1 AND 5000".')],
    as_json: Json = False,
) -> None:
    """Bring rows with a condition while the pipeline streams.

    Those that are missing at a destination, or differ there, are written. Ctrl-C ends it. What was brought stays, and the
    same command continues.
    """
    with open_store() as store:
        for done in backfill(store, pipeline, TableId.parse(name), where):
            if as_json and done.is_complete:
                print_json({**to_json(done), "table": str(done.table)})
            elif not as_json:
                typer.echo(backfill_line(done))


def backfill_line(done: Backfill) -> str:
    """Format how far a backfill is."""
    in_flight = f", {done.in_flight_count:,} left to the stream" if done.in_flight_count else ""
    end = "; complete" if done.is_complete else ""
    return (
        f"{done.table} at {done.destination}: {done.read_count:,} rows read, {done.brought_count:,} brought{in_flight}{end}"
    )


@table.command(name="pause")
def pause(pipeline: PipelineName, tables: Tables, *, as_json: Json = False) -> None:
    """Stop replicating tables. The others of the pipeline go on."""
    _set_paused(pipeline, tables, as_json=as_json, paused=True)


@table.command(name="resume")
def resume(pipeline: PipelineName, tables: Tables, *, as_json: Json = False) -> None:
    """Replicate tables again that are paused. Those that a run has gone on without are copied again."""
    _set_paused(pipeline, tables, as_json=as_json, paused=False)


def _set_paused(pipeline: str, tables: list[str], *, as_json: bool, paused: bool) -> None:
    with open_store() as store:
        for each in _parsed(tables):
            store.pause_table(pipeline, each, paused=paused)
        outcome = "not replicated from now on" if paused else f"replicated again {_when(store, pipeline)}"
        _report(store, pipeline, "paused" if paused else "resumed", tables, outcome, as_json=as_json)


def _parsed(tables: list[str]) -> list[TableId]:
    return [TableId.parse(text) for text in tables]


def _when(store: Store, pipeline: str) -> str:
    return f"when it starts: rosetta start {pipeline}" if store.status(pipeline) is Status.PAUSE else "now"


def _report(store: Store, pipeline: str, action: str, tables: list[str], outcome: str, *, as_json: bool) -> None:
    names = [str(each) for each in _parsed(tables)]
    if as_json:
        status = store.status(pipeline)
        print_json({"pipeline": pipeline, "action": action, "tables": names, "status": status})
        return
    typer.echo("\n".join(f"{action} {name} of {pipeline}: {outcome}" for name in names))
