"""Reads a stream ahead, so that the next delivery is decoded while the one before it is being applied.

Threads. `ReadAhead` owns one thread from the start until `close` returns. Only that thread calls `next` of the stream below.
A bounded number of deliveries waits in a queue. An error that ends the stream is raised by `next`, after the last delivery.
"""

import queue
import threading
from typing import Final

from rosetta_dagster.cdc.errors import ThreadStuck
from rosetta_dagster.cdc.source.base import Delivery, Stream

#: How many deliveries may wait.
DELIVERY_LIMIT: Final = 4

#: Seconds between two checks for the stream being closed, while the thread waits for a delivery or for room in the queue.
_POLL: Final = 0.2

#: Seconds that the thread may take to end.
CLOSE_TIMEOUT: Final = 20.0


class ReadAhead:
    """The deliveries of another stream, made by a thread of their own. Implements `Stream`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._deliveries: queue.Queue[Delivery] = queue.Queue(DELIVERY_LIMIT)
        self._error: BaseException | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def next(self, timeout: float) -> Delivery | None:
        try:
            return self._deliveries.get(timeout=timeout) if timeout else self._deliveries.get_nowait()
        except queue.Empty:
            if self._error is not None and self._deliveries.empty():
                raise self._error from None
            return None

    def commit(self, delivery: Delivery) -> None:
        self._stream.commit(delivery)

    def close(self) -> None:
        self._closing.set()
        try:
            self._stream.close()
        finally:
            self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            raise ThreadStuck(
                f"Decoding did not end within {CLOSE_TIMEOUT:.0f} seconds: it waits for the source's catalog.",
                "It ends with this process; the run restarts by itself.",
            )

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                delivery = self._stream.next(_POLL)
                if delivery is not None:
                    self._hand_over(delivery)
        except BaseException as error:  # noqa: BLE001 - `next` raises it in the thread that replicates
            self._error = error

    def _hand_over(self, delivery: Delivery) -> None:
        while not self._closing.is_set():
            try:
                self._deliveries.put(delivery, timeout=_POLL)
            except queue.Full:
                continue
            return
