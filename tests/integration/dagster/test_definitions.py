"""What Dagster gets from the rows, and what its sensors and checks make of them, without its processes."""

from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    put_destination,
    put_pipeline,
)
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration import (
    DestinationTable,
    RosettaTranslator,
    SourceTable,
    Stream,
)
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.code_location import serialized
from rosetta_dagster.settings import Settings
from tests.support.database import Database
from tests.support.rows import add_pipeline
from tests.support.snowflake_database import SnowflakeDatabase


def requested_jobs(definitions: dg.Definitions, instance: dg.DagsterInstance) -> list[str | None]:
    sensor = definitions.resolve_sensor_def("rosetta_control_sensor")
    context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def())
    return [request.job_name for request in sensor.evaluate_tick(context).run_requests or []]


def test_a_pipeline_is_a_job_a_stream_with_checks_and_an_asset_for_each_table(
    store: Store, settings: Settings, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "public.orders", "Sales.order items")
    definitions = build(store.shapes(), settings)
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    assert {
        dg.AssetKey(["shop_db", "public", "orders"]),
        dg.AssetKey(["shop_db", "Sales", "order_items_d92063"]),
        dg.AssetKey(["rosetta", "shop"]),
        dg.AssetKey(["shop_dw", "public", "orders"]),
        dg.AssetKey(["shop_dw", "Sales", "order_items_d92063"]),
    } == set(graph.get_all_asset_keys())
    of_stream = {"wal_lag", "health", "freshness", "reconciliation"}
    assert of_stream == {key.name for key in graph.asset_check_keys if key.asset_key.path[0] == "rosetta"}
    of_orders = dg.AssetKey(["shop_dw", "public", "orders"])
    blocking = {key.name: graph.get(key).blocking for key in graph.asset_check_keys if key.asset_key == of_orders}
    assert {"replicated": True, "schema_drift": False, "row_count": False} == blocking
    assert "rosetta_shop" == definitions.resolve_job_def("rosetta_shop").name


class OwnedByData(RosettaTranslator):
    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        key = spec.key.with_prefix("replicas") if isinstance(data, DestinationTable) else spec.key
        return spec.replace_attributes(key=key, owners=["team:data"], group_name="replication")


def test_a_translator_decides_what_the_assets_look_like_but_not_what_they_depend_on(
    store: Store, settings: Settings, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    definitions = build(store.shapes(), settings, translator=OwnedByData())
    graph = definitions.resolve_asset_graph()
    table = graph.get(dg.AssetKey(["replicas", "shop_dw", "public", "orders"]))
    assert (["team:data"], "replication", {dg.AssetKey(["rosetta", "shop"])}) == (
        table.owners, table.group_name, table.parent_keys,
    )  # fmt: skip
    assert {dg.AssetKey(["shop_db", "public", "orders"])} == graph.get(dg.AssetKey(["rosetta", "shop"])).parent_keys


def test_pipelines_that_write_one_table_or_feed_each_other_still_load(
    store: Store, settings: Settings, source: Database, destination: Database
) -> None:
    add_pipeline(store, "there", source, destination, "orders")
    add_pipeline(store, "back", destination, source, "orders")
    for pipeline, target in (("second", "there_dw"), ("circle", "there_dw")):
        put_pipeline(
            store,
            DeclaredPipeline(
                name=pipeline, source="there_db", destinations=(target,), tables=(TableId("public", "orders"),)
            ),
        )
    dg.Definitions.validate_loadable(build(store.shapes(), settings))


def test_a_run_is_requested_for_what_is_to_run_and_does_not(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    for name in ("wanted", "paused", "refreshed"):
        add_pipeline(store, name, source, destination, "orders")
    store.set_status("wanted", Status.START)
    store.set_status("refreshed", Status.REFRESH)
    definitions = build(store.shapes(), settings)
    assert ["rosetta_refreshed", "rosetta_wanted"] == requested_jobs(definitions, instance)

    job = definitions.resolve_job_def("rosetta_wanted")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={"rosetta/pipeline": "wanted"})
    assert ["rosetta_refreshed"] == requested_jobs(definitions, instance)


def test_a_tick_asks_dagster_once_however_many_pipelines_there_are(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        add_pipeline(store, name, source, source, f"of_{name}")
        store.set_status(name, Status.START)
    asked: list[Any] = []
    get = instance.get_run_records

    def counted(*filters: Any) -> Any:
        asked.append(filters)
        return get(*filters)

    monkeypatch.setattr(instance, "get_run_records", counted)
    assert 3 == len(requested_jobs(build(store.shapes(), settings), instance))
    assert 1 == len(asked)


def test_a_pipeline_that_failed_waits_and_one_that_was_killed_waits_too(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    for name in ("failed", "killed"):
        add_pipeline(store, name, source, destination, "orders")
        store.set_status(name, Status.START)
    definitions = build(store.shapes(), settings)
    store.report_failure(store.state("failed").id, None, "The source cannot be reached.", transient=True)
    store.report_started(store.state("killed").id, "a-run")
    assert [] == requested_jobs(definitions, instance)

    state = store.state("killed")
    assert "FAILED" == state.run_status
    assert "killed" in (state.last_error or "")
    assert not state.is_due


def test_a_row_that_was_added_is_left_to_the_definitions_sensor(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    definitions = build(store.shapes(), settings)
    add_pipeline(store, "new", source, destination, "orders")
    store.set_status("new", Status.START)
    assert [] == requested_jobs(definitions, instance)


def test_the_checks_execute_and_report_a_failure(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    store.set_status("shop", Status.START)
    store.report_failure(store.state("shop").id, None, "Table public.orders does not exist.", transient=False)
    keys = {dg.AssetCheckKey(dg.AssetKey(["rosetta", "shop"]), name) for name in ("wal_lag", "health")}
    job = build(store.shapes(), settings).resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_selection=set(), asset_check_selection=keys).execute_in_process(instance=instance)
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert found["wal_lag"].passed
    assert not found["health"].passed
    assert "Table public.orders does not exist." == found["health"].description
    assert "ERROR" == store.state("shop").health


def test_definitions_hold_no_secret(store: Store, settings: Settings, source: Database, destination: Database) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    password = source.config["password"]
    shapes = store.shapes()
    definitions = build(shapes, settings)
    assert password not in serialized(shapes)
    resources = definitions.resources or {}
    assert 2 == len(resources)
    assert password not in repr(resources)
    assert password not in repr([resource.process_config_and_initialize() for resource in resources.values()])


def add_snowflake(store: Store, pipeline: str, name: str, config: dict[str, Any]) -> None:
    """A second destination of a pipeline."""
    put_destination(store, DeclaredDestination(name=name, type="SNOWFLAKE", config=config))
    with store.connected() as connection:
        connection.execute(
            "INSERT INTO pipeline_destinations SELECT pipelines.id, destinations.id FROM pipelines, destinations"
            " WHERE pipelines.name = %s AND destinations.name = %s",
            [pipeline, name],
        )


def test_tables_at_snowflake_are_assets_of_that_kind_and_have_a_resource(
    store: Store,
    settings: Settings,
    source: Database,
    destination: Database,
    snowflake_database: SnowflakeDatabase,
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    add_snowflake(store, "shop", "sf", {**snowflake_database.config, "schema": "kept"})
    shapes = store.shapes()
    definitions = build(shapes, settings)
    dg.Definitions.validate_loadable(definitions)
    kinds = {
        spec.key.to_user_string(): spec.kinds for spec in definitions.resolve_all_asset_specs() if "table" in spec.kinds
    }
    assert {
        "shop_db/public/orders": {"postgres", "table"},
        "shop_dw/public/orders": {"postgres", "table"},
        "sf/kept/orders": {"snowflake", "table"},
    } == kinds
    assert {"source_shop_db", "destination_shop_dw", "destination_sf"} == (definitions.resources or {}).keys()
    resource = (definitions.resources or {})["destination_sf"]
    secrets = [snowflake_database.config[field] for field in ("private_key", "private_key_passphrase")]
    for shown in (serialized(shapes), repr(resource), repr(resource.process_config_and_initialize())):
        assert not any(secret in shown for secret in secrets)
    with resource.connect() as session:
        assert [(1, "a")] == session.execute("SELECT 1, ?", ["a"])


def test_a_destination_with_an_incomplete_row_does_not_keep_others_from_loading(
    store: Store, settings: Settings, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    add_pipeline(store, "broken", source, destination, "orders")
    with store.connected() as connection:
        connection.execute("UPDATE destinations SET config = '{}' WHERE name = 'broken_dw'")
    add_snowflake(store, "broken", "sf", {"account": "myorg-dw", "unknown": 1})
    definitions = build(store.shapes(), settings)
    dg.Definitions.validate_loadable(definitions)
    assert {"rosetta_shop", "rosetta_broken"} <= {job.name for job in definitions.resolve_all_job_defs()}


def test_a_resource_connects_with_the_password_of_its_row(
    store: Store, settings: Settings, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    resources = build(store.shapes(), settings).resources or {}
    for key, database in (("source_shop_db", source), ("destination_shop_dw", destination)):
        with resources[key].connect() as connection:
            assert (database.connection.database,) == connection.execute("SELECT current_database()::text").fetchone()


def test_a_terminal_failure_is_tried_again_when_the_code_location_loads(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")
    store.set_status("shop", Status.START)
    pipeline_id = store.state("shop").id
    store.report_failure(pipeline_id, None, "SECRET_KEY is not set.", transient=False)
    loaded = build(store.shapes(), settings)
    assert ["rosetta_shop"] == requested_jobs(loaded, instance)
    store.report_failure(pipeline_id, None, "SECRET_KEY is not set.", transient=False)
    assert [] == requested_jobs(loaded, instance)
    assert ["rosetta_shop"] == requested_jobs(build(store.shapes(), settings), instance)


def test_the_control_sensor_says_which_pipelines_wait_and_why(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, destination: Database
) -> None:
    for name in ("shop", "quiet"):
        add_pipeline(store, name, source, destination, "orders")
    store.set_status("shop", Status.START)
    definitions = build(store.shapes(), settings)
    sensor = definitions.resolve_sensor_def("rosetta_control_sensor")
    context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def())
    sensor.evaluate_tick(context)
    store.report_failure(store.state("shop").id, None, "Role app may not replicate.", transient=False)
    message = sensor.evaluate_tick(context).skip_message or ""
    assert message.startswith("shop waits: Role app may not replicate. Next attempt in 10 min ")
    assert "quiet" not in message
    store.set_status("shop", Status.PAUSE)
    assert "Every pipeline does what its status says." == sensor.evaluate_tick(context).skip_message


def test_other_assets_of_the_code_location_keep_their_executor(
    store: Store, settings: Settings, source: Database, destination: Database
) -> None:
    add_pipeline(store, "shop", source, destination, "orders")

    @dg.asset
    def own() -> None: ...

    merged = dg.Definitions.merge(
        build(store.shapes(), settings),
        dg.Definitions(assets=[own], jobs=[dg.define_asset_job("mine", [own])], executor=dg.multiprocess_executor),
    )
    assert "multiprocess" == merged.resolve_job_def("mine").executor_def.name
    assert "in_process" == merged.resolve_job_def("rosetta_shop").executor_def.name
    assert build(store.shapes(), settings).executor is None
