"""Starts a worker in a process of its own, and reads its usage from /proc."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psycopg

from rosetta_dagster.cdc.config.pipeline import PipelineConfig
from rosetta_dagster.cdc.destination.snowflake.config import EMULATOR

_STOP_TIMEOUT = 60.0


class WorkerFailed(RuntimeError):
    """The worker ended by itself; its log holds the reason."""


class Usage(NamedTuple):
    """What a process has used since it was started."""

    cpu_seconds: float
    peak_rss_bytes: int
    rss_bytes: int


class WorkerProcess:
    """One worker. Owns the process, from the start until `stop` returns."""

    def __init__(self, config: PipelineConfig, log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=_environment(),
            )
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(json.dumps(_in_clear(config)).encode() + b"\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def usage(self) -> Usage:
        if self._process.poll() is not None:
            raise WorkerFailed(f"the worker has ended: {self._log.read_text()[-2000:]}")
        return usage_of(self._process.pid)

    def stop(self) -> None:
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.close()
        try:
            code = self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code:
            raise WorkerFailed(f"the worker ended with {code}: {self._log.read_text()[-2000:]}")


def _environment() -> dict[str, str]:
    """Return an environment in which Python may write compiled files: an installed package has them, a checkout may not.

    It allows the emulated Snowflake account, which is reached over HTTP.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {EMULATOR: "1"}


def usage_of(pid: int) -> Usage:
    """What a process has used since it was started."""
    proc = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Usage(
        cpu_seconds=_stat_of(pid).cpu_seconds,
        peak_rss_bytes=_bytes(status["VmHWM"]),
        rss_bytes=_bytes(status["VmRSS"]),
    )


def server_cpu_seconds(url: str) -> float:
    """Return what all processes of the PostgreSQL server have used since its start, ended ones included."""
    with psycopg.connect(url) as connection:
        postmaster = _stat_of(connection.info.backend_pid).parent
    stat = _stat_of(postmaster)
    return stat.cpu_seconds + stat.ended_cpu_seconds + sum(_children_cpu_seconds(postmaster))


def _children_cpu_seconds(parent: int) -> Iterator[float]:
    for directory in Path("/proc").glob("[0-9]*"):
        # A process may end between the two reads; its time is then in its parent's.
        with suppress(FileNotFoundError, ProcessLookupError):
            stat = _stat_of(int(directory.name))
            if stat.parent == parent:
                yield stat.cpu_seconds


class _Stat(NamedTuple):
    parent: int
    cpu_seconds: float
    #: That of its children that have ended.
    ended_cpu_seconds: float


def _stat_of(pid: int) -> _Stat:
    # The name may contain spaces. What follows it begins with the third field.
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return _Stat(parent=int(fields[1]), cpu_seconds=own / ticks, ended_cpu_seconds=ended / ticks)


def _bytes(kilobytes: str) -> int:
    return int(kilobytes.split(maxsplit=1)[0]) * 1024


def _in_clear(config: PipelineConfig) -> dict[str, object]:
    """Return the configuration in the form that the worker reads from its private pipe."""
    values: dict[str, object] = config.model_dump(mode="json")
    source: dict[str, object] = config.source.model_dump(mode="json")
    password = config.source.connection.password
    assert password is not None, "the embedded server has one"
    source["connection"] = {**config.source.connection.model_dump(mode="json"), "password": password.get_secret_value()}
    return {**values, "source": source}
