"""Which environment variables may be named as secrets, and which hosts may be given them."""

import pytest

from rosetta_dagster.cdc.config.pipeline import PostgresConnection, checked
from rosetta_dagster.cdc.config.variables import Reader, read_for_code, read_for_row
from rosetta_dagster.cdc.destination.snowflake.config import EMULATOR, SnowflakeConnection
from rosetta_dagster.cdc.errors import ConfigurationError

#: Variables that nobody may name: what Rosetta and Dagster run with.
OWN = (
    "SECRET_KEY", "secret_key", "SECRET_KEY_OLD", "CONFIG_DATABASE_URL", "ROSETTA_ALERT_WEBHOOK", "DAGSTER_PG_PASSWORD",
    "ROSETTA_SECRET_VARIABLES",
)  # fmt: skip

ACCOUNT = {"account": "myorg-dw", "user": "rosetta", "database": "D"}
SERVER = {"host": "db.example.com", "database": "d", "username": "u", "password": "hunter2"}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OWN, "SHOP_PASSWORD", "ROSETTA_SECRET_SHOP", "PATH_OF_ANOTHER"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("ROSETTA_SECRET_VARIABLES", "SHOP_PASSWORD, SECRET_KEY,CONFIG_DATABASE_URL,DAGSTER_PG_PASSWORD")


@pytest.mark.parametrize("variable", OWN)
@pytest.mark.parametrize("read", [read_for_code, read_for_row])
def test_nobody_names_a_variable_of_the_project(read: Reader, variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is one of Rosetta's or Dagster's own") as caught:
        read(variable, "shop", "password")
    assert "hunter2" not in f"{caught.value!s}{caught.value!r}"


def test_rows_name_what_is_set_aside_for_them_and_code_any_other() -> None:
    assert ["hunter2"] * 2 == [read_for_row(name, "shop", "password") for name in ("ROSETTA_SECRET_SHOP", "SHOP_PASSWORD")]
    with pytest.raises(ConfigurationError, match=r"may not name the variable PATH_OF_ANOTHER.*ROSETTA_SECRET_"):
        read_for_row("PATH_OF_ANOTHER", "shop", "password")
    assert "hunter2" == read_for_code("PATH_OF_ANOTHER", "shop", "password")


def test_a_refusal_does_not_say_whether_the_variable_is_set() -> None:
    told = []
    for name in ("PATH_OF_ANOTHER", "PATH_OF_NOTHING"):
        with pytest.raises(ConfigurationError) as caught:
            read_for_row(name, "shop", "password")
        told.append(str(caught.value).replace(name, "…"))
    assert told[0] == told[1]


@pytest.mark.parametrize("field", ["private_key_env", "private_key_passphrase_env"])
@pytest.mark.parametrize("variable", ["SECRET_KEY", "PATH_OF_ANOTHER"])
def test_a_row_of_snowflake_names_no_other_variable(field: str, variable: str) -> None:
    given = {"private_key_env": "ROSETTA_SECRET_SHOP", field: variable}
    with pytest.raises(ConfigurationError, match=f"{field}: .*{variable}"):
        checked(SnowflakeConnection, {**ACCOUNT, **given}, "The row")


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ({"protocol": "http"}, "protocol"),
        ({"protocol": "http", "host": "127.0.0.1"}, "protocol"),
        ({"protocol": "http", "host": "x.snowflakecomputing.com"}, "protocol"),
        ({"host": "evil.example.com"}, "host"),
        ({"host": "127.0.0.1"}, "host"),
        ({"host": "snowflakecomputing.com.evil.example"}, "host"),
        ({"host": "evil.example/x.snowflakecomputing.com"}, "host"),
    ],
)
def test_no_log_in_goes_to_another_server_or_over_http(
    where: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(EMULATOR)
    with pytest.raises(ConfigurationError, match=f"{problem} has to be"):
        checked(SnowflakeConnection, {**ACCOUNT, "private_key": "k", **where}, "The row")


def test_the_switch_for_tests_leads_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR, "true")
    with pytest.raises(ConfigurationError, match="protocol has to be https"):
        checked(SnowflakeConnection, {**ACCOUNT, "private_key": "k", "protocol": "http", "host": "10.0.0.1"}, "The row")
    here = {"host": "127.0.0.1", "protocol": "http", "private_key": "k"}
    assert "http" == checked(SnowflakeConnection, {**ACCOUNT, **here}, "The row").protocol
    with pytest.raises(ConfigurationError, match="colour"):
        checked(SnowflakeConnection, {**ACCOUNT, **here, "colour": "x"}, "The row")


def test_a_private_link_is_one_of_snowflakes_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EMULATOR)
    host = "myorg-dw.privatelink.snowflakecomputing.com"
    assert host == checked(SnowflakeConnection, {**ACCOUNT, "private_key": "k", "host": host}, "The row").host


@pytest.mark.parametrize("require_auth", ["password", "scram-sha-256,password", "!md5"])
@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require", "verify-ca"])
def test_a_password_in_clear_goes_to_verified_servers_only(require_auth: str, sslmode: str) -> None:
    with pytest.raises(ConfigurationError, match="verify-full") as caught:
        checked(PostgresConnection, {**SERVER, "require_auth": require_auth, "sslmode": sslmode}, "The row")
    assert "hunter2" not in str(caught.value)
    for allowed in ({"sslmode": "verify-full"}, {"sslmode": sslmode, "host": "127.0.0.1"}):
        checked(PostgresConnection, {**SERVER, "require_auth": require_auth, **allowed}, "The row")
    checked(PostgresConnection, {**SERVER, "require_auth": "!password", "sslmode": sslmode}, "The row")
