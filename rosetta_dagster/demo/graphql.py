"""Queries Dagster's webserver for what the demo shows."""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

_JOBS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name } } } } }"

_CHECKS = """
query ($path: [String!]!, $check: String!) {
  assetCheckExecutions(assetKey: {path: $path}, checkName: $check, limit: 1) {
    status timestamp
    evaluation { success severity description metadataEntries { label ... on IntMetadataEntry { intValue } } }
  }
}
"""

_RUNS = """
query ($pipeline: String!) {
  runsOrError(filter: {tags: [{key: "rosetta/pipeline", value: $pipeline}]}) { ... on Runs { results { runId status } } }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckExecution:
    """The last evaluation of a check."""

    timestamp: float
    passed: bool
    description: str | None
    figures: dict[str, int]


class GraphQL:
    """Dagster's webserver. An answer that does not come is treated as an empty one."""

    def __init__(self, url: str) -> None:
        self._url = url

    def has_job(self, name: str) -> bool:
        data = self._query(_JOBS, {})
        nodes = data.get("repositoriesOrError", {}).get("nodes", [])
        return any(job["name"] == name for node in nodes for job in node["jobs"])

    def last_check(self, pipeline: str, check: str) -> CheckExecution | None:
        """Return the last evaluation of one of a pipeline's checks; None before the first."""
        data = self._query(_CHECKS, {"path": ["rosetta", pipeline], "check": check})
        found = [execution for execution in data.get("assetCheckExecutions", []) if execution["evaluation"]]
        if not found:
            return None
        evaluation = found[0]["evaluation"]
        return CheckExecution(
            timestamp=found[0]["timestamp"],
            passed=evaluation["success"],
            description=evaluation["description"],
            figures={
                entry["label"]: entry["intValue"]
                for entry in evaluation["metadataEntries"]
                if entry.get("intValue") is not None
            },
        )

    def run_statuses(self, pipeline: str) -> list[str]:
        """Return the statuses of a pipeline's runs, the newest first."""
        runs = self._query(_RUNS, {"pipeline": pipeline}).get("runsOrError", {}).get("results", [])
        return [run["status"] for run in runs]

    def _query(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the demo's own webserver
            f"{self._url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - see above
                answer: dict[str, Any] = json.load(response)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError):
            return {}
        return answer.get("data") or {}
