"""The demo beside others: a port that is taken, and a second demo in one directory."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rosetta_dagster.demo.environment import DemoEnvironment, DemoFailed
from rosetta_dagster.embedded.postgres import is_port_taken
from rosetta_dagster.settings import EMBEDDED_FILE, running_demo

ANNOUNCED = {"config_database_url": "postgresql://u:p@127.0.0.1:1/d", "secret_key": "of the first demo"}


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("option", ["port", "postgres_port"])
def test_a_port_that_is_taken_is_refused_before_anything_starts(
    option: str, taken_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    demo = DemoEnvironment(port=taken_port) if option == "port" else DemoEnvironment(postgres_port=taken_port)
    flag = "--" + option.replace("_", "-")
    with pytest.raises(DemoFailed, match=f"^Port {taken_port} is in use. Name another one with {flag}") as refused, demo:
        pass
    assert "\n" not in str(refused.value)
    assert not demo.home.exists()


def test_a_port_is_free_again_when_its_server_has_ended(taken_port: int) -> None:
    assert is_port_taken(taken_port)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    assert not is_port_taken(port)


@pytest.mark.parametrize(
    ("pid", "is_kept"), [(os.getppid(), True), (os.getpid(), False), (2**22 + 1, False)], ids=["parent", "own", "ended"]
)
def test_a_second_demo_leaves_the_announcement_of_the_first(
    pid: int, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    EMBEDDED_FILE.parent.mkdir()
    EMBEDDED_FILE.write_text(json.dumps({"pid": pid, **ANNOUNCED}))
    assert (running_demo() is not None) == (pid != 2**22 + 1)
    demo = DemoEnvironment()
    if is_kept:
        demo._announce()
    demo.stop()
    left = EMBEDDED_FILE.exists() and json.loads(EMBEDDED_FILE.read_text())["pid"] == pid and pid != os.getpid()
    assert left == (is_kept or pid == 2**22 + 1)
