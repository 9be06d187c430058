"""What an operator does with pipelines, against real Dagster processes, and what must come of it."""

import html
import signal
from collections.abc import Iterator

import pytest

from rosetta_dagster.cdc.config.pipeline import Status
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from tests.support.database import Database
from tests.support.deployment import Deployment, digests

ITEMS = (
    "CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL, price numeric(12, 2), at timestamptz DEFAULT now())",
    "INSERT INTO items (id, name, price) SELECT n, 'item ' || n, n / 7.0 FROM generate_series(1, 100000) AS n",
)


@pytest.fixture(scope="module")
def life(deployment: Deployment) -> Iterator[tuple[Database, Database]]:
    """Source and destination of the pipeline `life`, which streams a table of 100,000 rows until a test pauses it."""
    source, destination = deployment.database("life_source"), deployment.database("life_destination")
    source.run(*ITEMS)
    deployment.add_pipeline("life", source, destination, "items", status=Status.START)
    deployment.wait_until_streaming("life", 180)
    yield source, destination
    deployment.environment.pause_all()


@pytest.fixture(autouse=True)
def paused_pipelines(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[None]:
    """Tests that share a running pipeline leave it to each other."""
    yield
    if "life" not in request.fixturenames:
        deployment.environment.pause_all()


def test_a_new_row_becomes_a_job_that_moves_100_000_rows_in_bounded_memory(
    deployment: Deployment, life: tuple[Database, Database]
) -> None:
    source, destination = life
    assert deployment.graphql.has_job("rosetta_life")
    source.run(
        "UPDATE items SET name = name || ' changed' WHERE id <= 50000",
        "DELETE FROM items WHERE id > 90000",
        "INSERT INTO items (id, name) SELECT n, 'new ' || n FROM generate_series(100001, 140000) AS n",
    )
    deployment.wait_until_equal(source, destination, "items")

    assert 100_000 == deployment.state("life").rows_copied
    deployment.environment.wait_for("The count", lambda: deployment.state("life").rows_applied == 100_000, 180)
    assert all(worker.memory_info().rss < 700 * 2**20 for worker in deployment.workers())


def test_a_killed_worker_is_started_again_and_loses_nothing(deployment: Deployment, life: tuple[Database, Database]) -> None:
    source, destination = life
    runs = len(deployment.graphql.run_statuses("life"))
    # Ten transactions, so that the kill comes between two applies.
    for part in range(10):
        source.run(f"UPDATE items SET price = 1, name = 'changed' WHERE id % 10 = {part}")
    first_changes = "SELECT count(*) FROM items WHERE name = 'changed'"
    deployment.environment.wait_for("The first changes", lambda: destination.rows(first_changes) > [(0,)], 120)
    (worker,) = deployment.workers()
    worker.send_signal(signal.SIGKILL)
    assert digests(source, "items") != digests(destination, "items")

    deployment.wait_until_equal(source, destination, "items", timeout=120)
    assert runs + 1 == len(deployment.graphql.run_statuses("life"))


def test_a_paused_pipeline_ends_its_run_soon_and_leaves_no_process(
    deployment: Deployment, life: tuple[Database, Database]
) -> None:
    assert deployment.workers()
    deployment.store.set_status("life", Status.PAUSE)
    assert deployment.wait_until_stopped("life") < 10
    assert "STOPPED" == deployment.state("life").run_status
    deployment.environment.wait_for("The end of the worker", lambda: not deployment.workers(), 180)
    assert 0 == deployment.walsender_count()


TO_REPLICA = "UPDATE sources SET pg_port = {replica.port}, pg_password = '{replica.password}'"


@pytest.fixture(scope="module")
def replica() -> Iterator[EmbeddedPostgres]:
    """A server that logs too little for change data capture."""
    with EmbeddedPostgres(settings={"wal_level": "replica"}) as server:
        yield server


#: What is broken by which statement, and what has to be said of it.
BROKEN = {
    "password": ("UPDATE sources SET pg_password = 'wrong-secret' WHERE name = 'password_source'", "password"),
    "wal_level": (f"{TO_REPLICA} WHERE name = 'wal_level_source'", "wal_level=replica"),
    "missing": ("UPDATE pipeline_tables SET table_name = 'absent' WHERE table_name = 'notes_missing'", "does not exist"),
}


def test_a_problem_shows_on_the_row_in_the_run_in_the_check_and_in_one_alert(
    deployment: Deployment, replica: EmbeddedPostgres
) -> None:
    for name, (breakage, _) in BROKEN.items():
        source, destination = deployment.database(f"{name}_source"), deployment.database(f"{name}_destination")
        source.run(f"CREATE TABLE notes_{name} (id int PRIMARY KEY)")
        deployment.add_pipeline(name, source, destination, f"notes_{name}", status=Status.PAUSE)
        replica.create_database(f"{name}_source")
        with deployment.store.connected() as connection:
            connection.execute(breakage.format(replica=replica).encode())
    # Together: most of the time goes to the start of each run's process.
    for name in BROKEN:
        deployment.store.set_status(name, Status.START)
    for name, (_, message) in BROKEN.items():
        assert_reported_once(deployment, name, message)
    assert "wrong-secret" not in str(deployment.webhook.texts)


def assert_reported_once(deployment: Deployment, name: str, message: str) -> None:
    """The pipeline has failed, which is said everywhere, and nothing tries again."""
    deployment.environment.wait_for("The failure", lambda: deployment.state(name).run_status == "FAILED", 180)
    state = deployment.state(name)
    assert state.last_error is not None
    assert message in state.last_error
    assert "wrong-secret" not in state.last_error
    assert not state.is_due
    deployment.environment.wait_for("The run", lambda: deployment.graphql.run_statuses(name) == ["FAILURE"], 180)

    def is_reported_by_the_check() -> bool:
        check = deployment.graphql.last_check(name, "health")
        return check is not None and not check.passed and check.description == state.last_error

    deployment.environment.wait_for("The check", is_reported_by_the_check, 180)

    def alerts() -> list[str]:
        return [html.unescape(text) for text in deployment.webhook.texts if f"pipeline {name} failed" in text]

    deployment.environment.wait_for("The alert", lambda: bool(alerts()), 120)
    assert [f"Rosetta: pipeline {name} failed. {state.last_error} (run {state.run_id})"] == alerts()
    assert 1 == len(deployment.graphql.run_statuses(name))
