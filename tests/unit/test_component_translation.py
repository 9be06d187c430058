"""A component describes the assets of its own pipeline, by its YAML or by a class of the project."""

from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from rosetta_dagster import DestinationTable, RosettaPipelineComponent, SourceTable, Stream

YAML = """
name: {name}
source: {{name: {name}_db, host: db, database: shop, username: u, password_env: SHOP_PASSWORD}}
destinations: [{{name: {name}_dw, type: POSTGRES, host: dw, database: d, username: u}}]
tables: [orders]
"""

TRANSLATION = """
translation:
  group_name: replicas
  owners: ["team:data"]
  tags: {pipeline: "{{ data.pipeline.name }}"}
  key_prefix: "{{ data.pipeline.name }}"
"""


class Described(RosettaPipelineComponent):
    def get_asset_spec(self, data: SourceTable | Stream | DestinationTable) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(description="By code.") if isinstance(data, DestinationTable) else spec


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFIG_DATABASE_URL", raising=False)


def definitions(*components: RosettaPipelineComponent) -> dg.Definitions:
    """The definitions of a project with these components."""
    tree = SimpleNamespace(get_all_components=lambda *, of_type: [each for each in components if isinstance(each, of_type)])
    context = cast(Any, SimpleNamespace(component_tree=tree))
    return dg.Definitions.merge(*(component.build_defs(context) for component in components))


def test_the_translation_of_a_component_is_of_its_pipeline_alone() -> None:
    shop = RosettaPipelineComponent.resolve_from_yaml(YAML.format(name="shop") + TRANSLATION)
    other = RosettaPipelineComponent.resolve_from_yaml(YAML.format(name="other"))
    for components in ((shop, other), (other, shop)):
        made = definitions(*components)
        dg.Definitions.validate_loadable(made)
        graph = made.resolve_asset_graph()
        table = graph.get(dg.AssetKey(["shop", "shop_dw", "public", "orders"]))
        assert ("replicas", ["team:data"], "shop") == (table.group_name, table.owners, table.tags["pipeline"])
        assert {dg.AssetKey(["shop", "rosetta", "shop"])} == table.parent_keys
        assert "other" == graph.get(dg.AssetKey(["other_dw", "public", "orders"])).group_name


def test_a_class_of_the_project_describes_its_assets() -> None:
    shop = Described.resolve_from_yaml(YAML.format(name="shop"))
    table = definitions(shop).resolve_asset_graph().get(dg.AssetKey(["shop_dw", "public", "orders"]))
    assert "By code." == table.description
