"""The command line in a terminal: completion of names, and help that fits into 60 columns without colours."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from rosetta_dagster.cli.main import app
from tests.support.command_line import Rosetta
from tests.support.database import Database

WIDTH = 60


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from commands(each, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", sorted(ALL), ids=" ".join)
def test_help_is_plain_text_that_fits(rosetta: Rosetta, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    result = rosetta(*path, "--help")
    assert (0, "") == (result.code, result.err)
    assert "\x1b" not in result.out
    words = [word for line in result.out.splitlines() if len(line) > WIDTH for word in line.split() if len(word) < WIDTH]
    assert [] == [word for word in words if not word.startswith("-") and "|" not in word and "[" not in word]


@pytest.mark.parametrize("path", sorted(path for path in ALL if path), ids=" ".join)
def test_the_list_of_commands_cuts_no_sentence_off(path: tuple[str, ...]) -> None:
    assert not ALL[path].hidden or path[-1].endswith("-postgres")
    assert not ALL[path].get_short_help_str(limit=62).endswith("..."), ALL[path].help


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rosetta status s", {"shop"}),
        ("rosetta source show s", {"shop"}),
        ("rosetta destination edit ", {"dw"}),
        ("rosetta table add x", set()),
    ],
)
def test_names_are_completed(
    rosetta: Rosetta, shop: Database, monkeypatch: pytest.MonkeyPatch, words: str, expected: set[str]
) -> None:
    for name, value in (("COMP_WORDS", words), ("COMP_CWORD", str(len(words.split(" ")) - 1))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_ROSETTA_COMPLETE", "complete_bash")
    assert expected == {*rosetta().out.split()}


def test_nothing_is_completed_and_nothing_said_where_there_is_no_database(
    rosetta: Rosetta, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONFIG_DATABASE_URL")
    monkeypatch.setenv("COMP_WORDS", "rosetta status ")
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("_ROSETTA_COMPLETE", "complete_bash")
    assert ("", "") == (rosetta().out.strip(), rosetta().err)
