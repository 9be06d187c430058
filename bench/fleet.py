"""The processes of the part `idle-30`: many supervised workers, and one that evaluates the control sensor."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.process import Usage, WorkerFailed, usage_of

#: The key of the configuration database's secrets.
SECRET_KEY: Final = secrets.token_urlsafe()

#: Seconds that workers may take to end after their rows say PAUSE.
_END_TIMEOUT: Final = 60.0


class Fleet:
    """One worker for each pipeline. Owns the processes; they end by themselves when their rows say PAUSE."""

    def __init__(self, config_url: str, pipelines: Sequence[str], logs: Path) -> None:
        self._log = logs / "workers.log"
        with self._log.open("ab") as output:
            self._processes = [
                subprocess.Popen(
                    [sys.executable, "-m", "bench.supervised", name],
                    env=_environment(config_url),
                    stdout=output,
                    stderr=output,
                )
                for name in pipelines
            ]

    def usage(self) -> Usage:
        """Return the sums of all workers. Raise `WorkerFailed` when one has ended."""
        if any(process.poll() is not None for process in self._processes):
            raise WorkerFailed(f"a worker has ended: {self._log.read_text()[-2000:]}")
        return Usage(*map(sum, zip(*(usage_of(process.pid) for process in self._processes), strict=True)))

    def wait(self) -> None:
        for process in self._processes:
            process.wait(_END_TIMEOUT)

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def sensor(config_url: str) -> Iterator[Callable[[int], float]]:
    """Evaluates ticks at their interval, and reports the seconds of CPU that they used."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.ticks"],
        env=_environment(config_url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    asked, answered = process.stdin, process.stdout

    def ticks(count: int) -> float:
        asked.write(f"{count}\n")
        asked.flush()
        return float(answered.readline())

    try:
        yield ticks
    finally:
        process.kill()
        process.wait()


def _environment(config_url: str) -> dict[str, str]:
    return {**os.environ, "CONFIG_DATABASE_URL": config_url, "SECRET_KEY": SECRET_KEY}
