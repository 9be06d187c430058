"""The commands `list`, `show` and `rm` of sources and destinations, and `rosetta source tables`."""

from typing import Annotated

import typer

from rosetta_dagster.cdc.destination.registry import place_of
from rosetta_dagster.cdc.operate.source_tables import SourceTable, source_tables
from rosetta_dagster.cdc.store.inventory import End, connection_named, connections, delete_connection
from rosetta_dagster.cli.add import destination_commands, source
from rosetta_dagster.cli.edit import add_edit_commands
from rosetta_dagster.cli.names import DestinationName, SourceName
from rosetta_dagster.cli.output import Row, byte_text, print_json, print_rows, to_json
from rosetta_dagster.settings import open_store

__all__ = ["destination", "source"]

destination = destination_commands()
add_edit_commands(destination)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@source.command(name="list")
def list_sources(*, as_json: Json = False) -> None:
    """List the sources."""
    _list("source", as_json=as_json)


@destination.command(name="list")
def list_destinations(*, as_json: Json = False) -> None:
    """List the destinations."""
    _list("destination", as_json=as_json)


@source.command(name="show")
def show_source(name: SourceName, *, as_json: Json = False) -> None:
    """Show a source, without its password."""
    _show("source", name, as_json=as_json)


@destination.command(name="show")
def show_destination(name: DestinationName, *, as_json: Json = False) -> None:
    """Show a destination, without its secrets."""
    _show("destination", name, as_json=as_json)


@source.command(name="rm")
def remove_source(name: SourceName, *, yes: Yes = False) -> None:
    """Delete a source that no pipeline uses. Nothing is changed at its server."""
    _remove("source", name, yes=yes)


@destination.command(name="rm")
def remove_destination(name: DestinationName, *, yes: Yes = False) -> None:
    """Delete a destination that no pipeline uses. Nothing is changed at its server."""
    _remove("destination", name, yes=yes)


@source.command(name="tables")
def list_source_tables(name: SourceName, *, as_json: Json = False) -> None:
    """List the tables of a source, and which can be replicated."""
    with open_store() as store:
        found = source_tables(store.source(name))
    if as_json:
        print_json([{**to_json(table), "id": str(table.id)} for table in found])
    else:
        print_rows([_table_row(table) for table in found], empty=f"Source {name} has no tables.")


def _table_row(table: SourceTable) -> Row:
    return {
        "table": table.id,
        "rows": None if table.row_count is None else f"~{table.row_count:,}",
        "size": byte_text(table.byte_count),
        "key": ", ".join(table.key),
        "replicable": "yes" if table.is_replicable else "no",
        "remark": table.remark,
    }


def _list(end: End, *, as_json: bool) -> None:
    with open_store() as store:
        found = connections(store, end)
    if as_json:
        print_json([to_json(connection) for connection in found])
    else:
        rows = [
            {
                "name": each.name,
                "type": each.type,
                "place": place_of(each.type, each.settings),
                "pipelines": ", ".join(each.pipelines),
            }
            for each in found
        ]
        print_rows(rows, empty=f"No {end}s. Add one with: rosetta {end} add")


def _show(end: End, name: str, *, as_json: bool) -> None:
    with open_store() as store:
        found = connection_named(store, end, name)
    if as_json:
        print_json(to_json(found))
        return
    fields = {"name": found.name, "type": found.type, **found.settings, **dict.fromkeys(found.secrets, "(set)")}
    fields["pipelines"] = ", ".join(found.pipelines) or "-"
    longest = max(map(len, fields))
    typer.echo("\n".join(f"{field.ljust(longest)}  {value}" for field, value in fields.items()))


def _remove(end: End, name: str, *, yes: bool) -> None:
    with open_store() as store:
        connection_named(store, end, name)
        if not yes:
            typer.confirm(f"Delete {end} {name}?", abort=True)
        delete_connection(store, end, name)
    typer.echo(f"deleted {end} {name}")
