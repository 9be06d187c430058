"""A pooler that a test puts before a server. It answers as PgBouncer does, in session or transaction mode, for one database.

Each client gets a cancel key that the pooler invents. In transaction mode a session of the server serves a client until its
transaction ends, and then the next one. Clients are not asked who they are.
"""

import os
import select
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg.conninfo import make_conninfo

from tests.support.database import Database

_SSL_REQUEST: Final = 80877103
_CANCEL_REQUEST: Final = 80877102
_TERMINATE: Final = b"X\x00\x00\x00\x04"

#: What PgBouncer takes in a startup packet.
_KNOWN: Final = frozenset({"user", "database", "client_encoding", "datestyle", "timezone", "application_name"})

#: What it tells each client of the server.
_STATUS: Final = {"server_version": "18.1", "server_encoding": "UTF8", "client_encoding": "UTF8", "DateStyle": "ISO, MDY"}


class Pooler:
    """Listens on the loopback until `close`. Owns a thread that accepts and one for each client."""

    def __init__(self, target: Database, *, mode: str, ignored: frozenset[str] = frozenset()) -> None:
        self._target = target
        self._is_shared = mode == "transaction"
        self._known = _KNOWN | ignored
        self._idle: list[psycopg.Connection] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="pooler", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def database(self) -> Database:
        """The same database, reached through the pooler."""
        return replace(self._target, url=make_conninfo(self._target.url, port=self.port))

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            for connection in self._idle:
                connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], name="pooler", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self._welcome(client):
                self._relay(client)

    def _welcome(self, client: socket.socket) -> bool:
        """Read the startup packet; refuse a parameter that is not known."""
        while True:
            (length,) = struct.unpack("!I", _exactly(client, 4))
            (code,) = struct.unpack("!I", _exactly(client, 4))
            rest = _exactly(client, length - 8)
            if code == _CANCEL_REQUEST:
                return False
            if code != _SSL_REQUEST:
                break
            client.sendall(b"N")
        for name in rest.rstrip(b"\0").split(b"\0")[::2]:
            if name.decode() not in self._known:
                text = f"unsupported startup parameter: {name.decode()}"
                client.sendall(_message(b"E", f"SFATAL\0VFATAL\0C08P01\0M{text}\0\0".encode()))
                return False
        told = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in _STATUS.items())
        key = _message(b"K", os.urandom(8))
        client.sendall(_message(b"R", bytes(4)) + told + key + _message(b"Z", b"I"))
        return True

    def _relay(self, client: socket.socket) -> None:
        """Forward what the client says, and what a session of the server answers, until the client is gone."""
        session: psycopg.Connection | None = None
        try:
            while (said := client.recv(65536)) and not said.startswith(_TERMINATE):
                session = session or self._take()
                status = _answered(session, said, client)
                if self._is_shared and status == b"I":
                    self._leave(session)
                    session = None
        finally:
            if session is not None:
                self._reset(session)

    def _take(self) -> psycopg.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return psycopg.connect(self._target.url, autocommit=True)

    def _leave(self, session: psycopg.Connection) -> None:
        with self._lock:
            self._idle.append(session)

    def _reset(self, session: psycopg.Connection) -> None:
        """As `server_reset_query` does when a client has left."""
        with suppress(psycopg.Error):
            session.execute("ROLLBACK")
            session.execute("DISCARD ALL")
            self._leave(session)


def _answered(session: psycopg.Connection, said: bytes, client: socket.socket) -> bytes:
    """Forward both ways until the server is ready for the next query; return the state of its transaction then."""
    with socket.socket(fileno=os.dup(session.pgconn.socket)) as server:
        server.setblocking(True)
        server.sendall(said)
        while True:
            readable, _, _ = select.select([server, client], [], [])
            if client in readable:
                if not (said := client.recv(65536)):
                    raise ConnectionResetError
                server.sendall(said)
            if server in readable:
                kind = _exactly(server, 1)
                (length,) = struct.unpack("!I", _exactly(server, 4))
                body = _exactly(server, length - 4)
                client.sendall(_message(kind, body))
                if kind == b"Z":
                    return body


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _exactly(origin: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (more := origin.recv(count - len(data))):
            raise ConnectionResetError
        data += more
    return data
