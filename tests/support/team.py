"""What a team does in the UI of a running Dagster, over GraphQL."""

import json
from typing import Any

from rosetta_dagster.demo.environment import PIPELINE
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

WIPE = """
mutation ($ranges: [PartitionsByAssetSelector!]!) { wipeAssets(assetPartitionRanges: $ranges) {
  __typename ... on PythonError { message } } }
"""

_MATERIALIZATIONS = """
query ($path: [String!]!) {
  assetOrError(assetKey: {path: $path}) { ... on Asset { assetMaterializations(limit: 20) {
    runId tags { key value } metadataEntries {
      label ... on IntMetadataEntry { intValue } ... on TextMetadataEntry { text }
      ... on TimestampMetadataEntry { timestamp }
      ... on TableSchemaMetadataEntry { schema { columns { name description } } }
      ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { assetKey { path } columnName } } }
    }
  } } }
}
"""


#: The statuses of a run that has ended.
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


def materializations(deployment: Deployment, *path: str) -> list[dict[str, Any]]:
    """The materializations of an asset, the newest first."""
    found = deployment.graphql._query(_MATERIALIZATIONS, {"path": list(path)})
    told: list[dict[str, Any]] = found.get("assetOrError", {}).get("assetMaterializations", [])
    return told
