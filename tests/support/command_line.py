"""What the command `rosetta` ended with, and what tests of commands say to it."""

from collections.abc import Callable
from typing import NamedTuple

from tests.support.database import Database

PASSWORD = "hunter2hunter2"


class Result(NamedTuple):
    code: int
    out: str
    err: str


Rosetta = Callable[..., Result]


def place_of(database: Database) -> list[str]:
    connection = database.connection
    return [
        "--host", connection.host, "--port", str(connection.port), "--database", connection.database,
        "--username", connection.username,
    ]  # fmt: skip


def assert_one_line(result: Result, *parts: str) -> None:
    assert 1 == result.code, result
    assert "" == result.out
    assert result.err.startswith("rosetta: ")
    assert 1 == result.err.count("\n")
    assert result.err.endswith("\n")
    for part in parts:
        assert part in result.err
    assert PASSWORD not in result.err
