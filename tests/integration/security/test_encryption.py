"""A connection that passes a network in clear is a warning, of the check before a start and of the health."""

import dagster as dg
import pytest

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import Health
from rosetta_dagster.cdc.operate.health import observe
from rosetta_dagster.cdc.postgres import connections
from rosetta_dagster.cdc.source.preflight import Severity, preflight
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration.checks import evaluations
from tests.support.database import Database
from tests.support.pipelines import pipeline
from tests.support.rows import add_pipeline


@pytest.fixture
def afar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback counts as a network: the server of the tests listens there only."""
    monkeypatch.setattr(connections, "is_loopback", lambda _: False)


@pytest.fixture
def shop(source: Database) -> Database:
    source.run("CREATE TABLE orders (id int PRIMARY KEY)")
    return source


@pytest.mark.usefixtures("afar")
def test_the_check_warns_of_a_source_that_is_not_encrypted(shop: Database) -> None:
    (finding,) = preflight(pipeline(Engine.PGOUTPUT, shop, [shop], "orders"))
    assert ("encryption", Severity.WARNING) == (finding.check, finding.severity)
    assert f"source the_source at {shop.connection.host} is not encrypted" in finding.message
    assert "verify-full" in finding.remedy


def test_the_check_warns_of_a_destination_whose_row_forbids_tls(shop: Database) -> None:
    config = pipeline(Engine.PGOUTPUT, shop, [shop], "orders")
    (row,) = config.destinations
    away = {**row.config, "host": "dw.example.com"}
    for mode, count in (("disable", 1), ("allow", 1), ("require", 0)):
        changed = row.model_copy(update={"config": {**away, "sslmode": mode}})
        assert count == len(preflight(config.model_copy(update={"destinations": (changed,)})))


def test_this_machine_needs_no_encryption(shop: Database) -> None:
    assert () == preflight(pipeline(Engine.PGOUTPUT, shop, [shop], "orders"))


@pytest.mark.usefixtures("afar")
def test_the_health_warns_too(store: Store, shop: Database) -> None:
    add_pipeline(store, "shop", shop, shop, "orders")
    observation = observe(store, "shop")
    assert Health.WARNING is observation.health
    (health,) = [each for each in evaluations(dg.AssetKey("s"), observation) if each.check_name == "health"]
    assert (False, dg.AssetCheckSeverity.WARN) == (health.passed, health.severity)
    assert "is not encrypted" in str(health.description)
    assert [("WARNING",)] == [(state.health.value,) for state in store.states()]
