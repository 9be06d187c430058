"""Runs one command and ends it together with the process that asked for it, however that one ends.

A process of its own, since a process that is killed cannot clean up. It is started by `GuardedProcess` with a pipe as its
standard input. What ends the command is the end of that pipe: the parent is done, or dead. Guard and command are in
sessions of their own, so that Ctrl-C in a terminal reaches the parent and nobody else.

Uses the standard library only: it has to start in milliseconds.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

#: How long the command may take to end after it was asked to, in seconds.
STOP_TIMEOUT = 20.0


def main(user: str, stop_signal: str, throwaway: str, *command: str) -> int:
    """Run the command, as the user when one is given by number; the code that it ended with.

    The directory `throwaway` is removed when the parent dies, who would have removed it.
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
    # What the command started and left behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    if orphaned.is_set() and throwaway:
        shutil.rmtree(throwaway, ignore_errors=True)
    return code


def identity(user: str) -> dict[str, Any]:
    """Popen's arguments to run a command as a user, given by number; none for the empty text."""
    return {"user": int(user), "group": int(user), "extra_groups": []} if user else {}


def _default_signals() -> None:
    # A shell that starts us in the background has SIGINT ignored, and children inherit that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end_with_parent(child: "subprocess.Popen[bytes]", stop_signal: int, orphaned: threading.Event) -> None:
    # A parent that lives says so before it closes the pipe.
    if not sys.stdin.buffer.read():
        orphaned.set()
    child.send_signal(stop_signal)
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]) & 0xFF)
