"""`rosetta secrets rotate`: replaces the SECRET_KEY that secrets are encrypted under."""

import typer

from rosetta_dagster.cdc.store.rotation import rotate
from rosetta_dagster.settings import open_store

secrets = typer.Typer(no_args_is_help=True, help="Secrets of the configuration database.")


@secrets.callback()
def _group() -> None:
    """Secrets of the configuration database."""


@secrets.command(name="rotate")
def rotate_key() -> None:
    """Encrypt every secret under SECRET_KEY. SECRET_KEY_OLD holds the one of before. It may be broken off and run again."""
    with open_store() as store:
        done = rotate(store)
    typer.echo(f"{done.count} secrets encrypted again, {done.retired} keys retired")
    for problem in done.unreadable:
        typer.echo(problem, err=True)
    if done.unreadable:
        raise typer.Exit(1)
    typer.echo("SECRET_KEY_OLD is no longer needed.")
