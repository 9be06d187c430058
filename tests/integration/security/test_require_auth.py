"""No server is sent a password in clear, and none that does not know it is believed, unless the row allows it."""

from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from rosetta_dagster.cdc.config import pipeline
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, DestinationRejected, DestinationUnavailable, SourceUnavailable
from rosetta_dagster.cdc.postgres.connections import connect
from rosetta_dagster.cdc.postgres.errors import Translation
from rosetta_dagster.cdc.source import connections
from rosetta_dagster.cdc.source.debezium.properties import connector_properties
from rosetta_dagster.cdc.store.database import Store
from tests.support.rogue_server import CLEAR, MD5, TRUST, RogueServer

PASSWORD = "open-sesame"
_TRANSLATION = Translation(who="destination d", unavailable=DestinationUnavailable, rejected=DestinationRejected)


@pytest.fixture(params=[CLEAR, MD5, TRUST], ids=["clear", "md5", "trust"])
def rogue(request: pytest.FixtureRequest) -> Iterator[RogueServer]:
    server = RogueServer(request.param)
    yield server
    server.close()


def connection_to(server: RogueServer, **more: str) -> PostgresConnection:
    row = {"host": "127.0.0.1", "port": server.port, "database": "d", "username": "u", "password": PASSWORD, **more}
    return PostgresConnection.model_validate(row)


def open_configuration(place: PostgresConnection) -> object:
    return Store(SecretStr(f"postgresql://u:{PASSWORD}@127.0.0.1:{place.port}/d")).states()


@pytest.mark.parametrize(
    "attempt",
    [
        connections.connect,
        connections.connect_for_replication,
        lambda place: connect(place, _TRANSLATION),
        open_configuration,
    ],
    ids=["source", "walsender", "destination", "configuration"],
)
def test_a_server_that_asks_otherwise_is_refused_and_hears_nothing(
    rogue: RogueServer, attempt: Callable[[PostgresConnection], object]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        attempt(connection_to(rogue))
    assert b"" == rogue.heard
    assert "require_auth" in caught.value.remedy
    assert PASSWORD not in str(caught.value)


def test_what_the_row_allows_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    server = RogueServer(CLEAR)
    # It never answers the password.
    place = connection_to(server, require_auth="password", sslmode="disable")
    monkeypatch.setattr(pipeline, "CONNECT_TIMEOUT", 2)
    with pytest.raises(SourceUnavailable):
        connections.connect(place)
    server.close()
    assert PASSWORD.encode() in server.heard


def test_debezium_has_the_same_requirement() -> None:
    place = PostgresConnection.model_validate({"host": "h", "database": "d", "username": "u", "password": PASSWORD})
    properties = connector_properties(place, slot_name="s", publication_name="p", tables=(), placeholder="x")
    assert "scram-sha-256" == properties["driver.requireAuth"]


@pytest.mark.parametrize("row", ["scram", "md5,", "scram-sha-256 md5", ""])
def test_a_requirement_that_libpq_does_not_know_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match="require_auth"):
        PostgresConnection.model_validate({"host": "h", "database": "d", "username": "u", "require_auth": row})
