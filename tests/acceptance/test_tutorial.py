"""The tutorial, block by block as it is written: from two empty databases to a change that arrives."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from rosetta_dagster.embedded.postgres import EmbeddedPostgres, free_port
from tests.support.database import Database

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


class Block(NamedTuple):
    language: str
    title: str
    text: str


def tutorial() -> Iterator[Block]:
    """The page's blocks in order, without the one that installs: the tests' own environment has it installed."""
    found = re.findall(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    blocks = [Block(*each) for each in found]
    assert "pip install" in blocks[0].text
    return iter(blocks[1:])


@pytest.fixture
def environment(
    postgres_server: EmbeddedPostgres, source: Database, destination: Database, config_database: Database
) -> dict[str, str]:
    """What the page leaves to its reader."""
    password = destination.config["password"]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ROSETTA", "SECRET", "CONFIG"))
    }
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ROSETTA_CHECKOUT": str(PAGE.parents[1]),
        "CONFIG_DATABASE_URL": config_database.url,
        "SOURCE_HOST": "127.0.0.1",
        "SOURCE_PORT": str(postgres_server.port),
        "SOURCE_DATABASE": source.connection.database,
        "TARGET_HOST": "127.0.0.1",
        "TARGET_PORT": str(postgres_server.port),
        "TARGET_DATABASE": destination.connection.database,
        "TARGET_USER": destination.connection.username,
        "TARGET_PASSWORD": password,
    }


@contextmanager
def in_background(command: str, directory: Path, environment: dict[str, str]) -> Iterator[None]:
    """A command in a process group of its own, which ends with the block."""
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euc", command], cwd=directory, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_until(condition: Callable[[], bool], seconds: float, directory: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (directory / "output").read_text()[-3000:]
        time.sleep(0.2)


def test_every_block_of_the_tutorial_does_what_it_says(
    environment: dict[str, str], source: Database, destination: Database, tmp_path: Path
) -> None:
    blocks = tutorial()

    def run(*words: str, block: Block | None = None) -> str:
        """Run the next block, which holds these words, and return what it prints."""
        block = block or next(blocks)
        assert all(word in block.text for word in words), block.text
        # The two passwords differ, and the page lets its reader type them.
        text = re.sub(r"^(?=rosetta source)", "ROSETTA_PASSWORD='change me' ", block.text, flags=re.MULTILINE)
        text = re.sub(r"^(?=rosetta destination)", 'ROSETTA_PASSWORD="$TARGET_PASSWORD" ', text, flags=re.MULTILINE)
        ran = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert 0 == ran.returncode, ran.stdout + ran.stderr
        return ran.stdout

    try:
        source.run(next(blocks).text)
        assert "applied 001_create_table.sql" in run("SECRET_KEY", "rosetta migrate")
        # From here on `.env` names it.
        del environment["CONFIG_DATABASE_URL"]
        assert "shop is ready." in run("source add", "check")
        run("definitions.py")
        dagster_dev = next(blocks).text.replace("dagster dev", f"dagster dev -p {free_port()}")
        start = next(blocks)
        with in_background(dagster_dev, tmp_path, environment):
            run("rosetta start shop", block=start)
            changes, query, status = next(blocks), next(blocks), next(blocks)
            assert ("Source", "Destination") == (changes.title, query.title)
            there = "SELECT FROM pg_tables WHERE tablename = 'orders'"
            wait_until(lambda: bool(destination.rows(there) and destination.rows(query.text)), 90, tmp_path)
            source.run(changes.text)
            expected = [(1, "tea", 3), (2, "coffee", 1), (3, "milk", 1)]
            wait_until(lambda: expected == destination.rows(query.text), 30, tmp_path)
            assert "STREAMING" in run("rosetta status", block=status)
    finally:
        source.run(
            "DROP PUBLICATION IF EXISTS rosetta_shop",
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'rosetta_shop' AND active",
        )
        with source.connect() as connection:
            connection.execute("DROP OWNED BY rosetta CASCADE")
            connection.execute("DROP ROLE rosetta")
    assert next(blocks, None) is None
