"""A process that does not outlive its owner."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rosetta_dagster.embedded import guard


class GuardedProcess:
    """One command under a guard (see `guard`). Owns the guard, from the start until `stop` or `kill` returns."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: int | None = None,
    ) -> None:
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [
                    sys.executable, "-I", guard.__file__, "" if user is None else str(user), str(int(stop_signal)),
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
                env=None if environment is None else dict(environment),
            )  # fmt: skip
        assert self._guard.stdout is not None, "it is a pipe"
        self.pid = int(self._guard.stdout.readline() or 0)

    @property
    def is_running(self) -> bool:
        return self._guard.poll() is None

    def stop(self) -> None:
        """Ask the command to end, and wait until it has, with all that it started."""
        # Closes the pipes and waits: the end of its standard input is what ends the guard.
        self._guard.__exit__(None, None, None)

    def kill(self) -> None:
        """End the command as a crash would."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()
