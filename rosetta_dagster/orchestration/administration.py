"""The jobs that create, control and remove pipelines, from the launchpad of the UI and over GraphQL.

Each does what the command line or a statement of SQL does. The metadata of its output says what it did, or would do.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import dagster as dg

from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceOptions, SourceSettings, Status, TableOptions, checked
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.config.variables import read_for_row
from rosetta_dagster.cdc.destination.kind import DestinationKind
from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError
from rosetta_dagster.cdc.operate.drop import drop_pipeline, removal
from rosetta_dagster.cdc.reconcile.backfill import backfill
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
from rosetta_dagster.orchestration.checks import reconciliation_evaluation, summary_of
from rosetta_dagster.orchestration.reported_checks import report_checks
from rosetta_dagster.orchestration.requests import (
    AddTable,
    BackfillTable,
    CreatePipeline,
    CreateSource,
    DropPipeline,
    PipelineTable,
    Reconcile,
    ResyncTable,
    SetStatus,
    create_destination_request,
)
from rosetta_dagster.orchestration.resources import reached_by
from rosetta_dagster.settings import open_store

_Request = TypeVar("_Request", bound=dg.Config)

#: The remedy for a configuration of a run that is not valid.
_CORRECT = "Correct the configuration of the run."

#: The result of a job: lines of text by label.
Outcome = Mapping[str, str]


def administration_jobs(streams: Mapping[str, dg.AssetKey]) -> list[dg.JobDefinition]:
    """Return one job for each action of an operator. `streams` holds the asset of each pipeline's stream, by name."""
    return [
        _job(
            "reconcile",
            Reconcile,
            partial(_reconcile, streams),
            "Compares source and destinations row by row while the pipeline runs. With `repair` it corrects them.",
        ),
        _job(
            "create_source", CreateSource, _without_events(_create_source), "Adds a database that changes are captured from."
        ),
        _job(
            "create_destination",
            create_destination_request(),
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
            "Copies a table again, as after it was set aside, while the others of its pipeline go on.",
        ),
        _job(
            "backfill_table",
            BackfillTable,
            _backfill_table,
            "Brings rows with a condition to the destinations while the pipeline streams: those that are missing or differ.",
        ),
        _job(
            "drop_pipeline",
            DropPipeline,
            _without_events(_drop_pipeline),
            "Removes a paused pipeline with its slot and publication. Without `confirm` it only shows what it would remove.",
        ),
    ]


def _job(
    name: str,
    request_type: type[_Request],
    act: Callable[[dg.OpExecutionContext, Store, _Request], Outcome],
    description: str,
) -> dg.JobDefinition:
    # As an argument of the op, a configuration that breaks a limit would fail the step with a stack trace and the value.
    @dg.op(name=name, config_schema=request_type.to_fields_dict(), description=description)
    def op(context: dg.OpExecutionContext) -> None:
        try:
            request = checked(request_type, dict(context.op_config), "The configuration of the run", _CORRECT)
            with open_store() as store:
                outcome = act(context, store, request)
        except RosettaError as error:
            raise dg.Failure(description=error.message, metadata={"remedy": error.remedy}, allow_retries=False) from None
        for label, text in outcome.items():
            context.log.info("%s: %s", label, text)
        context.add_output_metadata({label: dg.MetadataValue.text(text) for label, text in outcome.items()})

    @dg.job(
        name=f"rosetta__{name}",
        description=description,
        executor_def=dg.in_process_executor,
        run_tags={"dagster/max_retries": "0"},
    )
    def job() -> None:
        op()

    return job


def _without_events(
    act: Callable[[Store, _Request], Outcome],
) -> Callable[[dg.OpExecutionContext, Store, _Request], Outcome]:
    return lambda _, store, request: act(store, request)


def _reconcile(
    streams: Mapping[str, dg.AssetKey], context: dg.OpExecutionContext, store: Store, request: Reconcile
) -> Outcome:
    found: list[Reconciliation] = []
    tables = [TableId.parse(table) for table in request.tables]
    for each in reconcile(store.pipeline(request.pipeline), tables=tables, mend=request.repair):
        context.log.info("%s at %s: %s", each.table, each.destination, summary_of(each))
        found.append(each)
    if request.pipeline in streams:
        report_checks(context.instance, [reconciliation_evaluation(streams[request.pipeline], found)])
    return {f"{each.table} at {each.destination}": summary_of(each) for each in found}


def _create_source(store: Store, request: CreateSource) -> Outcome:
    values = reached_by(SourceSettings, request.model_dump(exclude={"name"}), request.name, read_for_row)
    settings = checked(SourceSettings, values, f"Source {request.name}", _CORRECT)
    refuse_existing(store, "source", request.name)
    options = {name: getattr(settings, name) for name in SourceOptions.model_fields}
    put_source(store, DeclaredSource(name=request.name, connection=settings.connection, **options))
    return {"created": f"source {request.name}: {settings.describe()}"}


def _create_destination(store: Store, request: Any) -> Outcome:
    """Add the row. A key is tested, the server is not reached."""
    given = [(kind, target) for kind in kinds() if (target := getattr(request, kind.type.lower(), None)) is not None]
    if len(given) != 1:
        titles, fields = [kind.title for kind in kinds()], [kind.type.lower() for kind in kinds()]
        raise ConfigurationError(
            f"Destination {request.name} has to be one of {_either(titles, 'and')}.", f"Give either {_either(fields, 'or')}."
        )
    kind, target = given[0]
    config = _stored_config(kind, target.model_dump(exclude_defaults=True), request.name)
    place = kind.describe(request.name, config)
    refuse_existing(store, "destination", request.name)
    put_destination(store, DeclaredDestination(name=request.name, type=kind.type, config=config))
    return {"created": f"destination {request.name}: {place}"}


def _stored_config(kind: DestinationKind, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return `destinations.config` with the secrets themselves, read from the variables that the request names."""
    config = reached_by(kind.settings, given, name, read_for_row)
    if (namespace := config.pop("namespace", None)) is not None:
        config["schema"] = namespace
    return config


def _either(names: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _create_pipeline(store: Store, request: CreatePipeline) -> Outcome:
    refuse_existing(store, "pipeline", request.name)
    tables = {TableId.parse(table.table): table for table in request.tables}
    if len(tables) != len(request.tables):
        raise ConfigurationError(f"Pipeline {request.name} names a table twice.", "Name each table once.")
    given = request.thresholds.model_dump(exclude_none=True)
    put_pipeline(
        store,
        DeclaredPipeline(
            **{name: getattr(request, name) for name in PipelineOptions.model_fields},
            name=request.name,
            source=request.source,
            destinations=tuple(request.destinations),
            tables=tuple(tables),
            targets={table: _target(each) for table, each in tables.items()},
            table_options={table: _options(each) for table, each in tables.items()},
            status=Status(request.status),
            thresholds=checked(Thresholds, given, f"The thresholds of {request.name}", _CORRECT),
        ),
    )
    return {"created": f"pipeline {request.name}: {len(tables)} tables, {request.status}"}


def _set_status(store: Store, request: SetStatus) -> Outcome:
    before = store.state(request.pipeline).status
    store.set_status(request.pipeline, Status(request.status))
    return {"status": f"{before} -> {request.status}"}


def _add_table(store: Store, request: AddTable) -> Outcome:
    add_table(store, request.pipeline, TableId.parse(request.table), _target(request), _options(request))
    return {"added": f"table {TableId.parse(request.table)} to pipeline {request.pipeline}"}


def _resync_table(store: Store, request: ResyncTable) -> Outcome:
    table = TableId.parse(request.table)
    store.ask_resync(request.pipeline, table)
    when = "when it starts next" if store.status(request.pipeline) is Status.PAUSE else "now"
    return {"resync": f"table {table} of pipeline {request.pipeline} is copied again {when}"}


def _backfill_table(context: dg.OpExecutionContext, store: Store, request: BackfillTable) -> Outcome:
    outcome: dict[str, str] = {}
    for done in backfill(store, request.pipeline, TableId.parse(request.table), request.where):
        said = f"{done.read_count:,} rows read, {done.brought_count:,} brought, {done.in_flight_count:,} left to the stream"
        context.log.info("%s at %s: %s", done.table, done.destination, said)
        outcome[f"{done.table} at {done.destination}"] = said
    return outcome


def _drop_pipeline(store: Store, request: DropPipeline) -> Outcome:
    if request.confirm:
        return {"removed": "\n".join(drop_pipeline(store, request.pipeline).lines())}
    shown = removal(store, request.pipeline).lines()
    return {"would remove": "\n".join(shown), "to remove it": "Run this job again with confirm: true."}


def _target(table: PipelineTable) -> Target:
    return Target(table.target_namespace, table.target_name)


def _options(table: PipelineTable) -> TableOptions:
    values = {name: getattr(table, name) for name in TableOptions.model_fields}
    return checked(TableOptions, values, f"Table {table.table}", _CORRECT)
