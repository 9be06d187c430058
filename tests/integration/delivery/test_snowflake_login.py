"""The methods of a log-in without a key pair, over the connector, and what an operator reads when one is refused."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import connect
from rosetta_dagster.cdc.destination.snowflake.login import log_in_of
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError
from rosetta_dagster.embedded.snowflake import SnowflakeServer


def jwt(subject: str) -> str:
    """A token in the form of an OpenID provider's. Nobody verifies its signature here."""
    parts = ({"alg": "RS256", "typ": "JWT"}, {"iss": "https://idp.example", "sub": subject})
    written = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*written, "c2lnbmF0dXJl"])


_TOKEN, _SECRET = jwt("loader"), "the-secret-of-the-client"


@pytest.fixture(autouse=True)
def emulator_is_attested(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connector sends what proves an identity to Snowflake's own hosts only."""
    monkeypatch.setenv("SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES", "127.0.0.1")


@pytest.fixture(scope="module")
def server() -> Iterator[SnowflakeServer]:
    with SnowflakeServer(
        users={"LOADER": []}, tokens={_TOKEN: "LOADER"}, oauth_clients={"rosetta": (_SECRET, "LOADER")}
    ) as running:
        yield running


def user_of(server: SnowflakeServer, **settings: Any) -> str:
    config = SnowflakeDestinationConfig(**{**server.address, "user": "loader", "database": "ANALYTICS", **settings})
    with connect(config, log_in_of(config), who="destination dw", tag="test") as session:
        ((user,),) = session.execute("SELECT CURRENT_USER()")
    return str(user)


def methods(server: SnowflakeServer, *, token: str = _TOKEN, secret: str = _SECRET) -> dict[str, dict[str, Any]]:
    oauth = {"oauth_token_url": server.oauth_url, "oauth_client_id": "rosetta", "oauth_client_secret": secret}
    return {
        "token": {"login": "token", "token": token},
        "oauth": {"login": "oauth", **oauth, "oauth_scope": "session:role-any"},
        "oidc": {"login": "workload_identity", "workload_identity_provider": "OIDC", "token": token},
    }


@pytest.mark.parametrize("method", ["token", "oauth", "oidc"])
def test_a_user_logs_in_without_a_key(server: SnowflakeServer, method: str) -> None:
    assert "LOADER" == user_of(server, **methods(server)[method])


@pytest.mark.parametrize(
    ("method", "remedy"),
    [("token", "ADD PROGRAMMATIC ACCESS TOKEN"), ("oauth", "oauth_client_id"), ("oidc", "WORKLOAD_IDENTITY")],
)
def test_a_refused_log_in_says_what_to_do_and_quotes_no_secret(server: SnowflakeServer, method: str, remedy: str) -> None:
    with pytest.raises(RosettaError) as caught:
        user_of(server, **methods(server, token=jwt("somebody"), secret="wrong-secret")[method])
    assert isinstance(caught.value, ConfigurationError), str(caught.value)
    assert remedy in str(caught.value)
    assert "wrong-" not in str(caught.value)
    assert jwt("somebody") not in str(caught.value)


def test_a_token_may_come_from_a_variable(server: SnowflakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"login": "token", "token_env": "ROSETTA_SECRET_TOKEN_OF_DW"}
    with pytest.raises(ConfigurationError, match="ROSETTA_SECRET_TOKEN_OF_DW is not set"):
        user_of(server, **settings)
    monkeypatch.setenv("ROSETTA_SECRET_TOKEN_OF_DW", _TOKEN)
    assert "LOADER" == user_of(server, **settings)
