"""A child process that does not outlive its owner."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rosetta_dagster.embedded import guard


class GuardedProcess:
    """One command under a guard (see `guard`). Owns the guard, from the start until `stop` or `kill` returns.

    The guard deletes the directory `throwaway` if this process dies before that.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: int | None = None,
        throwaway: Path | None = None,
    ) -> None:
        arguments = ["" if user is None else str(user), str(int(stop_signal)), str(throwaway or ""), *command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
                env=None if environment is None else dict(environment),
            )
        assert self._guard.stdout is not None, "it is a pipe"
        #: None when the command could not be started. The log says why.
        self.pid = int(self._guard.stdout.readline() or 0) or None

    @property
    def is_running(self) -> bool:
        return self._guard.poll() is None

    def stop(self) -> None:
        """Stop the command, and wait until it and all its processes have ended."""
        assert self._guard.stdin is not None, "it is a pipe"
        with suppress(BrokenPipeError):
            self._guard.stdin.write("stop")
            self._guard.stdin.flush()
        # Closes the pipes and waits. The guard ends when its standard input does.
        with suppress(BrokenPipeError):
            self._guard.__exit__(None, None, None)

    def kill(self) -> None:
        """End the command as a crash would."""
        if self.pid is not None and self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.stop()
