"""`rosetta source|destination|pipeline edit`: what is given changes, all else stays, and a secret stays with its place."""

import json
from typing import Any

import pytest

from tests.support.command_line import PASSWORD, Rosetta, assert_one_line
from tests.support.database import Database


def setting(config_database: Database, name: str) -> object:
    ((value,),) = config_database.rows(f"SELECT {name} FROM sources")
    return value


def test_only_what_is_given_changes(rosetta: Rosetta, shop: Database, config_database: Database) -> None:
    before = json.loads(rosetta("source", "show", "shop", "--json").out)
    result = rosetta("source", "edit", "shop", "--sslmode", "allow", "--publication", "mine")
    assert (0, "changed source shop\n", "") == result
    after = json.loads(rosetta("source", "show", "shop", "--json").out)
    assert {**before["settings"], "sslmode": "allow", "publication_name": "mine"} == after["settings"]
    assert 0 == rosetta("source", "edit", "shop", "--publication", "").code
    assert setting(config_database, "publication_name") is None
    assert 0 == rosetta("destination", "edit", "dw", "--schema", "archive").code
    assert 0 == rosetta("pipeline", "edit", "shop", "--on-gap", "STOP_TABLE").code
    assert [("STOP_TABLE", "APPLY")] == config_database.rows("SELECT on_gap, on_schema_change FROM pipelines")
    assert "OK" in rosetta("test", "shop").out, "the passwords are still the right ones"
    assert 0 == rosetta("test", "shop").code


def test_a_row_that_leads_elsewhere_asks_for_its_secret_again(
    rosetta: Rosetta, shop: Database, config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROSETTA_PASSWORD")
    asked: list[str] = []

    def prompt(text: str, **_: Any) -> str:
        asked.append(text)
        return "new-password"

    monkeypatch.setattr("typer.prompt", prompt)
    sealed = setting(config_database, "pg_password")
    assert 0 == rosetta("source", "edit", "shop", "--database", "other").code
    assert [] == asked, "the database is on the same server"
    assert 0 == rosetta("source", "edit", "shop", "--host", "elsewhere.example.com").code
    assert ["Password of the role"] == asked
    assert setting(config_database, "pg_password") not in (sealed, "new-password")


def test_a_secret_that_cannot_be_read_is_replaced(
    rosetta: Rosetta, shop: Database, config_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_database.run("UPDATE sources SET pg_host = 'localhost'")
    assert_one_line(rosetta("source", "edit", "shop", "--sslmode", "allow"), "Enter the password again")
    monkeypatch.setenv("ROSETTA_PASSWORD", shop.config["password"])
    assert 0 == rosetta("source", "edit", "shop", "--password").code
    assert 0 == rosetta("test", "shop").code


def test_a_pipeline_that_runs_is_named_with_the_command_that_takes_the_change_up(
    rosetta: Rosetta, shop: Database, config_database: Database
) -> None:
    config_database.run("UPDATE pipelines SET status = 'START'")
    changed = rosetta("source", "edit", "shop", "--sslmode", "allow")
    assert ["changed source shop", "take it up now: rosetta refresh shop"] == changed.out.splitlines()


def test_what_cannot_be_changed_is_one_line(rosetta: Rosetta, shop: Database, config_database: Database) -> None:
    assert_one_line(rosetta("source", "edit", "shop"), "No option was given")
    assert_one_line(rosetta("source", "edit", "shop", "--sslmode", "requre"), "sslmode", "did you mean require")
    assert_one_line(rosetta("source", "edit", "ghost", "--port", "1"), "There is no source ghost")
    assert_one_line(rosetta("pipeline", "edit", "ghost", "--on-gap", "COPY"), "There is no pipeline ghost")
    assert_one_line(
        rosetta("destination", "edit-snowflake", "dw", "--role", "r"), "is of type POSTGRES", "destination edit-postgres"
    )
    config_database.run("UPDATE pipelines SET managed_by = 'CODE', declared_in = 'prod'")
    assert_one_line(rosetta("pipeline", "edit", "shop", "--on-gap", "COPY"), "declared in code, in the code location prod")
    assert PASSWORD not in rosetta("source", "show", "shop").out


def test_a_wrong_option_is_named_as_it_was_written(rosetta: Rosetta, shop: Database) -> None:
    where = ("--host", "h", "--database", "d", "--username", "u")
    for wrong, named in ((("--slot", "Bad Name"), "--slot: "), (("--require-auth", "nothing"), "--require-auth: ")):
        assert_one_line(rosetta("source", "add", "other", *where, *wrong), named)
        assert_one_line(rosetta("source", "edit", "shop", *wrong), named)
    assert_one_line(rosetta("pipeline", "edit", "shop", "--on-schema-change", "STOP"), "--on-schema-change: ", "STOP_TABLE")
