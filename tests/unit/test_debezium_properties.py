from typing import Any

import pytest

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, EngineUnsuitable, StreamEnded
from rosetta_dagster.cdc.source.debezium.engine import ended
from rosetta_dagster.cdc.source.debezium.properties import unsupported_settings
from rosetta_dagster.cdc.source.debezium.readable import used_index


def connection(**changes: Any) -> PostgresConnection:
    return PostgresConnection.model_validate({"host": "db", "database": "shop", "username": "app", **changes})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("host", host) for host in ("::1", "[::1]", "/var/run/postgresql", "a,", "a,::1", "naïve", "a b")),
        *(("database", name) for name in ("a/b", "a%b", "%41", "a?b", "a+b")),
        ("username", "o'neill"),
    ],
)
def test_a_setting_that_debezium_cannot_connect_with_is_an_error_with_a_way_out(setting: str, value: str) -> None:
    (error,) = unsupported_settings(connection(**{setting: value}), "rosetta_shop")
    assert repr(value) in error.message
    assert "PGOUTPUT" in error.remedy
    assert not error.transient


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("host", host) for host in ("localhost", "10.0.0.1", "db-1.example_x.org", "db-1,db-2")),
        # Each of these was tried with Debezium.
        *(("database", f"a{char}b") for char in "=&#;: \"'\\$é@.,-{}*[]<>|!~^`()"),
        *(("username", f"a{char}b") for char in '" /%?=&\\$é@:,{}+'),
    ],
)
def test_other_settings_are_accepted(setting: str, value: str) -> None:
    assert [] == list(unsupported_settings(connection(**{setting: value}), "rosetta_shop"))


@pytest.mark.parametrize("name", ["Shop", "a b", "a,b", '"shop"', "o'neill"])
def test_a_publication_whose_name_needs_quotes_is_refused(name: str) -> None:
    (error,) = unsupported_settings(connection(), name)
    assert repr(name) in error.message


@pytest.mark.parametrize("name", ["rosetta_shop", "my-pub", "9", "é"])
def test_a_publication_of_another_name_is_accepted(name: str) -> None:
    assert [] == list(unsupported_settings(connection(), name))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("Connector configuration is not valid. The 'database.hostname' value is invalid: ::1", ConfigurationError),
        ("Connector configuration is not valid. Error while validating connector config: refused", StreamEnded),
        ('ERROR: invalid byte sequence for encoding "UTF8": 0xe9 0x74 0xe9', EngineUnsuitable),
        ("the server closed the connection", StreamEnded),
        (None, StreamEnded),
    ],
)
def test_why_debezium_ended_decides_whether_it_passes_with_time(failure: str | None, kind: type[Exception]) -> None:
    error = ended(failure)
    assert kind is type(error)
    assert "0xe9" not in str(error)


@pytest.mark.parametrize(
    "skipped", ["lower(c)", "(lower(c))", "((a)::character varying)", "((a || c))", "(a + 1)", "f(a, c)", "f()"]
)
def test_debezium_skips_an_index_with_such_an_expression(skipped: str) -> None:
    assert [("c", False)] == used_index([[("a", False), (skipped, True)], [("c", False)]])


@pytest.mark.parametrize("used", ["((a)::text)", "((a)::numeric(10,2))", "(a)"])
def test_debezium_uses_an_index_with_such_an_expression(used: str) -> None:
    assert [(used, True)] == used_index([[(used, True)], [("c", False)]])


def test_a_table_without_a_unique_index_has_no_key() -> None:
    assert () == used_index([])
