"""Who may choose a host and a port learns nothing of the network from the errors of a connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from rosetta_dagster.cdc.config import pipeline
from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import SourceUnavailable
from rosetta_dagster.cdc.source.connections import connect


class Answering:
    """A server of another kind, which says this to everybody, or nothing at all."""

    def __init__(self, said: bytes | None) -> None:
        self._said = said
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        if said is not None:
            threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    client.recv(4096)
                    client.sendall(self._said or b"")


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[str, int]]]:
    monkeypatch.setattr(pipeline, "CONNECT_TIMEOUT", 2)
    with ExitStack() as servers:
        told = {"ssh": b"SSH-2.0-OpenSSH\r\n", "http": b"HTTP/1.1 400 Bad Request\r\n\r\n", "closes": b"", "silent": None}
        places = {name: ("127.0.0.1", Answering(said)) for name, said in told.items()}
        for _, server in places.values():
            servers.callback(server.close)
        found = {name: (host, server.port) for name, (host, server) in places.items()}
        yield {**found, "closed": ("127.0.0.1", 1), "nowhere": ("nowhere.invalid", 5432), "socket": ("/nowhere", 5432)}


def test_every_place_without_a_postgresql_server_gets_the_same_message(places: dict[str, tuple[str, int]]) -> None:
    told = set()
    for host, port in places.values():
        with pytest.raises(SourceUnavailable) as caught:
            connect(PostgresConnection(host=host, port=port, database="d", username="u"))
        told.add(str(caught.value).replace(f"u@{host}:{port}/d", "…"))
    assert 1 == len(told)
    assert "Source … cannot be reached. Check host, port and network" in told.pop()
