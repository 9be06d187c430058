"""The commands that add rows to the configuration database."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PostgresConnection, PostgresDestinationConfig, checked
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.keys import key_of, read_key
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
from rosetta_dagster.settings import open_store

source = typer.Typer(no_args_is_help=True, help="Databases that changes are captured from.")
destination = typer.Typer(no_args_is_help=True, help="Databases that changes are applied to.")
pipeline = typer.Typer(no_args_is_help=True, help="What is replicated from where to where.")

Name = Annotated[str, typer.Argument(help="Name of the new row.")]
Host = Annotated[str, typer.Option(help="Host of the server.")]
Port = Annotated[int, typer.Option(help="TCP port of the server.")]
Database = Annotated[str, typer.Option(help="Database on the server.")]
Username = Annotated[str, typer.Option(help="Role that connects.")]
Sslmode = Annotated[str, typer.Option(help="TLS mode of libpq.")]
# An argument of a process can be seen by everybody on the machine, so a password is asked for or taken from a variable.
Password = Annotated[
    str,
    typer.Option(envvar="ROSETTA_PASSWORD", prompt=True, hide_input=True, help="Asked for when not in the variable."),
]


@source.command(name="add")
def add_source(
    name: Name,
    *,
    host: Host,
    port: Port = 5432,
    database: Database,
    username: Username,
    password: Password,
    sslmode: Sslmode = "prefer",
    publication: Annotated[str | None, typer.Option(help="Publication to use; one is made when not given.")] = None,
    slot: Annotated[str | None, typer.Option(help="Replication slot to use; one is made when not given.")] = None,
) -> None:
    """Add a source."""
    connection = checked(
        PostgresConnection, _fields(host, port, database, username, sslmode, password=password), f"Source {name}"
    )
    with open_store() as store:
        refuse_existing(store, "source", name)
        put_source(
            store,
            DeclaredSource(name=name, connection=connection, publication_name=publication, replication_name=slot),
        )
    typer.echo(f"added source {name}")


@destination.command(name="add")
def add_destination(
    name: Name,
    *,
    host: Host,
    port: Port = 5432,
    database: Database,
    username: Username,
    password: Password,
    sslmode: Sslmode = "prefer",
    namespace: Annotated[
        str | None, typer.Option("--schema", help="Where all tables go; as at the source when not given.")
    ] = None,
) -> None:
    """Add a PostgreSQL destination."""
    config = _fields(host, port, database, username, sslmode, password=password)
    if namespace is not None:
        config["schema"] = namespace
    checked(PostgresDestinationConfig, config, f"Destination {name}")
    with open_store() as store:
        refuse_existing(store, "destination", name)
        put_destination(store, DeclaredDestination(name=name, type="POSTGRES", config=config))
    typer.echo(f"added destination {name}")


@destination.command(name="add-snowflake")
def add_snowflake_destination(
    name: Name,
    *,
    account: Annotated[str, typer.Option(help="Account, as organization-account.")],
    user: Annotated[str, typer.Option(help="User that connects, with a key pair.")],
    database: Annotated[str, typer.Option(help="Database of the account.")],
    warehouse: Annotated[str | None, typer.Option(help="Warehouse; the user's own when not given.")] = None,
    role: Annotated[str | None, typer.Option(help="Role; the user's own when not given.")] = None,
    key: Annotated[Path | None, typer.Option(help="File of the private key; the row keeps the key, encrypted.")] = None,
    key_path: Annotated[str | None, typer.Option(help="The same; the row keeps the path, for every worker.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable of the workers that holds the key.")] = None,
    passphrase: Annotated[
        str,
        typer.Option(envvar="ROSETTA_PASSPHRASE", prompt=True, hide_input=True, help="Asked for when not in the variable."),
    ],
    namespace: Annotated[
        str | None, typer.Option("--schema", help="Where all tables go; as at the source when not given.")
    ] = None,
    preserve_case: Annotated[bool, typer.Option("--preserve-case", help="Keep the case of names.")] = False,
    soft_deletes: Annotated[
        bool, typer.Option("--soft-deletes", help="Mark deleted rows instead of deleting them.")
    ] = False,
    flush_seconds: Annotated[float, typer.Option(help="Seconds that changes may wait to be written together.")] = 60.0,
) -> None:
    """Add a Snowflake destination. The key is tested, the account is not."""
    given: dict[str, Any] = {
        "account": account, "user": user, "database": database, "warehouse": warehouse, "role": role, "schema": namespace,
        "private_key": read_key(str(key)).decode(errors="replace") if key else None, "private_key_path": key_path,
        "private_key_env": key_env, "private_key_passphrase": passphrase or None,
    }  # fmt: skip
    config = {field: value for field, value in given.items() if value is not None}
    config |= {"preserve_case": preserve_case, "deletes": "soft" if soft_deletes else "hard", "flush_seconds": flush_seconds}
    checked_config = checked(SnowflakeDestinationConfig, config, f"Destination {name}")
    if key_env is None:
        # A variable of the workers need not be set here.
        key_of(checked_config)
    with open_store() as store:
        refuse_existing(store, "destination", name)
        put_destination(store, DeclaredDestination(name=name, type="SNOWFLAKE", config=config))
    typer.echo(f"added destination {name}")


@pipeline.command(name="add")
def add_pipeline(
    name: Name,
    *,
    source_name: Annotated[str, typer.Option("--source", help="Name of the source.")],
    destination_names: Annotated[list[str], typer.Option("--destination", help="Name of a destination; may be repeated.")],
    tables: Annotated[list[str], typer.Option("--table", help="A table, as namespace.table; may be repeated.")],
    engine: Annotated[Engine, typer.Option(help="Capture engine.")] = Engine.DEBEZIUM,
) -> None:
    """Add a pipeline, paused."""
    with open_store() as store:
        refuse_existing(store, "pipeline", name)
        put_pipeline(
            store,
            DeclaredPipeline(
                name=name,
                source=source_name,
                destinations=tuple(destination_names),
                tables=tuple(TableId.parse(table) for table in tables),
                engine=engine,
            ),
        )
    typer.echo(f"added pipeline {name}; start it with: rosetta start {name}")


def _fields(host: str, port: int, database: str, username: str, sslmode: str, *, password: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "host": host, "port": port, "database": database, "username": username, "sslmode": sslmode,
    }  # fmt: skip
    return {**fields, "password": password} if password else fields
