"""The code location of the acceptance tests: every pipeline, and what somebody else makes from replicated tables."""

import dagster as dg

from rosetta_dagster.orchestration import on_table_change, rosetta_definitions

ORDERS, CUSTOMERS, PRODUCTS = (dg.AssetKey(["warehouse", "public", name]) for name in ("orders", "customers", "products"))


@dg.asset(deps=[ORDERS, CUSTOMERS], automation_condition=on_table_change())
def order_report() -> None:
    """Made of a table that changes and one that does not."""


@dg.asset(deps=[PRODUCTS], automation_condition=on_table_change())
def product_report() -> None:
    """Made of a table that does not change."""


@dg.definitions
def defs() -> dg.Definitions:
    automation = dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.assets(order_report, product_report),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=2,
    )
    return dg.Definitions.merge(
        rosetta_definitions(), dg.Definitions(assets=[order_report, product_report], sensors=[automation])
    )
