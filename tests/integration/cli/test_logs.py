"""`rosetta logs`: what the newest run of a pipeline logged in Dagster, and nothing of other runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rosetta_dagster.orchestration.naming import PIPELINE_TAG
from tests.support.command_line import Rosetta, assert_one_line
from tests.support.database import Database


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as opened:
        yield opened


def run_of(instance: dg.DagsterInstance, pipeline: str, message: str, *, fails: bool = False) -> None:
    @dg.op
    def replicate(context: dg.OpExecutionContext) -> None:
        context.log.info(message)
        if fails:
            raise dg.Failure(description="The source cannot be reached.")

    @dg.job(tags={PIPELINE_TAG: pipeline})
    def job() -> None:
        replicate()

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    job.execute_in_process(quiet, instance=instance, raise_on_error=False)


def test_the_newest_run_of_the_pipeline_is_shown(rosetta: Rosetta, shop: Database, instance: dg.DagsterInstance) -> None:
    assert "No run of shop has logged anything yet." in rosetta("logs", "shop").out
    run_of(instance, "shop", "of an older run")
    run_of(instance, "shop", "SNAPSHOT has begun", fails=True)
    run_of(instance, "other", "of another pipeline")
    result = rosetta("logs", "shop")
    assert (0, "") == (result.code, result.err)
    assert "INFO      SNAPSHOT has begun" in result.out
    assert "The source cannot be reached." in result.out
    assert "ERROR" in result.out
    assert "older" not in result.out
    assert "another pipeline" not in result.out
    assert "STEP_WORKER" not in result.out
    (last,) = json.loads(rosetta("logs", "shop", "-n", "1", "--json").out)
    assert "ERROR" == last["level"]


def test_further_lines_and_further_runs_are_followed_until_ctrl_c(
    rosetta: Rosetta, shop: Database, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(instance, "shop", "the first run")
    later = iter(["the second run", None, None])

    def sleep(_: float) -> None:
        message = next(later, "")
        if message == "":
            raise KeyboardInterrupt
        if message is not None:
            run_of(instance, "shop", message)

    monkeypatch.setattr("rosetta_dagster.cli.logs.sleep", sleep)
    result = rosetta("logs", "shop", "--follow")
    assert (0, "") == (result.code, result.err)
    assert 1 == result.out.count("the first run")
    assert 1 == result.out.count("the second run")


def test_without_a_home_of_dagster_one_line_says_so(
    rosetta: Rosetta, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert_one_line(rosetta("logs", "shop"), "DAGSTER_HOME is not set")
    assert_one_line(rosetta("logs", "ghost"), "There is no pipeline ghost")
