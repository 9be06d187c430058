"""Runs one PostgreSQL server and ends it together with the process that asked for it, however that one ends.

A process of its own, since a process that is killed cannot clean up. It is started by `EmbeddedPostgres` with a pipe as its
standard input. The end of that pipe is the only message there is: the parent is done, or dead. The guard is in a session of
its own, so that Ctrl-C in a terminal reaches the parent and not the server.

Uses the standard library only: it has to start in milliseconds.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any


def main(user: str, throwaway: str, *command: str) -> int:
    """Run the command, as the user when one is given; remove the directory `throwaway` after it when one is given."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    server = subprocess.Popen(  # noqa: S603: the command comes from EmbeddedPostgres
        command, stdin=subprocess.DEVNULL, preexec_fn=_default_signals, **identity(user)
    )
    print(server.pid, flush=True)
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    code = server.wait()
    if throwaway:
        shutil.rmtree(throwaway, ignore_errors=True)
    return code


def identity(user: str) -> dict[str, Any]:
    """Popen's arguments to run a command as a user, given by number; none for the empty text."""
    return {"user": int(user), "group": int(user), "extra_groups": []} if user else {}


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end_with_parent(server: "subprocess.Popen[bytes]") -> None:
    sys.stdin.buffer.read()
    # PostgreSQL's fast shutdown: sessions are ended, data is written.
    server.send_signal(signal.SIGINT)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]) & 0xFF)
