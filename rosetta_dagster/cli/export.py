"""`rosetta export`: the rows of the configuration database as YAML, for review and version control. No secrets."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
import yaml

from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.inventory import Connection, connections, table_options
from rosetta_dagster.cdc.store.records import PipelineShape
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.output import print_json
from rosetta_dagster.settings import open_store


def export(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False) -> None:
    """Print sources, destinations and pipelines as YAML. Secrets are named, their values are not printed."""
    with open_store() as store:
        document = exported(store)
    if as_json:
        print_json(document)
    else:
        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


def exported(store: Store) -> dict[str, Any]:
    """Return every row that an operator writes."""
    options = table_options(store)
    statuses = {state.name: state.status for state in store.states()}
    return {
        "sources": {each.name: _settings(each) for each in connections(store, "source")},
        "destinations": {each.name: {"type": each.type, **_settings(each)} for each in connections(store, "destination")},
        "pipelines": {
            shape.name: {**_pipeline(shape, options), "status": str(statuses[shape.name])}
            for shape in store.shapes()
            if shape.name in statuses
        },
    }


def _settings(connection: Connection) -> dict[str, Any]:
    return {**connection.settings, **({"secrets": list(connection.secrets)} if connection.secrets else {})}


def _pipeline(shape: PipelineShape, options: Mapping[tuple[str, TableId], Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "source": shape.source.name,
        "destinations": [destination.name for destination in shape.destinations],
        "engine": str(shape.engine),
        "tables": [
            {
                "table": str(table.id),
                **({"target_schema": table.target_namespace} if table.target_namespace else {}),
                **({"target_name": table.target_name} if table.target_name else {}),
                **options.get((shape.name, table.id), {}),
            }
            for table in shape.tables
        ],
    }
