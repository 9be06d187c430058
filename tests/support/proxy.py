"""A network that a test can break: a TCP proxy before a server, which stands still or loses an answer when told to."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo

from tests.support.database import Database


class Proxy:
    """Forwards connections to the server that it was put before, on the loopback.

    A proxy that stands still keeps every connection open and forwards nothing, not even the end of one; new connections
    are accepted by the system and hear nothing. Owns a thread that accepts and two for each connection, until `close`.
    """

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._target_port = 0
        self._forwards = threading.Event()
        self._forwards.set()
        self._last_words: bytes | None = None
        self._bytes_left: int | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._listener = socket.create_server(address)
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def before(self, database: Database) -> Database:
        """The same database, reached through the proxy. All databases of one proxy are of one server."""
        self._target_port = database.connection.port
        return replace(database, url=make_conninfo(database.url, port=self.port))

    def stand_still(self) -> None:
        self._forwards.clear()

    def stand_still_after(self, words: bytes) -> None:
        """Forward what a client says up to these words and nothing after them: the server hears them, its answer is lost."""
        self._last_words = words

    def forward_bytes(self, count: int) -> None:
        """Forward about so many bytes of what the server says, to the middle of its words, and then stand still again."""
        self._bytes_left = count
        self._forwards.set()

    @property
    def stands_still(self) -> bool:
        return not self._forwards.is_set()

    def forward(self) -> None:
        self._last_words = self._bytes_left = None
        self._forwards.set()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        self.stand_still()
        try:
            yield
        finally:
            self.forward()

    def close(self) -> None:
        self._closed = True
        self._forwards.set()
        self._threads[0].join()
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            with suppress(OSError):
                client, _ = self._listener.accept()
                self._forwards.wait()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                for each in (client, server):
                    each.settimeout(None)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                self._start(self._pass, client, server, True)
                self._start(self._pass, server, client, False)

    def _pass(self, origin: socket.socket, target: socket.socket, is_from_client: bool) -> None:
        with suppress(OSError):
            while data := origin.recv(65536):
                self._forwards.wait()
                target.sendall(data)
                if is_from_client and self._last_words is not None and self._last_words in data:
                    self.stand_still()
                if not is_from_client and self._bytes_left is not None:
                    self._bytes_left -= len(data)
                    if self._bytes_left <= 0:
                        self.stand_still()
        self._forwards.wait()
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
