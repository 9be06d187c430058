"""The command `rosetta` as its entry point runs it, and a pipeline that was added by commands."""

import sys
from pathlib import Path

import pytest

from rosetta_dagster.cli.main import main
from tests.support.command_line import PASSWORD, Result, Rosetta, place_of
from tests.support.database import SECRET_KEY, Database


@pytest.fixture
def rosetta(
    config_database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Rosetta:
    """Runs a command as the entry point does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONFIG_DATABASE_URL", config_database.url)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("ROSETTA_PASSWORD", PASSWORD)
    monkeypatch.setenv("COLUMNS", "250")

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["rosetta", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def shop(rosetta: Rosetta, source: Database, destination: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A pipeline of one table, added by commands; the source."""
    source.run("CREATE TABLE orders (id integer PRIMARY KEY)")
    with monkeypatch.context() as patch:
        patch.setenv("ROSETTA_PASSWORD", source.config["password"])
        added = [
            rosetta("source", "add", "shop", *place_of(source)),
            rosetta("destination", "add", "dw", *place_of(destination)),
            rosetta("pipeline", "add", "shop", "--source", "shop", "--destination", "dw", "--table", "orders"),
        ]
    assert [0, 0, 0] == [result.code for result in added], added
    return source
