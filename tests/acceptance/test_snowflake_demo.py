"""Two pipelines of one source, to PostgreSQL and to Snowflake: neither is in the way of the other."""

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.demo import shop
from rosetta_dagster.demo.environment import ANALYTICS, PIPELINE
from tests.support.database import Database
from tests.support.deployment import Deployment


def test_the_shop_reaches_snowflake_while_its_other_pipeline_is_paused(deployment: Deployment) -> None:
    environment = deployment.environment
    source = environment.postgres.url("shop")

    def is_equal() -> bool:
        return environment.snowflake.equal_rows(source, shop.TABLES) is not None

    for name in (PIPELINE, ANALYTICS):
        deployment.store.set_status(name, Status.START)
    for name in (PIPELINE, ANALYTICS):
        deployment.wait_until_streaming(name)
    before = environment.snowflake.equal_rows(source, shop.TABLES)
    deployment.store.set_status(PIPELINE, Status.PAUSE)
    deployment.wait_until_stopped(PIPELINE)
    shop.write_burst(source, 500)
    environment.wait_for("Equality at Snowflake", is_equal, 120)
    assert environment.snowflake.equal_rows(source, shop.TABLES) == (before or 0) + 1000
    assert environment.is_streaming(ANALYTICS)
    assert ["STARTED"] == deployment.graphql.run_statuses(ANALYTICS)
    deployment.store.set_status(PIPELINE, Status.START)
    deployment.wait_until_streaming(PIPELINE)
    warehouse = Database(url=environment.postgres.url("warehouse"))
    deployment.wait_until_equal(Database(url=source), warehouse, *(str(table) for table in shop.TABLES))
