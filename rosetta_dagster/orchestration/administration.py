"""The jobs by which pipelines are made, steered and removed: from the launchpad of the UI, and over GraphQL.

Each does what the command line or a statement of SQL does. What it did, or would do, is the metadata of its output.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import dagster as dg

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PostgresConnection, PostgresDestinationConfig, SchemaPolicy, Status, checked
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError
from rosetta_dagster.cdc.operate.drop import drop_pipeline, removal
from rosetta_dagster.cdc.operate.inspection import describe_snowflake
from rosetta_dagster.cdc.reconcile.reconcile import Reconciliation, reconcile
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    Target,
    add_table,
    put_destination,
    put_pipeline,
    put_source,
    refuse_existing,
)
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration.checks import reconciliation_evaluation, told_of
from rosetta_dagster.orchestration.requests import (
    AddTable,
    CreateDestination,
    CreatePipeline,
    CreateSource,
    DropPipeline,
    PipelineTable,
    PostgresTarget,
    Reconcile,
    ResyncTable,
    SetStatus,
    SnowflakeTarget,
    connection_fields,
    snowflake_fields,
)
from rosetta_dagster.orchestration.resources import environment_secret, secret_of_environment
from rosetta_dagster.settings import open_store

_Request = TypeVar("_Request", bound=dg.Config)

#: What a job tells: lines of text by label.
Told = Mapping[str, str]


def administration_jobs(streams: Mapping[str, dg.AssetKey]) -> list[dg.JobDefinition]:
    """One job for each thing that an operator does to pipelines; with the asset of each pipeline's stream, by name."""
    return [
        _job(
            "reconcile",
            Reconcile,
            partial(_reconcile, streams),
            "Compares source and destinations row by row while the pipeline runs. With `repair` it mends what differs.",
        ),
        _job(
            "create_source", CreateSource, _without_events(_create_source), "Adds a database that changes are captured from."
        ),
        _job(
            "create_destination",
            CreateDestination,
            _without_events(_create_destination),
            "Adds a database that changes are applied to.",
        ),
        _job(
            "create_pipeline",
            CreatePipeline,
            _without_events(_create_pipeline),
            "Adds a pipeline: what is replicated from where to where.",
        ),
        _job("set_status", SetStatus, _without_events(_set_status), "Starts, pauses or restarts a pipeline."),
        _job(
            "add_table",
            AddTable,
            _without_events(_add_table),
            "Adds a table to a pipeline. One that runs copies it at once, one that is paused when it starts next.",
        ),
        _job(
            "resync_table",
            ResyncTable,
            _without_events(_resync_table),
            "Copies a table anew, as after it was set aside, while the others of its pipeline go on.",
        ),
        _job(
            "drop_pipeline",
            DropPipeline,
            _without_events(_drop_pipeline),
            "Removes a paused pipeline with its slot and publication. Without `confirm` it only shows what would go.",
        ),
    ]


def _job(
    name: str, request_type: type[_Request], act: Callable[[dg.OpExecutionContext, Store, _Request], Told], description: str
) -> dg.JobDefinition:
    # As an argument of the op, a configuration that breaks a limit would fail the step with a stack trace and the value.
    @dg.op(name=name, config_schema=request_type.to_fields_dict(), description=description)
    def op(context: dg.OpExecutionContext) -> None:
        try:
            request = checked(request_type, dict(context.op_config), "The configuration of the run")
            with open_store() as store:
                told = act(context, store, request)
        except RosettaError as error:
            raise dg.Failure(description=error.message, metadata={"remedy": error.remedy}, allow_retries=False) from None
        for label, text in told.items():
            context.log.info("%s: %s", label, text)
        context.add_output_metadata({label: dg.MetadataValue.text(text) for label, text in told.items()})

    @dg.job(
        name=f"rosetta__{name}",
        description=description,
        executor_def=dg.in_process_executor,
        run_tags={"dagster/max_retries": "0"},
    )
    def job() -> None:
        op()

    return job


def _without_events(act: Callable[[Store, _Request], Told]) -> Callable[[dg.OpExecutionContext, Store, _Request], Told]:
    return lambda _, store, request: act(store, request)


def _reconcile(streams: Mapping[str, dg.AssetKey], context: dg.OpExecutionContext, store: Store, request: Reconcile) -> Told:
    found: list[Reconciliation] = []
    tables = [TableId.parse(table) for table in request.tables]
    for each in reconcile(store.pipeline(request.pipeline), tables=tables, mend=request.repair):
        context.log.info("%s at %s: %s", each.table, each.destination, told_of(each))
        found.append(each)
    if request.pipeline in streams:
        # Dagster takes it, whatever its annotation says.
        context.log_event(reconciliation_evaluation(streams[request.pipeline], found))  # type: ignore[arg-type]
    return {f"{each.table} at {each.destination}": told_of(each) for each in found}


def _create_source(store: Store, request: CreateSource) -> Told:
    values = {**connection_fields(request), "password": secret_of_environment(request.password_env, request.name)}
    connection = checked(PostgresConnection, values, f"Source {request.name}")
    refuse_existing(store, "source", request.name)
    put_source(
        store,
        DeclaredSource(
            name=request.name,
            connection=connection,
            publication_name=request.publication_name,
            replication_name=request.replication_name,
        ),
    )
    return {"created": f"source {request.name}: {connection.describe()}"}


def _create_destination(store: Store, request: CreateDestination) -> Told:
    if request.postgres is not None and request.snowflake is None:
        declared, place = _postgres_destination(request.name, request.postgres)
    elif request.snowflake is not None and request.postgres is None:
        declared, place = _snowflake_destination(request.name, request.snowflake)
    else:
        raise ConfigurationError(
            f"Destination {request.name} has to be one of PostgreSQL and Snowflake.", "Give either postgres or snowflake."
        )
    refuse_existing(store, "destination", request.name)
    put_destination(store, declared)
    return {"created": f"destination {request.name}: {place}"}


def _postgres_destination(name: str, target: PostgresTarget) -> tuple[DeclaredDestination, str]:
    password = secret_of_environment(target.password_env, name)
    config = connection_fields(target)
    if password is not None:
        config["password"] = password.get_secret_value()
    if target.namespace is not None:
        config["schema"] = target.namespace
    place = checked(PostgresDestinationConfig, config, f"Destination {name}").describe()
    return DeclaredDestination(name=name, type="POSTGRES", config=config), place


def _snowflake_destination(name: str, target: SnowflakeTarget) -> tuple[DeclaredDestination, str]:
    """The key is tested, the account is not."""
    config = {
        **snowflake_fields(target),
        "private_key": environment_secret(target.private_key_env, name, "private key"),
        "private_key_passphrase": environment_secret(target.private_key_passphrase_env, name, "passphrase"),
    }
    return DeclaredDestination(name=name, type="SNOWFLAKE", config=config), describe_snowflake(name, config)


def _create_pipeline(store: Store, request: CreatePipeline) -> Told:
    refuse_existing(store, "pipeline", request.name)
    tables = {TableId.parse(table.table): _target(table) for table in request.tables}
    given = request.thresholds.model_dump(exclude_none=True)
    put_pipeline(
        store,
        DeclaredPipeline(
            name=request.name,
            source=request.source,
            destinations=tuple(request.destinations),
            tables=tuple(tables),
            targets=tables,
            engine=Engine(request.engine),
            status=Status(request.status),
            thresholds=checked(Thresholds, given, f"The thresholds of {request.name}"),
            on_schema_change=SchemaPolicy(request.on_schema_change),
        ),
    )
    return {"created": f"pipeline {request.name}: {len(tables)} tables, {request.status}"}


def _set_status(store: Store, request: SetStatus) -> Told:
    before = store.state(request.pipeline).status
    store.set_status(request.pipeline, Status(request.status))
    return {"status": f"{before} -> {request.status}"}


def _add_table(store: Store, request: AddTable) -> Told:
    add_table(store, request.pipeline, TableId.parse(request.table), _target(request))
    return {"added": f"table {TableId.parse(request.table)} to pipeline {request.pipeline}"}


def _resync_table(store: Store, request: ResyncTable) -> Told:
    table = TableId.parse(request.table)
    store.ask_resync(request.pipeline, table)
    when = "when it starts next" if store.status(request.pipeline) is Status.PAUSE else "now"
    return {"resync": f"table {table} of pipeline {request.pipeline} is copied anew {when}"}


def _drop_pipeline(store: Store, request: DropPipeline) -> Told:
    if request.confirm:
        return {"removed": "\n".join(drop_pipeline(store, request.pipeline).lines())}
    shown = removal(store, request.pipeline).lines()
    return {"would remove": "\n".join(shown), "to remove it": "Run this job again with confirm: true."}


def _target(table: PipelineTable) -> Target:
    return Target(table.target_namespace, table.target_name)
