"""What is made from replicated tables, by Dagster's own daemon: materialized again when its tables changed, and only then.

On the way the pipeline is refreshed with another engine.
"""

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.demo.environment import PIPELINE
from tests.support.database import Database
from tests.support.deployment import Deployment
from tests.support.team import materializations


def refresh(deployment: Deployment, engine: Engine) -> None:
    """Ask for a new run with this engine, and wait until it streams."""
    run_id = deployment.state(PIPELINE).run_id
    with deployment.store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = %s, status = 'REFRESH' WHERE name = %s", [engine, PIPELINE])
    deployment.environment.wait_for("A new run", lambda: deployment.state(PIPELINE).run_id != run_id, 180)
    deployment.wait_until_streaming(PIPELINE)
    assert Status.START is deployment.state(PIPELINE).status
    assert (engine is Engine.DEBEZIUM) is bool(deployment.workers())


def test_an_asset_is_materialized_again_only_when_one_of_its_tables_changed(deployment: Deployment) -> None:
    shop = Database(url=deployment.environment.postgres.url("shop"))
    shop.run("COMMENT ON TABLE products IS 'What is sold.'", "COMMENT ON COLUMN products.name IS 'As on the label.'")

    def report_counts() -> tuple[int, int]:
        return len(materializations(deployment, "order_report")), len(materializations(deployment, "product_report"))

    deployment.store.set_status(PIPELINE, Status.START)
    deployment.environment.wait_for("The first reports", lambda: report_counts() == (1, 1), 180)
    (copied,) = materializations(deployment, "warehouse", "public", "products")
    described = {entry["label"]: entry for entry in copied["metadataEntries"]}
    columns = described["dagster/column_schema"]["schema"]["columns"]
    assert ("name", "As on the label.") in [(column["name"], column["description"]) for column in columns]

    lineage = {entry["columnName"]: entry["columnDeps"] for entry in described["dagster/column_lineage"]["lineage"]}
    assert [{"assetKey": {"path": ["shop", "public", "products"]}, "columnName": "name"}] == lineage["name"]

    # No table has a materialization of the new run yet: the one that stays quiet must not hold up the other.
    refresh(deployment, Engine.PGOUTPUT)
    shop.run("INSERT INTO orders (customer_id) SELECT 1 FROM generate_series(1, 7)")
    deployment.environment.wait_for("The second report", lambda: report_counts()[0] == 2, 120)
    changed, *before = materializations(deployment, "warehouse", "public", "orders")
    told = {entry["label"]: entry for entry in changed["metadataEntries"]}
    assert 7 == told["rows_inserted"]["intValue"]
    assert 0 == told["rows_updated"]["intValue"]
    assert told["source_commit_time"]["timestamp"]
    version = {tag["key"]: tag["value"] for tag in changed["tags"]}["dagster/data_version"]
    assert version == told["lsn"]["text"]
    assert 1 == len(before)
    assert 1 == len(materializations(deployment, "warehouse", "public", "customers"))

    deployment.store.set_status(PIPELINE, Status.PAUSE)
    deployment.wait_until_stopped(PIPELINE)
    with deployment.store.connected() as connection:
        connection.execute("UPDATE pipelines SET engine = %s WHERE name = %s", [Engine.DEBEZIUM, PIPELINE])
    assert (2, 1) == report_counts()
