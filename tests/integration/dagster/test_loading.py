"""Loading code only reads. The definitions sensor writes what code declares, and one wrong pipeline stops no other."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.errors import StoreUnavailable
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration import (
    DestinationTable,
    Pipeline,
    PostgresDestination,
    PostgresSource,
    RosettaTranslator,
    SourceTable,
    Stream,
    definitions_sensor,
    rosetta_definitions,
    shapes,
)
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.settings import Settings, read_settings
from tests.support.database import SECRET_KEY, Database
from tests.support.rows import add_pipeline


def declared(name: str, **source: Any) -> Pipeline:
    given = {"host": "db", "database": "shop", "username": "u", "password_env": "SHOP_PASSWORD"} | source
    return Pipeline(
        name=name,
        source=PostgresSource(name=f"{name}_db", **given),
        destinations=[PostgresDestination(name=f"{name}_dw", host="dw", database="d", username="u")],
        tables=["orders", "Sales.items"],
    )


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    sensor = definitions.resolve_sensor_def("rosetta_definitions_sensor")
    repository = definitions.get_repository_def()
    return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, repository_def=repository, cursor=cursor))


def test_loading_changes_nothing_not_even_an_empty_database(
    config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIG_DATABASE_URL", config_database.url)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    monkeypatch.delenv("SHOP_PASSWORD")
    definitions = rosetta_definitions([declared("shop")])
    dg.Definitions.validate_loadable(definitions)
    assert "rosetta_shop" == definitions.resolve_job_def("rosetta_shop").name
    assert [] == config_database.rows("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")


def test_the_definitions_sensor_writes_what_the_code_declares(
    store: Store, settings: Settings, instance: dg.DagsterInstance
) -> None:
    definitions = rosetta_definitions([declared("shop")])
    assert [] == store.shapes()
    assert "The definitions are current." == tick(definitions, instance).skip_message
    (shape,) = store.shapes()
    assert ("shop", "db", ["Sales.items", "public.orders"]) == (
        shape.name, shape.source.host, [str(table.id) for table in shape.tables],
    )  # fmt: skip


@pytest.mark.parametrize("is_branch", [True, False])
def test_a_branch_and_a_location_that_does_not_apply_write_nothing(
    store: Store, settings: Settings, instance: dg.DagsterInstance, is_branch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", str(int(is_branch)))
    tick(rosetta_definitions([declared("shop")], apply=is_branch), instance)
    assert [] == store.shapes()


def test_a_location_loads_from_saved_rows_while_the_database_is_down(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pipeline(store, "rows", source, source, "orders")
    tick(rosetta_definitions(), instance)

    def down(_: Settings) -> Store:
        raise StoreUnavailable("The configuration database cannot be reached.", "")

    monkeypatch.setattr(shapes, "configured_store", down)
    definitions = rosetta_definitions([declared("shop")])
    assert {"rosetta_rows", "rosetta_shop"} <= {job.name for job in definitions.resolve_all_job_defs()}
    assert {"destination_rows_dw", "source_shop_db"} <= (definitions.resources or {}).keys()
    assert dg.AssetKey(["rows_dw", "public", "orders"]) in definitions.resolve_asset_graph().materializable_asset_keys


class RefusesShop(RosettaTranslator):
    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        if data.pipeline.name == "shop":
            raise LookupError("no owner of shop")
        return super().get_asset_spec(data)


def test_a_translator_that_raises_for_one_pipeline_leaves_the_others(
    store: Store, settings: Settings, instance: dg.DagsterInstance, source: Database
) -> None:
    for name in ("shop", "other"):
        add_pipeline(store, name, source, source, f"of_{name}")
    definitions = build(store.shapes(), settings, translator=RefusesShop())
    dg.Definitions.validate_loadable(definitions)
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    assert "rosetta_other" in jobs
    assert "rosetta_shop" not in jobs
    stream = dg.AssetKey(["rosetta", "shop"])
    said = "Pipeline shop cannot be defined: LookupError: no owner of shop"
    assert said == definitions.resolve_asset_graph().get(stream).description
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(stream, "health")}
    )
    (evaluation,) = job.execute_in_process(instance=instance).get_asset_check_evaluations()
    assert (False, said) == (evaluation.passed, evaluation.description)


def test_a_row_with_a_wrong_schema_leaves_the_others(store: Store, settings: Settings, source: Database) -> None:
    for name in ("shop", "other"):
        add_pipeline(store, name, source, source, f"of_{name}")
    with store.connected() as connection:
        connection.execute("UPDATE destinations SET config = '{\"schema\": 7}' WHERE name = 'shop_dw'")
    definitions = build(store.shapes(), settings)
    assert {"rosetta_shop", "rosetta_other"} <= {job.name for job in definitions.resolve_all_job_defs()}


def test_a_variable_that_is_not_set_stops_its_own_pipeline_and_is_reported_once(
    store: Store, settings: Settings, instance: dg.DagsterInstance
) -> None:
    pipelines = [declared("broken", password_env="ABSENT_PASSWORD"), declared("shop")]
    definitions = rosetta_definitions(pipelines)
    first = tick(definitions, instance)
    assert ["shop"] == [shape.name for shape in store.shapes()]
    assert "ABSENT_PASSWORD" in first.skip_message
    (event,) = first.asset_events
    assert (dg.AssetKey(["rosetta", "broken"]), "health", False) == (event.asset_key, event.check_name, event.passed)
    assert [] == tick(definitions, instance, first.cursor).asset_events


def test_settings_may_be_variables(
    store: Store, settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_HOST", "there")
    monkeypatch.setenv("SHOP_PORT", "6000")
    pipeline = declared("shop", host=dg.EnvVar("SHOP_HOST"), port=dg.EnvVar.int("SHOP_PORT"))
    assert "The definitions are current." == tick(rosetta_definitions([pipeline]), instance).skip_message
    connection = store.source("shop_db").connection
    assert ("there", 6000) == (connection.host, connection.port)


def test_a_pipeline_stays_with_the_code_location_that_declares_it(
    store: Store, settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick_in(location: str, host: str) -> str:
        monkeypatch.setattr(definitions_sensor, "location_name", lambda _: location)
        monkeypatch.setattr(definitions_sensor, "reload_code_location", lambda _: None)
        return str(tick(rosetta_definitions([declared("shop", host=host)]), instance).skip_message)

    assert "The definitions are current." == tick_in("first", "db")
    said = tick_in("second", "another")
    assert "Code location first declares pipeline shop too, so this one leaves it alone." in said
    assert "The definitions are current." == tick_in("first", "db")
    assert "db" == store.source("shop_db").connection.host
    # After the location was renamed.
    with store.connected() as connection:
        connection.execute("UPDATE pipelines SET declared_in = NULL WHERE name = 'shop'")
    tick_in("second", "another")
    assert "another" == store.source("shop_db").connection.host


def test_each_configuration_database_has_its_own_saved_rows(
    store: Store, settings: Settings, source: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pipeline(store, "shop", source, source, "orders")
    url = "postgresql://u:secret@db/rosetta?password=secret&options=-csearch_path%3D"
    for schema in ("one", "two"):
        monkeypatch.setenv("CONFIG_DATABASE_URL", url + schema)
        shapes.save_shapes(read_settings(), store.shapes())
    assert 2 == len(list((tmp_path / "rosetta").iterdir()))
