"""Runs one command, and ends it when the parent process ends, however that happens.

The guard is a separate process, since a process that is killed cannot clean up. `GuardedProcess` starts it with a pipe as
its standard input. The command is stopped when that pipe is closed: the parent has closed it, or is dead. Guard and command
have sessions of their own, so that Ctrl-C in a terminal reaches only the parent.

It uses the standard library only, so that it starts in milliseconds.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

#: Seconds that the command may take to end after the stop signal.
STOP_TIMEOUT = 20.0


def main(user: str, stop_signal: str, throwaway: str, *command: str) -> int:
    """Run the command, as the user with this number if given, and return its exit code.

    When the parent dies, the guard deletes the directory `throwaway` in its place.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
        preexec_fn=_default_signals,
        **identity(user),
    )
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    orphaned = threading.Event()
    threading.Thread(target=_end_with_parent, args=(child, int(stop_signal), orphaned), daemon=True).start()
    code = child.wait()
    # The processes that the command started and left behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    if orphaned.is_set() and throwaway:
        shutil.rmtree(throwaway, ignore_errors=True)
    return code


def identity(user: str) -> dict[str, Any]:
    """Return Popen's arguments to run a command as the user with this number; none for an empty text."""
    return {"user": int(user), "group": int(user), "extra_groups": []} if user else {}


def _default_signals() -> None:
    # A shell ignores SIGINT in background processes, and children inherit that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end_with_parent(child: "subprocess.Popen[bytes]", stop_signal: int, orphaned: threading.Event) -> None:
    # A living parent writes to the pipe before it closes it.
    if not sys.stdin.buffer.read():
        orphaned.set()
    child.send_signal(stop_signal)
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]) & 0xFF)
