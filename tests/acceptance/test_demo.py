"""The demo as a person runs it: from the command to Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

#: How long the demo may take to come up, and to end, in seconds.
START_LIMIT, STOP_LIMIT = 180, 60

EMULATOR = "rosetta_dagster.embedded.snowflake.emulator"


def processes_of(mark: str) -> list[psutil.Process]:
    """The processes that were started with this variable in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("DEMO_MARK") == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until_both_stream(directory: Path, environment: dict[str, str]) -> None:
    """Wait until the second terminal shows both pipelines streaming."""
    deadline = time.monotonic() + START_LIMIT
    shown = ""
    while shown.count("STREAMING") < 2:
        assert time.monotonic() < deadline, shown
        command = [sys.executable, "-m", "rosetta_dagster", "pipelines"]
        shown = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_the_demo_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    mark = f"{os.getpid()}-{number}"
    environment = {
        **{name: value for name, value in os.environ.items() if name.lower() != "no_proxy"},
        "DEMO_MARK": mark,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONUNBUFFERED": "1",
        # As in a company; nobody answers there.
        "http_proxy": "http://127.0.0.1:9",
    }
    with (tmp_path / "output").open("w") as output:
        demo = subprocess.Popen(
            [sys.executable, "-m", "rosetta_dagster", "demo"],
            cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_LIMIT
        while "Ctrl-C ends the demo" not in (tmp_path / "output").read_text():
            assert demo.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(processes_of(mark)) > 5
        kept = [Path(process.cmdline()[-1]).parent for process in processes_of(mark) if EMULATOR in process.cmdline()]
        assert kept
        if number is signal.SIGINT:
            wait_until_both_stream(tmp_path, environment)
        demo.send_signal(number)
        assert (0 if number is signal.SIGINT else -number) == demo.wait(STOP_LIMIT)
        deadline = time.monotonic() + STOP_LIMIT
        while processes_of(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [] == processes_of(mark)
        assert not any(directory.exists() for directory in kept)
    finally:
        for process in processes_of(mark):
            process.kill()
    if number is signal.SIGINT:
        assert "Nothing is left running." in (tmp_path / "output").read_text()
        assert not (tmp_path / ".rosetta" / "embedded.json").exists()
