"""A team's first day: it materializes tables and what it makes from them, pauses, wipes and restarts, over GraphQL."""

import pytest

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.demo.environment import PIPELINE
from tests.support.database import Database
from tests.support.deployment import Deployment
from tests.support.team import WIPE, Team, materializations

ORDERS, CUSTOMERS, PRODUCTS = (("warehouse", "public", name) for name in ("orders", "customers", "products"))


@pytest.mark.timeout(600)
def test_a_team_materializes_pauses_wipes_and_restarts(deployment: Deployment) -> None:
    team, wait_for = Team(deployment), deployment.environment.wait_for
    shop, warehouse = (Database(url=deployment.environment.postgres.url(name)) for name in ("shop", "warehouse"))

    # A paused pipeline stays paused, and the run says how to start it.
    status, said = team.materialize(ORDERS)
    assert "FAILURE" == status
    assert f"rosetta start {PIPELINE}" in said
    assert Status.PAUSE is deployment.store.status(PIPELINE)

    # Its own job starts it.
    stream = team.launch(f"rosetta_{PIPELINE}")
    deployment.wait_until_streaming(PIPELINE)
    assert Status.START is deployment.store.status(PIPELINE)

    # One table; all tables with what is made from them: each run ends, and has what was committed before it.
    shop.run("INSERT INTO orders (customer_id) SELECT 1 FROM generate_series(1, 7)")
    assert ("SUCCESS", "") == team.materialize(ORDERS)
    assert shop.rows("SELECT count(*) FROM orders") == warehouse.rows("SELECT count(*) FROM orders")
    assert ("SUCCESS", "") == team.materialize(ORDERS, CUSTOMERS, PRODUCTS, ("order_report",), ("product_report",))
    assert ("SUCCESS", "") == team.materialize(CUSTOMERS, resync=True)
    assert {"FRESH"} == team.stale(ORDERS, CUSTOMERS, PRODUCTS)

    # A second launch of the stream leaves the first alone.
    assert ("SUCCESS", "") == team.end_of(team.launch(f"rosetta_{PIPELINE}"))
    assert stream == deployment.state(PIPELINE).run_id

    # What was wiped is there again after a restart, and no quiet table is stale.
    ranges = [{"assetKey": {"path": list(CUSTOMERS)}, "partitions": None}]
    wiped = deployment.graphql._query(WIPE, {"ranges": ranges})["wipeAssets"]
    assert "AssetWipeSuccess" == wiped["__typename"], wiped
    assert [] == materializations(deployment, *CUSTOMERS)
    deployment.store.set_status(PIPELINE, Status.REFRESH)
    wait_for("A new run", lambda: deployment.state(PIPELINE).run_id != stream, 120)
    wait_for("The wiped table", lambda: bool(materializations(deployment, *CUSTOMERS)), 120)
    # Dagster shows the status a moment after the event.
    wait_for("Fresh tables", lambda: team.stale(ORDERS, CUSTOMERS, PRODUCTS) == {"FRESH"}, 60)

    # A pause ends the stream, and its checks stay shown.
    deployment.store.set_status(PIPELINE, Status.PAUSE)
    deployment.wait_until_stopped(PIPELINE)
    assert "FAILURE" == team.materialize(ORDERS)[0]
    assert Status.PAUSE is deployment.store.status(PIPELINE)
