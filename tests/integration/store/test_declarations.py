"""Pipelines in code and in YAML: what they write, what they leave alone, and what is shown before."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from typer.testing import CliRunner

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.plan import declare, plan, release_removed
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.main import app
from rosetta_dagster.orchestration import (
    Pipeline,
    PostgresDestination,
    PostgresSource,
    RosettaPipelineComponent,
    SnowflakeDestination,
    Table,
)
from rosetta_dagster.orchestration.declarations import declarations
from rosetta_dagster.settings import Settings
from tests.support.database import Database

DEFS_YAML = """
type: rosetta_dagster.orchestration.RosettaPipelineComponent
attributes:
  name: {name}
  source: {{name: db, host: 127.0.0.1, database: shop, username: rosetta, password_env: SHOP_PASSWORD}}
  destinations:
    - {{name: dw, host: 127.0.0.1, database: warehouse, username: rosetta, password_env: SHOP_PASSWORD, namespace: kept}}
  tables:
    - orders
    - name: Sales.items
      target: sold
"""

PYPROJECT = """
[project]
name = "shop"
version = "0.1.0"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "shop"
"""

DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> str:
    monkeypatch.setenv("SHOP_PASSWORD", "a planted secret")
    return "a planted secret"


def pipeline(*tables: str | Table, **changed: Any) -> Pipeline:
    reached: dict[str, Any] = {"host": "127.0.0.1", "username": "rosetta", "password": dg.EnvVar("SHOP_PASSWORD")}
    fields: dict[str, Any] = {
        "name": "shop",
        "source": PostgresSource(name="db", database="shop", **reached),
        "destinations": [PostgresDestination(name="dw", database="warehouse", **reached)],
        "tables": tables,
        **changed,
    }
    return Pipeline(**fields)


def declared(store: Store, *pipelines: Pipeline) -> list[str]:
    """Bring the rows in line; what had to be changed, a line for each row."""
    return [str(change).partition("\n")[0] for change in declare(store, declarations(pipelines))]


def touched(store: Store) -> Sequence[Any]:
    with store.connected() as connection:
        return connection.execute(
            "SELECT xmin::text FROM sources UNION ALL SELECT xmin::text FROM destinations"
            " UNION ALL SELECT xmin::text FROM pipelines UNION ALL SELECT xmin::text FROM pipeline_tables"
            " UNION ALL SELECT xmin::text FROM pipeline_progress"
        ).fetchall()


def test_rows_are_touched_only_when_the_code_changes_and_the_status_never(store: Store) -> None:
    assert ["add source db", "add destination dw", "add pipeline shop"] == declared(
        store, pipeline("orders", "customers", status="START")
    )
    assert Status.START is store.status("shop")
    store.set_status("shop", Status.PAUSE)
    # A pipeline that waits after a failure must go on waiting: what touches its row ends the wait.
    store.report_failure(store.state("shop").id, None, "It cannot be reached.", transient=True)
    before = touched(store)
    assert [] == declared(store, pipeline("orders", "customers", status="START"))
    assert before == touched(store)

    assert ["change pipeline shop"] == declared(store, pipeline("orders", status="START"))
    assert Status.PAUSE is store.status("shop")
    assert [TableId("public", "orders")] == [table.id for table in store.shapes()[0].tables]


def test_a_table_goes_where_the_code_says(store: Store) -> None:
    declared(store, pipeline(Table("orders", target="kept.old_orders"), Table("items", target="sold"), "customers"))
    shape = store.shapes()[0]
    targets = {str(table.id): str(shape.destinations[0].target_of(table)) for table in shape.tables}
    assert {
        "public.customers": "public.customers",
        "public.items": "public.sold",
        "public.orders": "kept.old_orders",
    } == targets
    declared(store, pipeline("orders"))
    assert [(None, None)] == [(t.target_namespace, t.target_name) for t in store.shapes()[0].tables]


def test_a_snowflake_destination_names_its_key_and_holds_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF_PASSPHRASE", "a planted passphrase")
    account: dict[str, Any] = {"name": "sf", "account": "myorg-dw", "user": "rosetta", "database": "ANALYTICS"}
    destination = SnowflakeDestination(
        **account,
        namespace="shop",
        private_key=dg.EnvVar("SHOP_PASSWORD"),
        private_key_passphrase=dg.EnvVar("SF_PASSPHRASE"),
        options={"deletes": "soft", "flush_seconds": 5},
    )
    assert ["add destination sf", "add pipeline shop", "add source db"] == sorted(
        declared(store, pipeline("orders", destinations=[destination]))
    )
    assert [] == declared(store, pipeline("orders", destinations=[destination]))
    assert {
        "account": "myorg-dw",
        "user": "rosetta",
        "database": "ANALYTICS",
        "schema": "shop",
        "private_key": os.environ["SHOP_PASSWORD"],
        "private_key_passphrase": "a planted passphrase",
        "deletes": "soft",
        "flush_seconds": 5,
    } == store.destination("sf").config
    assert "rosetta" not in repr(destination)
    assert "planted" not in repr(destination) + repr(destination.given())
    with pytest.raises(ConfigurationError, match="exactly one of private_key"):
        declarations([pipeline("orders", destinations=[SnowflakeDestination(**{**account, "name": "keyless"})])])
    for planted in ({"private_key": "a PEM"}, {"options": {"private_key": "a PEM"}}):
        with pytest.raises(ConfigurationError, match=r"private_key.*Dagster would store"):
            SnowflakeDestination(**account, **planted)


@pytest.mark.parametrize("options", [{"deletes": "maybe"}, {"flush_second": 5}], ids=["a wrong value", "a wrong name"])
def test_what_snowflake_would_refuse_is_refused_where_it_is_declared(store: Store, options: dict[str, Any]) -> None:
    destination = SnowflakeDestination(
        name="sf", account="myorg-dw", user="rosetta", database="A", private_key_path="rsa_key.p8", options=options
    )
    with pytest.raises(ConfigurationError, match=r"destination sf.*(deletes|flush_second)"):
        declarations([pipeline("orders", destinations=[destination])])


SNOWFLAKE_YAML = """
name: shop
source: {name: db, host: 127.0.0.1, database: shop, username: rosetta, password_env: SHOP_PASSWORD}
destinations:
  - {name: dw, host: 127.0.0.1, database: warehouse, username: rosetta, password_env: SHOP_PASSWORD}
  - name: sf
    account: myorg-dw
    user: rosetta
    database: ANALYTICS
    private_key_path: /etc/rosetta/rsa_key.p8
    private_key_passphrase_env: SF_PASSPHRASE
    options: {deletes: soft}
tables: [orders]
"""


def test_a_component_takes_snowflake_beside_postgres_and_the_plan_shows_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SF_PASSPHRASE", "a planted passphrase")
    component = RosettaPipelineComponent.resolve_from_yaml(SNOWFLAKE_YAML)
    told = "\n".join(map(str, plan(store, declarations([component.pipeline]))))
    assert "add destination sf\n    SNOWFLAKE" in told
    declared(store, component.pipeline)
    config = {
        "account": "myorg-dw",
        "user": "rosetta",
        "database": "ANALYTICS",
        "private_key_path": "/etc/rosetta/rsa_key.p8",
        "private_key_passphrase": "a planted passphrase",
        "deletes": "soft",
    }
    assert ("SNOWFLAKE", config) == (store.destination("sf").type, store.destination("sf").config)
    assert {"dw": "POSTGRES", "sf": "SNOWFLAKE"} == {each.name: each.type for each in store.shapes()[0].destinations}
    changed = SNOWFLAKE_YAML.replace("options: {deletes: soft}", "warehouse: LOADING")
    again = RosettaPipelineComponent.resolve_from_yaml(changed).pipeline
    assert ["change destination sf\n    deletes: soft -> none\n    warehouse: none -> LOADING"] == [
        str(change) for change in plan(store, declarations([again]))
    ]


def test_a_key_in_a_components_options_is_refused_and_not_repeated() -> None:
    planted = SNOWFLAKE_YAML.replace("deletes: soft", "private_key: hunter2")
    with pytest.raises(ConfigurationError, match="private_key_env") as caught:
        _ = RosettaPipelineComponent.resolve_from_yaml(planted).pipeline
    assert "hunter2" not in str(caught.value)


def test_the_plan_lists_every_difference_and_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    declared(store, pipeline("orders", "customers"))
    before = touched(store)
    monkeypatch.setenv("SHOP_PASSWORD", "another planted secret")
    wanted = pipeline(
        Table("orders", target="kept.orders"),
        "items",
        engine="PGOUTPUT",
        on_schema_change="STOP_TABLE",
        source=PostgresSource(
            name="db", host="10.0.0.1", database="shop", username="rosetta", password=dg.EnvVar("SHOP_PASSWORD")
        ),
    )
    told = "\n".join(map(str, plan(store, declarations([wanted]))))
    assert (
        "change source db\n"
        "    host: 127.0.0.1 -> 10.0.0.1\n"
        "    password: another one\n"
        "change destination dw\n"
        "    password: another one\n"
        "change pipeline shop\n"
        "    engine: DEBEZIUM -> PGOUTPUT\n"
        "    on_schema_change: APPLY -> STOP_TABLE\n"
        "    table public.customers: removed\n"
        "    table public.items: added\n"
        "    table public.orders: orders -> kept.orders"
    ) == told
    assert before == touched(store)


def test_what_the_code_no_longer_declares_is_paused_once_and_only_that(store: Store) -> None:
    for location, name in (("here", "shop"), ("here", "gone"), ("elsewhere", "other")):
        declared(store, pipeline("orders", name=name, status="START"))
        release_removed(store, location, ["shop", "gone"] if location == "here" else ["other"])
    with store.connected() as connection:
        connection.execute(
            "INSERT INTO pipelines (name, source_id, status) SELECT 'by_sql', id, 'START' FROM sources WHERE name = 'db'"
        )
    left = declarations([pipeline("orders")])
    assert ["pause pipeline gone\n    status: START -> PAUSE"] == [str(each) for each in plan(store, left)]
    assert [] == plan(store, left, location="nowhere")

    assert ["gone"] == release_removed(store, "here", ["shop"])
    assert {"shop": "START", "gone": "PAUSE", "other": "START", "by_sql": "START"} == statuses(store)
    store.set_status("gone", Status.START)
    assert [] == release_removed(store, "here", ["shop"])
    assert Status.START is store.status("gone")


def statuses(store: Store) -> dict[str, str]:
    return {state.name: str(state.status) for state in store.states()}


def test_a_password_in_the_code_is_refused_and_not_repeated() -> None:
    literal: Any = "hunter2"
    with pytest.raises(ConfigurationError, match="EnvVar") as caught:
        PostgresSource(name="db", host="h", database="d", username="u", password=literal)
    assert "hunter2" not in str(caught.value)


def test_code_that_contradicts_itself_is_refused() -> None:
    elsewhere = PostgresSource(name="db", host="10.0.0.1", database="shop", username="rosetta")
    with pytest.raises(ConfigurationError, match="PostgresSource db in two ways"):
        declarations([pipeline("orders"), pipeline("orders", name="other", source=elsewhere)])
    with pytest.raises(ConfigurationError, match="declares shop more than once"):
        declarations([pipeline("orders"), pipeline("items")])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of `dg` without any definitions yet."""
    (tmp_path / "src" / "shop" / "defs").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    for module in ("shop", "shop/defs"):
        (tmp_path / "src" / module / "__init__.py").touch()
    (tmp_path / "src" / "shop" / "definitions.py").write_text(DEFINITIONS)
    return tmp_path


def dg_command(project: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(project / "src"), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path, "DAGSTER_HOME": str(project), "DG_CLI_CONFIG": str(project / "none")}
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("dg")), *arguments],
        cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_dg_scaffolds_a_pipeline_checks_it_and_loads_it(
    project: Path, store: Store, monkeypatch: pytest.MonkeyPatch, config_database: Database
) -> None:
    monkeypatch.setenv("SOURCE_PASSWORD", "one")
    monkeypatch.setenv("DESTINATION_PASSWORD", "two")
    dg_command(project, "scaffold", "defs", "rosetta_dagster.orchestration.RosettaPipelineComponent", "orders")
    for name in ("shop", "second"):
        (project / "src" / "shop" / "defs" / name).mkdir()
        (project / "src" / "shop" / "defs" / name / "defs.yaml").write_text(DEFS_YAML.format(name=name))
    dg_command(project, "check", "yaml")
    dg_command(project, "check", "defs")
    dg_command(project, "list", "defs")
    assert [] == store.shapes(), "loading only reads"
    monkeypatch.syspath_prepend(str(project / "src"))
    applied = CliRunner().invoke(app, ["apply", str(project / "src" / "shop" / "definitions.py")])
    assert "add pipeline shop" in applied.output
    assert ["orders", "second", "shop"] == [shape.name for shape in store.shapes()]
    shape = store.shapes()[2]
    assert {"kept.orders", "kept.sold"} == {str(shape.destinations[0].target_of(table)) for table in shape.tables}
    assert [("CODE",)] == config_database.rows("SELECT DISTINCT managed_by FROM pipelines")

    yaml = project / "src" / "shop" / "defs" / "shop" / "defs.yaml"
    yaml.write_text(yaml.read_text().replace("- orders", "- customers"))
    told = CliRunner().invoke(app, ["plan", str(project / "src" / "shop" / "definitions.py")])
    assert "table public.customers: added" in told.output
    assert "table public.orders: removed" in told.output
    assert TableId("public", "orders") in [table.id for table in store.shapes()[2].tables]


def test_a_plan_of_nothing_says_so_and_a_wrong_file_is_reported(store: Store, tmp_path: Path) -> None:
    empty = tmp_path / "definitions.py"
    empty.write_text("import dagster as dg\nfrom rosetta_dagster.orchestration import rosetta_definitions\n"
                     "@dg.definitions\ndef defs():\n    return rosetta_definitions()\n")  # fmt: skip
    assert "Nothing to change" in CliRunner().invoke(app, ["plan", str(empty)]).output
    empty.write_text("")
    for target, message in ((str(empty), "holds no Dagster definitions"), (str(tmp_path / "absent.py"), "There is no file")):
        with pytest.raises(ConfigurationError, match=message):
            CliRunner().invoke(app, ["plan", target], catch_exceptions=False)


@pytest.mark.parametrize("variable", ["SECRET_KEY", "CONFIG_DATABASE_URL", "DAGSTER_PG_PASSWORD"])
def test_code_names_no_variable_of_the_project_itself(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "hunter2")
    source = PostgresSource(name="db", host="h", database="d", username="u", password_env=variable)
    with pytest.raises(ConfigurationError, match=f"password of db.*{variable} is one of Rosetta's") as caught:
        source.declared()
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("store", "settings", "password")
def test_a_component_of_a_project_takes_the_administration_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF_PASSPHRASE", "a planted passphrase")
    for line, has_jobs in (("", True), ("administration: true\n", True), ("administration: false\n", False)):
        component = RosettaPipelineComponent.resolve_from_yaml(SNOWFLAKE_YAML + line)
        tree = SimpleNamespace(get_all_components=lambda *, of_type, found=component: [found])
        definitions = component.build_defs(cast(Any, SimpleNamespace(component_tree=tree)))
        names = {job.name for job in definitions.resolve_all_job_defs()}
        assert has_jobs is ("rosetta__create_source" in names)
        assert "rosetta_shop" in names
