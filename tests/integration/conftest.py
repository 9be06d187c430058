"""The settings and the Dagster instance of a test, without Dagster's processes."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import instance_for_test

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.source import heartbeat
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.settings import Settings, read_settings
from tests.support.database import SECRET_KEY, Database
from tests.support.orders_and_notes import NOTES, ORDERS
from tests.support.pipelines import pipeline, replicate


@pytest.fixture
def settings(config_database: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CONFIG_DATABASE_URL", config_database.url)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    return read_settings()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with instance_for_test() as made:
        yield made


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_INTERVAL", 0.2)


@pytest.fixture
def both(engine: Engine, source: Database, destination: Database) -> PipelineConfig:
    """A pipeline of two tables, one with a key and one without, that has run once."""
    source.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, amount int, body text)",
        "CREATE TABLE notes (n int, said text)",
        "ALTER TABLE notes REPLICA IDENTITY FULL",
        "INSERT INTO orders SELECT n, n FROM generate_series(1, 1000) AS n",
        "INSERT INTO notes SELECT n % 10 FROM generate_series(1, 1000) AS n",
    )
    config = pipeline(engine, source, [destination], ORDERS, NOTES)
    replicate(config, source, destination)
    return config
