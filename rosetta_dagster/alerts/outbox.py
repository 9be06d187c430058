"""Sends messages beside the sensors: one thread for each receiver, so that a server that hangs delays nobody else."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rosetta_dagster.alerts.due import Due
from rosetta_dagster.alerts.receivers import Receiver
from rosetta_dagster.cdc.errors import AlertFailed, RosettaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of a message."""

    receiver: str
    due: Due
    #: None: the receiver has accepted it.
    error: RosettaError | None = None


class Outbox:
    """The messages under way. What a process has not sent when it ends is due again in the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._finished: list[Delivery] = []

    def is_busy(self, receiver: str) -> bool:
        """Return whether earlier messages to the receiver are still under way."""
        thread = self._threads.get(receiver)
        return thread is not None and thread.is_alive()

    def send(self, receiver: Receiver, messages: Sequence[Due]) -> None:
        """Begin to send the messages. The receiver must not be busy."""
        # A daemon: a server that never answers does not keep the process from ending.
        thread = threading.Thread(target=self._send, args=[receiver, messages], name=f"alerts {receiver.name}", daemon=True)
        self._threads[receiver.name] = thread
        thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until every message is sent, at most so long."""
        deadline = time.monotonic() + seconds
        for thread in list(self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))

    def take_finished(self) -> list[Delivery]:
        """Return the deliveries that have ended since the last call."""
        with self._lock:
            finished, self._finished = self._finished, []
        return finished

    def _send(self, receiver: Receiver, messages: Sequence[Due]) -> None:
        for each in messages:
            error = _error_of(receiver, each)
            with self._lock:
                self._finished.append(Delivery(receiver=receiver.name, due=each, error=error))
            if error is not None:
                # The others would fail as well. All of them are due again.
                return


def _error_of(receiver: Receiver, each: Due) -> RosettaError | None:
    try:
        receiver.send(each.message)
    except RosettaError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a receiver must not end the thread without a word
        return AlertFailed(f"The alert could not be sent: {type(error).__name__}.", "Please report it with this message.")
    return None
