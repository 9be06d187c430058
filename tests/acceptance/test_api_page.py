"""Every command of docs/api.md, run as it is written, against a real webserver."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from rosetta_dagster.cdc.config.pipeline import SchemaPolicy, Status
from rosetta_dagster.cdc.destination.snowflake.kind import SNOWFLAKE
from tests.support.database import Database
from tests.support.deployment import Deployment, digests

PAGE = Path(__file__).parents[2] / "docs" / "api.md"

_RUN = """
query ($run: ID!) {
  runOrError(runId: $run) { ... on Run { status eventConnection { events {
    ... on ExecutionStepFailureEvent { failureMetadata { description } error { message } } } } } }
}
"""


def database(deployment: Deployment, name: str) -> Database:
    return Database(url=deployment.environment.postgres.url(name))


def commands() -> list[tuple[str, str]]:
    """The page's commands in order, each with the heading above it. The first block of the page is not one."""
    found: list[tuple[str, str]] = []
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        found += [(heading, block) for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]
    return found


def answer(deployment: Deployment, command: str) -> Any:
    environment = {
        **os.environ,
        "DAGSTER": deployment.environment.url,
        "DEMO_PORT": str(deployment.environment.postgres.port),
        "DEMO_SNOWFLAKE_PORT": str(deployment.environment.snowflake.port),
    }
    ran = subprocess.run(["bash", "-euc", command], env=environment, capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(ran.stdout)
    assert "errors" not in told, told
    return told["data"]


def launched(data: Any) -> str:
    """The run that was launched."""
    told = data["launchRun"]
    assert "LaunchRunSuccess" == told["__typename"], told
    return str(told["run"]["runId"])


def finish(deployment: Deployment, run_id: str) -> None:
    """Wait until the run has succeeded."""

    def has_ended() -> bool:
        run = deployment.graphql._query(_RUN, {"run": run_id}).get("runOrError", {})
        assert run.get("status") not in ("FAILURE", "CANCELED"), run
        return bool(run.get("status") == "SUCCESS")

    deployment.environment.wait_for("The run", has_ended, 180)


def test_every_command_of_the_page_does_what_it_says(deployment: Deployment) -> None:
    page = iter(commands())

    def answers(heading: str) -> Any:
        found, command = next(page)
        assert heading == found
        return answer(deployment, command)

    def run(*headings: str) -> None:
        """Launch them one after the other, without waiting in between, and wait for all of them."""
        for run_id in [launched(answers(heading)) for heading in headings]:
            finish(deployment, run_id)

    def equal(*tables: tuple[str, str]) -> bool:
        shop, warehouse = database(deployment, "shop"), database(deployment, "warehouse")
        return digests(shop, *[s for s, _ in tables]) == digests(warehouse, *[f"archive.{d}" for _, d in tables])

    run("Create a source", "Create a destination", "Create a Snowflake destination")
    lake = deployment.store.destination("lake")
    with SNOWFLAKE.session("lake", lake.config) as session:
        assert [("ANALYTICS", "LOADING")] == session.execute("SELECT CURRENT_DATABASE(), CURRENT_WAREHOUSE()")
    run("Create a pipeline")
    assert Status.PAUSE is deployment.store.status("archive")
    assert SchemaPolicy.STOP_TABLE is deployment.store.pipeline("archive").on_schema_change
    assert {"wal_warning_bytes": 10**9} == deployment.store.thresholds("archive")
    deployment.environment.wait_for("The job", lambda: deployment.graphql.has_job("rosetta_archive"), 120)
    nodes = answers("List the pipelines")["assetNodes"]
    assert "archive" in {node["assetKey"]["path"][1] for node in nodes if "stream" in node["kinds"]}

    run("Start, pause, restart")
    deployment.wait_until_streaming("archive")
    assert equal(("customers", "customers"), ("orders", "orders_kept"))
    runs = answers("See the runs of a pipeline")["runsOrError"]["results"]
    assert ["STARTED"] == [each["status"] for each in runs]
    checks = answers("Read a check")["assetCheckExecutions"]
    assert checks[0]["evaluation"]["success"]

    run("Add a table")
    there = "SELECT FROM pg_tables WHERE (schemaname, tablename) = ('archive', 'products')"

    def copied() -> bool:
        return bool(database(deployment, "warehouse").rows(there)) and equal(("products", "products"))

    deployment.environment.wait_for("The copy", copied, 120)
    destination = database(deployment, "warehouse")
    destination.run("DELETE FROM archive.products WHERE id = 1", "DELETE FROM archive.customers WHERE id = 1")
    run("Copy a table again")
    deployment.environment.wait_for("The copy", lambda: equal(("products", "products")), 120)
    assert not equal(("customers", "customers"))
    run("Compare source and destination")
    assert equal(("customers", "customers"))
    assert ["STARTED"] == deployment.graphql.run_statuses("archive")
    run("Pause", "Drop a pipeline")
    told = json.dumps(answers("Drop a pipeline"))
    assert "replication slot rosetta_archive" in told
    deployment.wait_until_stopped("archive")
    assert deployment.store.status("archive") is Status.PAUSE
    run("Drop a pipeline")
    assert deployment.store.status("archive") is None
    assert [] == database(deployment, "shop").rows("SELECT FROM pg_replication_slots WHERE slot_name = 'rosetta_archive'")
    assert next(page, None) is None
