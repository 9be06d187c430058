"""A server of somebody who reaches Dagster's UI and the rows: it asks for every secret in clear, and gets none."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from rosetta_dagster.cdc.errors import RosettaError
from rosetta_dagster.cdc.source.connections import connect
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.orchestration.administration import administration_jobs
from tests.support.database import Database
from tests.support.rogue_server import CLEAR, RogueServer
from tests.support.rows import add_pipeline


@pytest.fixture
def rogue() -> Iterator[RogueServer]:
    server = RogueServer(CLEAR)
    yield server
    server.close()


def is_done(instance: dg.DagsterInstance, name: str, /, **config: Any) -> bool:
    (job,) = [job for job in administration_jobs({}) if job.name == f"rosetta__{name}"]
    run = {"ops": {name: {"config": config}}}
    return job.execute_in_process(run, instance=instance, raise_on_error=False).success


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("variable", ["SECRET_KEY", "CONFIG_DATABASE_URL", "ROSETTA_SECRET_SHOP"])
def test_a_source_made_in_the_ui_leads_no_variable_to_it(
    store: Store, instance: dg.DagsterInstance, rogue: RogueServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("ROSETTA_SECRET_SHOP", "open sesame")
    place = {"host": "127.0.0.1", "port": rogue.port, "database": "d", "username": "u", "sslmode": "disable"}
    if is_done(instance, "create_source", name="evil", **place, password_env=variable):
        with pytest.raises(RosettaError, match="require_auth"):
            connect(store.source("evil").connection)
    assert b"" == rogue.heard
    # From elsewhere than this machine the row may not ask for it either.
    away = {**place, "host": "evil.example.com", "require_auth": "password", "password_env": variable}
    assert not is_done(instance, "create_source", name="away", **away)


def test_a_row_that_leads_to_it_gets_no_stored_password(
    store: Store, config_database: Database, source: Database, rogue: RogueServer
) -> None:
    add_pipeline(store, "shop", source, source, "orders")
    config_database.run(f"UPDATE sources SET pg_port = {rogue.port}, pg_sslmode = 'disable', pg_require_auth = 'password'")
    with pytest.raises(RosettaError, match="Enter the password again"):
        connect(store.pipeline("shop").source.connection)
    assert b"" == rogue.heard
