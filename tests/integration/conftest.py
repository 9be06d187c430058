"""The settings and the Dagster instance of a test, without Dagster's processes."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import instance_for_test

from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.settings import Settings, read_settings
from tests.support.database import SECRET_KEY, Database


@pytest.fixture
def settings(config_database: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CONFIG_DATABASE_URL", config_database.url)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    return read_settings()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with instance_for_test() as made:
        yield made
