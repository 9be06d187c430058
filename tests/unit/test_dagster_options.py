"""What code says of a pipeline for Dagster alone, and what of it a code location defines."""

from typing import Any

import dagster as dg
import pytest
from dagster_shared.libraries import DagsterLibraryRegistry

import rosetta_dagster
from rosetta_dagster import (
    DestinationTable,
    Pipeline,
    PostgresDestination,
    PostgresSource,
    RosettaPipelineComponent,
    RosettaTranslator,
    SourceTable,
    Stream,
    build_rosetta_asset_specs,
)
from rosetta_dagster.orchestration.shapes import with_declared
from rosetta_dagster.testing import definitions

SOURCE = dg.AssetKey(["shop_db", "public", "orders"])
STREAM = dg.AssetKey(["rosetta", "shop"])
REPLICA = dg.AssetKey(["shop_dw", "public", "orders"])


def declared(name: str = "shop", **options: Any) -> Pipeline:
    return Pipeline(
        name=name,
        source=PostgresSource(name=f"{name}_db", host="db", database="shop", username="u", password_env="SHOP_PASSWORD"),
        destinations=[PostgresDestination(name=f"{name}_dw", host="dw", database="d", username="u")],
        tables=["orders"],
        **options,
    )


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFIG_DATABASE_URL", raising=False)


def test_the_options_of_a_pipeline_reach_its_run_and_its_assets() -> None:
    kubernetes = {"container_config": {"resources": {"limits": {"memory": "2Gi"}}}}
    pipeline = declared(
        run_tags={"dagster-k8s/config": kubernetes, "rosetta/pipeline": "mine", "team": "data"},
        op_tags={"cost": "high"},
        pool="sources",
        owners=["team:data"],
        group_name="replicas",
        tags={"tier": "gold"},
    )
    made = definitions([pipeline])
    dg.Definitions.validate_loadable(made)
    job = made.resolve_job_def("rosetta_shop")
    assert "data" == job.run_tags["team"]
    assert "2Gi" in job.run_tags["dagster-k8s/config"]
    assert ("shop", "0") == (job.run_tags["rosetta/pipeline"], job.run_tags["dagster/max_retries"])
    (node,) = job.nodes
    assert isinstance(node.definition, dg.OpDefinition)
    assert ("high", "sources") == (node.definition.tags["cost"], node.definition.pool)
    graph = made.resolve_asset_graph()
    assert {"replicas"} == {graph.get(key).group_name for key in (SOURCE, STREAM, REPLICA)}
    for key in (STREAM, REPLICA):
        assert (["team:data"], "gold") == (graph.get(key).owners, graph.get(key).tags["tier"])
        assert "shop" == graph.get(key).tags["rosetta/pipeline"]


YAML = """
name: shop
source: {name: shop_db, host: db, database: shop, username: u, password_env: SHOP_PASSWORD}
destinations: [{name: shop_dw, type: POSTGRES, host: dw, database: d, username: u}]
tables: [orders]
owners: ["team:{{ env.TEAM }}"]
run_tags: {dagster-k8s/config: {container_config: {image: x}}}
pool: sources
"""


def test_the_options_may_stand_in_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", "data")
    pipeline = RosettaPipelineComponent.resolve_from_yaml(YAML).pipeline
    specs = {spec.key: spec for spec in build_rosetta_asset_specs([pipeline])}
    assert ["team:data"] == specs[REPLICA].owners
    options = pipeline.dagster_options()
    assert ("sources", {"container_config": {"image": "x"}}) == (options.pool, options.run_tags["dagster-k8s/config"])


class Marked(RosettaTranslator):
    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        return super().get_asset_spec(data).merge_attributes(owners=["team:platform"])


def test_the_options_come_beside_what_a_translator_says() -> None:
    specs = {spec.key: spec for spec in build_rosetta_asset_specs([declared(owners=["team:data"])], Marked())}
    assert {SOURCE, STREAM, REPLICA} == specs.keys()
    assert ["team:platform", "team:data"] == specs[REPLICA].owners
    assert ["team:platform"] == specs[SOURCE].owners
    assert ([SOURCE], [STREAM]) == (
        [dep.asset_key for dep in specs[STREAM].deps], [dep.asset_key for dep in specs[REPLICA].deps],
    )  # fmt: skip


def test_a_location_defines_the_rows_that_it_includes_and_what_it_declares() -> None:
    rows = with_declared([], [declared("shop"), declared("eu_shop"), declared("us_shop")])

    def names(include: list[str] | None) -> list[str]:
        return [shape.name for shape in with_declared(rows, [declared("own")], include)]

    assert ["eu_shop", "own", "shop", "us_shop"] == names(None)
    assert ["eu_shop", "own"] == names(["eu_*"])
    assert ["own", "shop"] == names(["shop"])
    assert ["own"] == names([])


def test_an_asset_that_writes_a_source_table_may_be_defined_beside_it() -> None:
    @dg.asset(key=SOURCE)
    def orders() -> None: ...

    own = dg.Definitions(assets=[orders])
    merged = dg.Definitions.merge(definitions([declared()], source_assets=False), own)
    dg.Definitions.validate_loadable(merged)
    assert {SOURCE} == merged.resolve_asset_graph().get(STREAM).parent_keys
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="shop_db"):
        dg.Definitions.validate_loadable(dg.Definitions.merge(definitions([declared()]), own))


def test_dagster_knows_the_version_of_the_library() -> None:
    assert rosetta_dagster.__version__ == DagsterLibraryRegistry.get()["rosetta-dagster"]
