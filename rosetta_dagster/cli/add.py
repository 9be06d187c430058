"""The commands that add rows to the configuration database. Their options come from the declared settings."""

from typing import Annotated, Any, Final

import typer

from rosetta_dagster.cdc.config.pipeline import (
    PipelineOptions,
    PostgresConnection,
    SourceOptions,
    SourceSettings,
    TableOptions,
)
from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    put_destination,
    put_pipeline,
    put_source,
    refuse_existing,
)
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.options import checked_options, given, with_options
from rosetta_dagster.settings import open_store

source = typer.Typer(no_args_is_help=True, help="Databases that changes are captured from.")
pipeline = typer.Typer(no_args_is_help=True, help="What is replicated from where to where.")

Name = Annotated[str, typer.Argument(help="Name of the new row.")]

#: The options of a source whose names differ from those of its settings.
SOURCE_FLAGS: Final = {"publication_name": "--publication", "replication_name": "--slot"}


@source.command(name="add")
@with_options(SourceSettings, SOURCE_FLAGS)
def add_source(name: Name, **options: Any) -> None:
    """Add a source."""
    settings = checked_options(SourceSettings, given(SourceSettings, options), f"Source {name}", SOURCE_FLAGS)
    with open_store() as store:
        refuse_existing(store, "source", name)
        more = {field: getattr(settings, field) for field in SourceOptions.model_fields}
        put_source(store, DeclaredSource(name=name, connection=settings.connection, **more))
    typer.echo(f"added source {name}; see its tables with: rosetta source tables {name}")
    warn_if_unreachable(name, settings.connection)


def warn_if_unreachable(name: str, connection: PostgresConnection) -> None:
    """Warn when no session can be opened. The row stays: the workers may reach what this machine does not."""
    try:
        with source_errors(connection), connect(connection):
            pass
    except RosettaError as error:
        typer.echo(f"rosetta: {error} To change the source: rosetta source edit {name}", err=True)


def destination_commands() -> typer.Typer:
    """Return the commands that add destinations: one for each kind. `add` is that of the first kind, too."""
    group = typer.Typer(no_args_is_help=True, help="Databases that changes are applied to.")
    for number, kind in enumerate(kinds()):
        command = _add_destination(kind)
        group.command(name=f"add-{kind.type.lower()}", hidden=number == 0)(command)
        if number == 0:
            group.command(name="add")(command)
    return group


def _add_destination(kind: DestinationKind) -> Any:
    @with_options(kind.settings)
    def add_destination(name: Name, **options: Any) -> None:
        config = given(kind.settings, options)
        # A variable of the workers need not be set here.
        if any(key.endswith("_env") for key in config):
            kind.checked(name, config)
        else:
            kind.describe(name, config)
        with open_store() as store:
            refuse_existing(store, "destination", name)
            put_destination(store, DeclaredDestination(name=name, type=kind.type, config=config))
        typer.echo(f"added destination {name}")

    add_destination.__doc__ = (
        f"Add a {kind.title} destination. The settings and the key are verified, the server is not reached."
    )
    return add_destination


@pipeline.command(name="add")
@with_options(PipelineOptions)
@with_options(TableOptions)
def add_pipeline(
    name: Name,
    *,
    source_name: Annotated[str, typer.Option("--source", help="Name of the source.")],
    destination_names: Annotated[list[str], typer.Option("--destination", help="Name of a destination; may be repeated.")],
    tables: Annotated[
        list[str],
        typer.Option("--table", help="A table, as namespace.table, or a pattern such as 'shop.*'; may be repeated."),
    ],
    **options: Any,
) -> None:
    """Add a pipeline, paused. Options of tables are those of each table given here."""
    ids = tuple(TableId.parse(table) for table in tables)
    if doubles := sorted({str(table) for table in ids if ids.count(table) > 1}):
        raise ConfigurationError(f"Table {', '.join(doubles)} is given more than once.", "Give each table once.")
    table_values = {field: options.pop(field) for field in TableOptions.model_fields}
    table_options = checked_options(TableOptions, table_values, f"Pipeline {name}")
    pipeline_options = checked_options(PipelineOptions, options, f"Pipeline {name}")
    with open_store() as store:
        refuse_existing(store, "pipeline", name)
        put_pipeline(
            store,
            DeclaredPipeline(
                **pipeline_options.model_dump(),
                name=name,
                source=source_name,
                destinations=tuple(destination_names),
                tables=ids,
                table_options=dict.fromkeys(ids, table_options),
            ),
        )
    typer.echo(f"added pipeline {name}; test it with: rosetta test {name}; start it with: rosetta start {name}")
