"""`rosetta grants`: prints the statements that give each role what it needs, for an administrator to read and run."""

from typing import Annotated

import typer
from psycopg.conninfo import conninfo_to_dict

from rosetta_dagster.cdc.grants import Grants
from rosetta_dagster.cdc.operate.grants import Provider, configuration_grants, grants
from rosetta_dagster.cli.names import PipelineName
from rosetta_dagster.cli.output import print_json, to_json
from rosetta_dagster.settings import open_store, read_settings


def grants_command(
    name: PipelineName,
    *,
    server: Annotated[
        Provider | None, typer.Option(help="Who runs the source's server. Without this its host decides.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Print the statements that give each role the least it needs. Nothing is run."""
    with open_store() as store:
        found = [*grants(store.pipeline(name), server), *_configuration()]
    if as_json:
        print_json([to_json(each) for each in found])
    else:
        typer.echo("\n\n".join("\n".join(each.lines()) for each in found))


def _configuration() -> list[Grants]:
    url = read_settings().config_database_url
    place = conninfo_to_dict(url.get_secret_value()) if url is not None else {}
    user, database = place.get("user"), place.get("dbname")
    return [configuration_grants(str(user), str(database))] if user and database else []
