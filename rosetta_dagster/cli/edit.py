"""The commands that change rows: only the settings that are given change, and a secret never is an argument."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer
from pydantic import BaseModel

from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceOptions, SourceSettings, Status
from rosetta_dagster.cdc.config.surfaces import secret_names
from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.errors import ConfigurationError, SecretUnreadable
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import DeclaredDestination, DeclaredSource, put_destination, put_source
from rosetta_dagster.cdc.store.inventory import End, connection_named, set_pipeline_options
from rosetta_dagster.cli.add import SOURCE_FLAGS, pipeline, source, warn_if_unreachable
from rosetta_dagster.cli.names import DestinationName, PipelineName, SourceName
from rosetta_dagster.cli.options import checked_options, edited, with_options
from rosetta_dagster.settings import open_store


@source.command(name="edit")
@with_options(SourceSettings, SOURCE_FLAGS, edits=True)
def edit_source(name: SourceName, **options: Any) -> None:
    """Change settings of a source. An empty text removes a setting."""
    with open_store() as store:
        values = edited(SourceSettings, _source(store, name, options), options)
        settings = checked_options(SourceSettings, values, f"Source {name}", SOURCE_FLAGS)
        more = {field: getattr(settings, field) for field in SourceOptions.model_fields}
        put_source(store, DeclaredSource(name=name, connection=settings.connection, **more))
        _report(store, "source", name)
    warn_if_unreachable(name, settings.connection)


def add_edit_commands(group: typer.Typer) -> None:
    """Add the commands that change destinations: one for each kind. `edit` is that of the first kind, too."""
    for number, kind in enumerate(kinds()):
        command = _edit_destination(kind)
        group.command(name=f"edit-{kind.type.lower()}", hidden=number == 0)(command)
        if number == 0:
            group.command(name="edit")(command)


def _edit_destination(kind: DestinationKind) -> Any:
    @with_options(kind.settings, edits=True)
    def edit_destination(name: DestinationName, **options: Any) -> None:
        with open_store() as store:
            present = connection_named(store, "destination", name)
            if present.type != kind.type:
                raise ConfigurationError(
                    f"Destination {name} is of type {present.type}.", f"Use: rosetta destination edit-{present.type.lower()}"
                )
            config = edited(kind.settings, _config(store, name, kind, options), options)
            kind.checked(name, config)
            put_destination(store, DeclaredDestination(name=name, type=kind.type, config=config))
            _report(store, "destination", name)

    edit_destination.__doc__ = f"Change settings of a {kind.title} destination. An empty text removes a setting."
    return edit_destination


@pipeline.command(name="edit")
@with_options(PipelineOptions, edits=True)
def edit_pipeline(name: PipelineName, **options: Any) -> None:
    """Change options of a pipeline that no code declares. A run takes them up by itself."""
    with open_store() as store:
        present = store.pipeline_options(store.state(name).id) or PipelineOptions()
        values = edited(PipelineOptions, present.model_dump(), options)
        set_pipeline_options(store, name, checked_options(PipelineOptions, values, f"Pipeline {name}"))
    typer.echo(f"changed pipeline {name}")


def _source(store: Store, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = store.source(name)
    except SecretUnreadable:
        if not _brings_secret(SourceSettings, options):
            raise
        return connection_named(store, "source", name).settings
    return {**found.connection.model_dump(), **{each: getattr(found, each) for each in SourceOptions.model_fields}}


def _config(store: Store, name: str, kind: DestinationKind, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return store.destination(name).config
    except SecretUnreadable:
        if not _brings_secret(kind.settings, options):
            raise
        return connection_named(store, "destination", name).settings


def _brings_secret(settings: type[BaseModel], options: Mapping[str, Any]) -> bool:
    """Return whether a secret is given, so that the one of before need not be read."""
    return any(options.get(secret) for secret in secret_names(settings))


def _report(store: Store, end: End, name: str) -> None:
    typer.echo(f"changed {end} {name}")
    running: Sequence[str] = [
        each for each in connection_named(store, end, name).pipelines if store.status(each) is not Status.PAUSE
    ]
    for each in running:
        typer.echo(f"take it up now: rosetta refresh {each}")
