"""A pattern of tables is the same by SQL, Python, YAML, a file, commands and jobs, and Dagster shows what it finds."""

import dagster as dg
import pytest
import yaml

from rosetta_dagster.cdc.config.discovery import Discovery, row_of
from rosetta_dagster.cdc.config.pipeline import PipelineConfig, TableConfig
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.plan import changes, declare
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration import Pipeline, PostgresDestination, PostgresSource, RosettaPipelineComponent, Table
from rosetta_dagster.orchestration.administration import administration_jobs
from rosetta_dagster.orchestration.builder import build
from rosetta_dagster.orchestration.declarations import declarations
from rosetta_dagster.orchestration.shapes import with_declared
from rosetta_dagster.settings import Settings
from tests.support.command_line import Rosetta, assert_one_line
from tests.support.database import Database

SHOP = TableId("shop", "*")
WANTED = (TableConfig(id=SHOP, target_name="{schema}_{table}", exclude=("secret",), where="tenant = 7"),)

YAML = """
name: shop
source: {name: db, host: h, database: d, username: u, password_env: SHOP_PASSWORD}
destinations: [{name: dw, host: h, database: d, username: u, password_env: SHOP_PASSWORD}]
tables: [orders, {name: shop.*, target: '{schema}_{table}', exclude: [secret], where: tenant = 7}]
exclude_tables: [shop.tmp_*]
max_tables: 7
"""


def declared_in_code(**changed: object) -> Pipeline:
    place = {"host": "h", "database": "d", "username": "u", "password_env": "SHOP_PASSWORD"}
    fields: dict[str, object] = {
        "name": "shop",
        "source": PostgresSource(name="db", **place),
        "destinations": [PostgresDestination(name="dw", **place)],
        "tables": ["orders", Table("shop.*", target="{schema}_{table}", exclude=["secret"], where="tenant = 7")],
        "exclude_tables": ["shop.tmp_*"],
        "max_tables": 7,
        **changed,
    }
    return Pipeline(**fields)  # type: ignore[arg-type]


def find(store: Store, *tables: str) -> None:
    """Write what a run finds at the source."""
    config = store.pipeline("shop")
    rows = tuple(row_of(config.patterns[0], TableId.parse(table)) for table in tables)
    store.put_discovery(config.id, Discovery(tables=rows, skipped={TableId("shop", "keyless"): "It has no primary key."}))


def names(config: PipelineConfig) -> list[str]:
    return [str(table.id) for table in config.tables]


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "a password")


def test_every_surface_writes_the_same_pattern(
    rosetta: Rosetta, shop: Database, store: Store, config_database: Database
) -> None:
    assert 0 == rosetta("table", "add", "shop", "shop.*", "--exclude", "secret", "--where", "tenant = 7").code
    document = yaml.safe_load(rosetta("export").out)
    assert {"table": "shop.*", "exclude": ["secret"], "where": "tenant = 7"} in document["pipelines"]["shop"]["tables"]
    config_database.run("UPDATE pipeline_patterns SET target_name = '{schema}_{table}'")
    assert WANTED == store.pipeline("shop").patterns
    assert_one_line(rosetta("table", "add", "shop", "shop.*"), "has the table shop.* already")
    assert_one_line(rosetta("table", "add", "shop", "shop.%*"), "only * and ? are wildcards")
    assert_one_line(rosetta("pipeline", "edit", "shop", "--exclude-tables", "shop.[a-z]"), "--exclude-tables")
    assert 0 == rosetta("pipeline", "edit", "shop", "--exclude-tables", "shop.tmp_*", "--max-tables", "7").code
    edited = store.pipeline("shop")
    assert (("shop.tmp_*",), 7) == (edited.exclude_tables, edited.max_tables)
    config_database.run("DELETE FROM pipeline_patterns")
    (job,) = [job for job in administration_jobs({}) if job.name == "rosetta__add_table"]
    given = {"pipeline": "shop", "table": "shop.*", "exclude": ["secret"], "where": "tenant = 7"}
    config = {"ops": {"add_table": {"config": {**given, "target_name": "{schema}_{table}"}}}}
    assert job.execute_in_process(config).success
    assert WANTED == store.pipeline("shop").patterns


def test_python_and_yaml_declare_the_same_patterns(store: Store) -> None:
    from_yaml = RosettaPipelineComponent.resolve_from_yaml(YAML).pipeline
    wanted = declarations([declared_in_code()])
    assert wanted.pipelines == declarations([from_yaml]).pipelines
    declare(store, wanted)
    config = store.pipeline("shop")
    assert (WANTED, ["public.orders"], ("shop.tmp_*",), 7) == (
        config.patterns, names(config), config.exclude_tables, config.max_tables,
    )  # fmt: skip
    find(store, "shop.orders", "shop.items")
    assert [] == changes(store, wanted), "what a pattern has found is no difference"
    (difference,) = declare(store, declarations([declared_in_code(tables=["shop.*", "shop.items"])]))
    assert "table shop.*: where: tenant = 7 -> none" in difference.details
    assert "table shop.items: added" in difference.details
    assert {"shop.items": None, "shop.orders": True} == {
        str(table.id): table.by_pattern and True for table in store.pipeline("shop").tables
    }
    declare(store, declarations([declared_in_code(tables=["shop.*"], exclude_tables=["shop.o*"])]))
    assert [] == names(store.pipeline("shop"))


def test_a_table_that_a_pattern_found_is_shown_and_taken_out_by_its_name(
    rosetta: Rosetta, shop: Database, store: Store
) -> None:
    assert 0 == rosetta("table", "add", "shop", "shop.*").code
    find(store, "shop.items", "shop.orders")
    shown = rosetta("status", "shop").out
    assert "shop.items" in shown
    assert "skipped:\n  shop.keyless: It has no primary key." in shown
    assert 0 == rosetta("table", "rm", "shop", "shop.items").code
    config = store.pipeline("shop")
    assert (("shop.items",), ["public.orders", "shop.orders"]) == (config.exclude_tables, names(config))
    # Who names a table wants it as it is named.
    assert 0 == rosetta("table", "add", "shop", "shop.orders", "--where", "id > 1").code
    assert ["public.orders", "shop.orders"] == names(store.pipeline("shop"))
    assert 0 == rosetta("table", "rm", "shop", "shop.*").code
    assert ["public.orders", "shop.orders"] == names(store.pipeline("shop"))
    assert 0 == rosetta("table", "rm", "shop", "shop.orders").code
    assert ("shop.items",) == store.pipeline("shop").exclude_tables


def test_tables_that_a_pattern_found_are_assets_of_a_declared_pipeline(store: Store, settings: Settings) -> None:
    pipeline = declared_in_code(tables=[Table("shop.*", target="{schema}_{table}")])
    declare(store, declarations([pipeline]))
    before = with_declared(store.shapes(), [pipeline])
    dg.Definitions.validate_loadable(build(before, settings))
    find(store, "shop.items", "shop.tmp_1", "other.items")
    after = with_declared(store.shapes(), [pipeline])
    assert before != after, "the sensor loads the definitions again"
    assert ["shop.items"] == [str(table.id) for table in after[0].tables]
    keys = build(after, settings).resolve_asset_graph().get_all_asset_keys()
    assert 2 == sum(key.path[-1] in ("items", "shop_items") for key in keys), "at the source and at the destination"


@pytest.mark.usefixtures("shop")
def test_a_table_that_a_pattern_masks_is_not_added_without_a_mask(rosetta: Rosetta, store: Store) -> None:
    assert 0 == rosetta("table", "add", "shop", "shop.*", "--mask", "email=hash").code
    find(store, "shop.customers")
    assert_one_line(rosetta("table", "add", "shop", "shop.customers"), "masks columns of table shop.customers (email)")
    assert 0 == rosetta("table", "add", "shop", "shop.customers", "--mask", "email=redact").code
