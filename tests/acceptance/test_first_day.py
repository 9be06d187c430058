"""A team's first day: it materializes tables and what it makes from them, pauses, wipes and restarts, over GraphQL."""

import json
from typing import Any

import pytest

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.demo.environment import PIPELINE
from tests.acceptance.test_downstream import materializations
from tests.support.database import Database
from tests.support.deployment import Deployment

_LAUNCH = """
mutation ($run: ExecutionParams!) { launchRun(executionParams: $run) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }
"""

_RUN = """
query ($run: ID!) { runOrError(runId: $run) { ... on Run { status eventConnection { events {
  ... on ExecutionStepFailureEvent { failureMetadata { description metadataEntries {
    label ... on TextMetadataEntry { text } } } error { message } } } } } } }
"""

_STALE = "query ($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) { assetKey { path } staleStatus } }"

_WIPE = """
mutation ($ranges: [PartitionsByAssetSelector!]!) { wipeAssets(assetPartitionRanges: $ranges) {
  __typename ... on PythonError { message } } }
"""

ORDERS, CUSTOMERS, PRODUCTS = (("warehouse", "public", name) for name in ("orders", "customers", "products"))
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


class Team:
    """What a team does in the UI."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def launch(self, job: str, *keys: tuple[str, ...], **config: Any) -> str:
        """Launch a run of a job, or of some of its assets. Return its id."""
        selector: dict[str, Any] = {
            "repositoryLocationName": "rosetta", "repositoryName": "__repository__", "jobName": job,
        }  # fmt: skip
        if keys:
            selector |= {"assetSelection": [{"path": list(key)} for key in keys], "assetCheckSelection": []}
        run_config = {"ops": {f"tables_{PIPELINE}": {"config": config}}} if config else {}
        run = {"selector": selector, "runConfigData": json.dumps(run_config)}
        told = self._deployment.graphql._query(_LAUNCH, {"run": run})["launchRun"]
        assert "LaunchRunSuccess" == told["__typename"], told
        return str(told["run"]["runId"])

    def end_of(self, run_id: str) -> tuple[str, str]:
        """Wait until a run ends. Return its status, and what its failed step says."""
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(self._deployment.graphql._query(_RUN, {"run": run_id}).get("runOrError", {}))
            return found.get("status") in ENDED

        self._deployment.environment.wait_for("The end of the run", has_ended, 180)
        failures = [event["failureMetadata"] for event in found["eventConnection"]["events"] if event.get("failureMetadata")]
        texts = [entry.get("text", "") for failure in failures for entry in failure["metadataEntries"]]
        return found["status"], " ".join([*(failure["description"] for failure in failures), *texts])

    def materialize(self, *keys: tuple[str, ...], **config: Any) -> tuple[str, str]:
        return self.end_of(self.launch("__ASSET_JOB", *keys, **config))

    def stale(self, *keys: tuple[str, ...]) -> set[str]:
        nodes = self._deployment.graphql._query(_STALE, {"keys": [{"path": list(key)} for key in keys]})["assetNodes"]
        assert len(keys) == len(nodes)
        return {node["staleStatus"] for node in nodes}


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
    wiped = deployment.graphql._query(_WIPE, {"ranges": ranges})["wipeAssets"]
    assert "AssetWipeSuccess" == wiped["__typename"], wiped
    assert [] == materializations(deployment, *CUSTOMERS)
    deployment.store.set_status(PIPELINE, Status.REFRESH)
    wait_for("A new run", lambda: deployment.state(PIPELINE).run_id != stream, 120)
    wait_for("The wiped table", lambda: bool(materializations(deployment, *CUSTOMERS)), 120)
    assert {"FRESH"} == team.stale(ORDERS, CUSTOMERS, PRODUCTS)

    # A pause ends the stream, and its checks stay shown.
    deployment.store.set_status(PIPELINE, Status.PAUSE)
    deployment.wait_until_stopped(PIPELINE)
    assert "FAILURE" == team.materialize(ORDERS)[0]
    assert Status.PAUSE is deployment.store.status(PIPELINE)
