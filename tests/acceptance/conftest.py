"""A real Dagster for the acceptance tests of one worker: webserver, daemon, code server, runs, on an embedded PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rosetta_dagster.demo.environment import DemoEnvironment
from tests.support.deployment import Deployment
from tests.support.webhook import webhook


# Ends with these tests: its processes would slow down the others, and its webhook is not theirs.
@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with webhook() as received, pytest.MonkeyPatch.context() as patched:
        patched.setenv("ROSETTA_ALERT_WEBHOOK", received.url)
        # The first demo of a directory announces itself there; the other worker's has its own.
        patched.chdir(tmp_path_factory.mktemp("demo"))
        with DemoEnvironment(definitions=Path(__file__).with_name("code_location.py")) as environment:
            yield Deployment(environment, received)


@pytest.fixture(autouse=True)
def paused_pipelines(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves running, or a test that failed, is not in the way of the next one."""
    yield
    if "deployment" in request.fixturenames:
        request.getfixturevalue("deployment").environment.pause_all()
